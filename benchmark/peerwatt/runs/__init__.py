"""Runs: configuration, training, records, store, and many of them at once."""

from peerwatt.runs.result import RunResult
from peerwatt.runs.training import TrainingRun

__all__ = ["RunResult", "TrainingRun"]
