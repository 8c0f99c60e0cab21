"""Evaluation: protocol, metrics, anchors of the welfare scale and statistics."""

from peerwatt.evaluation.metrics import METRICS
from peerwatt.evaluation.policy import Policy
from peerwatt.evaluation.protocol import Evaluation, Evaluator

__all__ = ["METRICS", "Evaluation", "Evaluator", "Policy"]
