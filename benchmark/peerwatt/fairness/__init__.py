"""Fairness: what a critic sees and returns, closed-form scores, outcome indices and shaping.

The closed forms load numba on first use: a critic's module can name the types below without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peerwatt.fairness.critic import Critic, FairnessScores, SlotBatch
from peerwatt.fairness.indices import gini, group_gap, jain, qoe, share_of_losers, worst_off
from peerwatt.fairness.shaping import Shaping

if TYPE_CHECKING:
    from peerwatt.fairness.scores import feasible, score_slots

__all__ = [
    "Critic",
    "FairnessScores",
    "Shaping",
    "SlotBatch",
    "feasible",
    "gini",
    "group_gap",
    "jain",
    "qoe",
    "score_slots",
    "share_of_losers",
    "worst_off",
]


def __getattr__(name: str) -> Any:
    if name not in ("feasible", "score_slots"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from peerwatt.fairness import scores

    return getattr(scores, name)
