"""Critics that are examined here may come from a file beside the tests."""

from pathlib import Path

import numpy as np
import pytest

from peerwatt.fairness.session import CriticSession
from peerwatt.plugins.loader import FILES, registry


@pytest.fixture
def teachers(monkeypatch):
    """Register the critics of teachers.py."""
    monkeypatch.setenv(FILES, str(Path(__file__).parent / "teachers.py"))
    registry.cache_clear()
    yield
    monkeypatch.undo()
    registry.cache_clear()


@pytest.fixture
def session():
    """Return a function that makes the session of a run."""

    def make(seed=0, **changes):
        return CriticSession(np.random.default_rng(seed), **({"seed": seed} | changes))

    return make
