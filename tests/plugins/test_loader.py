"""What the loader offers to the rest of PeerWatt; `test_isolation.py` has what goes wrong."""

import dataclasses
import sys
from types import ModuleType

import pytest
from distributions import HOOK

from peerwatt.errors import PeerWattError
from peerwatt.plugins import AlgorithmSpec, loader


@pytest.fixture
def with_file(tmp_path, monkeypatch):
    """Load a plugin from a file, in this process."""

    def load(name, source):
        file = tmp_path / f"{name}.py"
        file.write_text(source)
        monkeypatch.setenv(loader.FILES, str(file))
        loader.registry.cache_clear()
        return loader.registry()

    before = set(sys.modules)
    yield load
    monkeypatch.undo()
    loader.registry.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("loaded_"):
            del sys.modules[name]


def test_a_spec_is_had_by_its_name_and_by_its_full_name(with_file):
    registry = with_file("loaded_one", HOOK.format(specs="spec('mine', version='7')"))
    found = registry["algorithm"]["mine"]
    assert (found.distribution, found.version) == ("file:loaded_one.py", "7")
    assert loader.find("algorithm", "file:loaded_one.py:mine") is found
    with pytest.raises(PeerWattError, match="names a module that is not there"):
        found.spec.load()


def test_a_plugin_of_its_own_version_has_that_of_its_distribution(with_file):
    registry = with_file("loaded_two", HOOK.format(specs="spec('mine')"))
    found = registry["algorithm"]["mine"]
    assert found.version == registry.plugins[-1].version
    assert len(found.version) == 12  # of the file's hash


def test_unknown_names_offer_the_nearest():
    with pytest.raises(PeerWattError, match="unknown critic 'rul': did you mean 'rule'"):
        loader.find("critic", "rul")
    with pytest.raises(PeerWattError, match="unknown task 'x'"):
        loader.load_task("x")


def test_in_tree_plugins_load():
    for kind in ("algorithm", "critic", "mechanism", "sink", "task"):
        for full, found in loader.registry().qualified[kind].items():
            assert callable(found.spec.load()), full
            assert found.spec.problem() is None


def test_options_are_checked_by_name_and_type():
    csv = loader.find("sink", "csv")
    with pytest.raises(PeerWattError, match="option of sink 'csv' 'foldr': did you mean 'folder'"):
        loader.build("sink", csv, {"foldr": "x"})
    with pytest.raises(PeerWattError, match="option folder of sink 'csv'"):
        loader.build("sink", csv, {"folder": 3})


@dataclasses.dataclass(frozen=True)
class Needs:
    must: int


def test_what_is_no_dataclass_or_lacks_a_default_is_refused(monkeypatch):
    module = ModuleType("loaded_three")
    module.Needs, module.plain = Needs, print
    monkeypatch.setitem(sys.modules, "loaded_three", module)

    def build(attribute):
        spec = AlgorithmSpec(
            name="x", factory=f"loaded_three:{attribute}", policy="a:b", summary="x"
        )
        return loader.build("algorithm", loader.Registered(spec, "acme", "1"), {})

    with pytest.raises(PeerWattError, match="must be a dataclass"):
        build("plain")
    with pytest.raises(PeerWattError, match="option must of algorithm 'x'"):
        build("Needs")
    with pytest.raises(PeerWattError, match="'loaded_three:absent' does not exist"):
        build("absent")
