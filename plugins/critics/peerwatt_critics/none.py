"""The critic that says nothing: the control group of every fairness experiment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from peerwatt.fairness.critic import FairnessScores, SlotBatch


@dataclass(frozen=True)
class NoCritic:
    """Abstains from every score, so that shaping adds nothing to the economic reward."""

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return NaN for all four scores of all M slots."""
        return FairnessScores(*np.full((4, len(slots.volume)), np.nan))
