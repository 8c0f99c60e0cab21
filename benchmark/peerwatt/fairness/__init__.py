"""Fairness: what a critic sees and returns, closed-form scores, outcome indices and shaping."""

from peerwatt.fairness.critic import Critic, FairnessScores, SlotBatch
from peerwatt.fairness.indices import gini, group_gap, jain, qoe, share_of_losers, worst_off
from peerwatt.fairness.scores import feasible, score_slots
from peerwatt.fairness.shaping import Shaping

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
