"""The critic that rolls dice: reliable in nothing, and a floor for everything that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError
from peerwatt.fairness.critic import FairnessScores, SlotBatch
from peerwatt.fairness.session import CriticSession
from peerwatt_critics.members import OpenPlain, undefined


@dataclass(frozen=True)
class RandomCritic:
    """Draws every score from a uniform distribution; no score depends on its slot."""

    levels: int = 0
    """Draw from so many equally spaced scores from 0 to 1, as of a coarse scale; 0: from all."""

    def __post_init__(self) -> None:
        """Refuse a scale that is none."""
        if self.levels < 0 or self.levels == 1:
            raise PeerWattError(f"random: levels {self.levels!r} must be 0, or 2 or more.")

    def open(self, session: CriticSession) -> OpenRandom:
        """Return the critic at work; it draws from the generator of `session`."""
        return OpenRandom(self.levels, session.generator)


class OpenRandom(OpenPlain):
    """The dice."""

    def __init__(self, levels: int, generator: np.random.Generator) -> None:
        super().__init__(self._draw)
        self._levels = levels
        self._generator = generator

    def _draw(self, slots: SlotBatch) -> FairnessScores:
        shape = (4, len(slots.feed_in))
        if self._levels:
            draws = self._generator.integers(0, self._levels, shape) / (self._levels - 1)
        else:
            draws = self._generator.random(shape)
        return FairnessScores(*(draws + undefined(slots)))

    def state(self) -> dict[str, Any]:
        """Return the counts and the generator's state."""
        return {**super().state(), "generator": self._generator.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        super().restore(state)
        self._generator.bit_generator.state = state["generator"]
