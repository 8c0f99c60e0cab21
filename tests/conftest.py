"""Settings of all tests."""

import os

import pytest
from hypothesis import settings

from peerwatt.plugins import loader

# No test is timed: the first example of a test may have to wait for a compiler.
settings.register_profile("peerwatt", deadline=None)
settings.load_profile("peerwatt")


@pytest.fixture(autouse=True)
def plugins_of_this_test_only(monkeypatch):
    """Take back what the flags of a command line say about plugins when the test is over."""
    flags = (loader.FILES, loader.ONLY, loader.STRICT)
    for variable in flags:
        # Set first, so that monkeypatch takes back what a flag writes.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    yield
    if any(variable in os.environ for variable in flags):
        monkeypatch.undo()
        loader.registry.cache_clear()
