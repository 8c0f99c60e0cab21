"""The state of a numpy generator, whole: what it draws next, and how often it has spawned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError


def state(generator: np.random.Generator) -> dict[str, Any]:
    """Return all that later draws and spawned generators depend on."""
    sequence = generator.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    return {"draws": generator.bit_generator.state, "spawned": sequence.n_children_spawned}


def restore(generator: np.random.Generator, kept: Mapping[str, Any]) -> None:
    """Put `generator`, seeded as the one whose `state` was kept, where that was.

    Raises:
        PeerWattError: it has spawned more generators than that had.
    """
    sequence = generator.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    missing = kept["spawned"] - sequence.n_children_spawned
    if missing < 0:
        raise PeerWattError(
            f"the generator has spawned {sequence.n_children_spawned} others, but only "
            f"{kept['spawned']} when the checkpoint was saved: draw as it was drawn then."
        )
    sequence.spawn(missing)
    generator.bit_generator.state = kept["draws"]
