"""The frame of the suites: laws of every kind, sentences, order, and what it costs to import."""

import subprocess
import sys

import pytest

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import PLUGIN_KINDS, registry
from peerwatt.testing import Check, NotApplicable, Violation, examine, suite
from peerwatt.testing.frame import run_check, subject

PLUGIN = """
{imports}
from dataclasses import dataclass
from peerwatt.plugins import CriticSpec, hookimpl

@hookimpl
def peerwatt_critics():
    return [CriticSpec(name="heavy", factory="heavy_critic:Heavy", summary="Heavy.")]

@dataclass(frozen=True)
class Heavy:
    def score(self, slots):
        raise ValueError("not\\n today")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs the critic `heavy` of a distribution of one module."""

    def put(imports=""):
        (tmp_path / "heavy_critic.py").write_text(PLUGIN.format(imports=imports))
        info = tmp_path / "heavy_critic-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: heavy-critic\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[peerwatt]\nhooks = heavy_critic\n")
        monkeypatch.syspath_prepend(tmp_path)
        registry.cache_clear()

    yield put
    sys.modules.pop("heavy_critic", None)
    registry.cache_clear()


def findings(kind, name, *names):
    return {f.check.name: f for f in examine(kind, name) if not names or f.check.name in names}


@pytest.mark.parametrize("imports", ["import numba", "from peerwatt.env import VectorMarket"])
def test_heavy_listing_is_caught(install, imports):
    install(imports)
    assert "imports numba" in findings("critic", "heavy")["listing"].problem


def test_light_listing_passes_and_any_other_error_is_told_with_its_line(install):
    install()
    found = findings("critic", "heavy")
    assert found["listing"].passed and found["options"].passed
    assert found["scores"].problem == (
        "critic 'heavy' (slots of 2 households without storage): ValueError: not today at "
        "heavy_critic.py:13, in score."
    )
    assert found["range"].skipped == "cannot be told while 'scores' fails"


def test_every_outcome_of_a_check():
    def broken(examined):
        examined.require(False, "mend it.")

    def elsewhere(examined):
        raise NotApplicable("it is a rule")

    def refused(examined):
        raise PeerWattError("no such file.")

    examined = subject("critic", "rule")
    assert run_check(Check("a", "A.", broken), examined).problem == "critic 'rule': mend it."
    assert run_check(Check("b", "B.", elsewhere), examined).skipped == "it is a rule"
    assert run_check(Check("c", "C.", refused), examined).problem == "critic 'rule': no such file."
    assert run_check(Check("d", "D.", lambda _: None), examined).passed
    assert run_check(Check("e", "E.", lambda _: None, needs=("a",)), examined).skipped
    assert examined.failed == {"a", "c"}
    assert issubclass(Violation, AssertionError)


def test_unknown_kinds_and_names_are_told():
    with pytest.raises(
        PeerWattError, match="no suite for 'command': expected one of task, algorithm"
    ):
        suite("command")
    with pytest.raises(PeerWattError, match="no suite for 'command'"):
        subject("command", "x")
    with pytest.raises(PeerWattError, match="unknown critic 'rul': did you mean 'rule'"):
        next(examine("critic", "rul"))


def test_options_reach_the_plugin():
    found = list(examine("algorithm", "zi-c", options={"nvec": "x"}))
    assert "option nvec of algorithm 'zi-c'" in next(f.problem for f in found if f.problem)


@pytest.mark.parametrize("kind", PLUGIN_KINDS)
def test_laws_are_named_once_and_need_earlier_ones(kind):
    before = set()
    for check in suite(kind):
        assert check.name not in before
        assert {"options"} | before >= set(check.needs)
        assert check.law.endswith((".", ".)"))
        before.add(check.name)


def test_importing_the_suites_costs_nothing():
    script = "import sys, peerwatt.testing.pytest_plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "peerwatt.testing.pytest_plugin" in loaded, done.stderr
    assert not loaded & {"numpy", "numba", "pydantic", "tyro", "hypothesis", "torch", "rich"}
    assert not loaded & {"peerwatt.testing.frame", "peerwatt.plugins", "peerwatt.plugins.loader"}


def test_what_the_package_names_is_there():
    import peerwatt.testing

    assert {name for name in peerwatt.testing.__all__ if getattr(peerwatt.testing, name)}
    with pytest.raises(AttributeError, match="no attribute 'exam'"):
        peerwatt.testing.exam  # noqa: B018
