"""Plugins that are examined here come from files beside the tests."""

from pathlib import Path

import pytest

from peerwatt.plugins.loader import FILES, registry
from peerwatt.testing.frame import run_check, subject, suite

HERE = Path(__file__).parent


@pytest.fixture
def plugin_file(monkeypatch):
    """Return a function that registers what a file in this folder provides."""

    def use(name):
        monkeypatch.setenv(FILES, str(HERE / name))
        registry.cache_clear()

    yield use
    monkeypatch.undo()
    registry.cache_clear()


@pytest.fixture
def problems(plugin_file):
    """Return a function from kind and name to {law: sentence} of the laws that are broken."""

    def find(kind, name, without=()):
        plugin_file(f"broken_{kind}s.py")
        examined = subject(kind, name, budget=2000)
        checks = [check for check in suite(kind) if check.name not in without]
        findings = [run_check(check, examined) for check in checks]
        return {f.check.name: f.problem for f in findings if f.problem is not None}

    return find
