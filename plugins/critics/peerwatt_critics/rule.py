"""The critic that follows the closed forms: fast, deterministic, the same for everyone."""

from __future__ import annotations

from dataclasses import dataclass

from peerwatt.fairness.critic import FairnessScores, SlotBatch
from peerwatt.fairness.scores import score_slots


@dataclass(frozen=True)
class RuleCritic:
    """Scores slots by the same closed forms that evaluation reports (`peerwatt.fairness.scores`).

    It has no options: which scores count, and how much, is the shaping's business.
    """

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the closed-form scores of M slots."""
        return score_slots(slots)
