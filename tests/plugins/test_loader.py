"""Plugins are found by entry points, listed lazily, and named when they are wrong."""

import importlib.metadata
from types import ModuleType, SimpleNamespace

import pytest

from peerwatt.errors import PeerWattError
from peerwatt.plugins import AlgorithmSpec, hookimpl, loader


def algorithm(name):
    return AlgorithmSpec(name=name, factory="nowhere:Trader", policy="nowhere:Policy", summary="x")


def plugin(**hooks):
    module = ModuleType("plugin")
    for name, result in hooks.items():

        def hook(result=result):
            return result

        hook.__name__ = name
        setattr(module, name, hookimpl(hook))
    return module


def entry(distribution, module):
    def load():
        if isinstance(module, Exception):
            raise module
        return module

    dist = SimpleNamespace(name=distribution, version="1.2")
    return SimpleNamespace(name="hooks", dist=dist, load=load)


@pytest.fixture
def install(monkeypatch):
    def put(*entries):
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: list(entries))
        loader.registry.cache_clear()
        return loader.registry

    yield put
    monkeypatch.undo()
    loader.registry.cache_clear()


def test_a_stranger_is_listed_without_importing_what_it_brings(install):
    registry = install(entry("acme", plugin(peerwatt_algorithms=[algorithm("acme-trader")])))
    found = registry()["algorithm"]["acme-trader"]
    assert (found.distribution, found.version) == ("acme", "1.2")
    with pytest.raises(PeerWattError, match="needs the module 'nowhere'"):
        found.spec.load()


def test_the_same_name_twice_names_both_owners(install):
    registry = install(
        entry("acme", plugin(peerwatt_algorithms=[algorithm("trader")])),
        entry("zeta", plugin(peerwatt_algorithms=[algorithm("trader")])),
    )
    with pytest.raises(PeerWattError, match="acme and zeta both register 'trader'"):
        registry()


@pytest.mark.parametrize(
    "module",
    [
        ImportError("no module named heavy"),
        plugin(peerwatt_algorithm=[]),
        plugin(peerwatt_tasks=[3]),
    ],
    ids=["import error", "misspelt hook", "no spec"],
)
def test_a_broken_plugin_is_named(install, module):
    with pytest.raises(PeerWattError, match="acme"):
        install(entry("acme", module))()


def test_unknown_names_offer_the_nearest():
    with pytest.raises(PeerWattError, match="unknown critic 'rul': did you mean 'rule'"):
        loader.find("critic", "rul")
    with pytest.raises(PeerWattError, match="unknown task 'x'"):
        loader.load_task("x")


def test_in_tree_plugins_load():
    for kind in ("algorithm", "critic"):
        for found in loader.registry()[kind].values():
            assert callable(found.spec.load())
