"""The generators that belong to the whole process, from which no plugin may draw."""

from __future__ import annotations

import contextlib
import pickle
import random
import sys
from collections.abc import Iterator

from numpy import random as numpy_random


def state() -> dict[str, bytes]:
    """Return the states of the process-wide generators of Python, NumPy and, if loaded, torch."""
    states = {
        "random": pickle.dumps(random.getstate()),
        "numpy.random": pickle.dumps(numpy_random.get_state()),
    }
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().numpy().tobytes()
    return states


def touched(before: dict[str, bytes]) -> list[str]:
    """Return the names of the generators that are otherwise than `before`."""
    now = state()
    return [name for name, held in before.items() if now[name] != held]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the process-wide generators; put them back at the end."""
    before = random.getstate(), numpy_random.get_state()
    torch = sys.modules.get("torch")
    torch_before = torch.get_rng_state() if torch is not None else None
    random.seed(seed)
    numpy_random.seed(seed)
    if torch is not None:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        numpy_random.set_state(before[1])
        if torch is not None:
            torch.set_rng_state(torch_before)
