"""The critic that rolls dice: reliable in nothing, and a floor for everything that is measured."""

from __future__ import annotations

from dataclasses import dataclass

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

    def open(self, session: CriticSession) -> OpenPlain:
        """Return the critic at work; it draws from the generator of `session`."""
        generator = session.generator

        def score(slots: SlotBatch) -> FairnessScores:
            shape = (4, len(slots.feed_in))
            if self.levels:
                draws = generator.integers(0, self.levels, shape) / (self.levels - 1)
            else:
                draws = generator.random(shape)
            return FairnessScores(*(draws + undefined(slots)))

        return OpenPlain(score)
