"""The critic that says the same of every slot: whatever measures a critic must see through it."""

from __future__ import annotations

from dataclasses import dataclass

from peerwatt.errors import PeerWattError
from peerwatt.fairness.critic import FairnessScores, SlotBatch
from peerwatt_critics.members import undefined


@dataclass(frozen=True)
class ConstantCritic:
    """Gives every score that is defined the same value."""

    value: float = 0.5
    """The score, from 0 to 1."""

    def __post_init__(self) -> None:
        """Refuse what is no score."""
        if not 0 <= self.value <= 1:
            raise PeerWattError(f"constant: value {self.value!r} must be a number from 0 to 1.")

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the value for all four scores of M slots, NaN where a score is undefined."""
        scores = undefined(slots)
        scores += self.value
        return FairnessScores(*scores)
