"""What a critic gave in training, summed up for the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.fairness import FairnessScores

SCORES = ("ftg", "fbs", "fpp", "ftb")
KEPT = 32
"""Slots that are kept before they are summed: one sum of many is far cheaper than many of one."""


class Given:
    """Scores and bonuses of one market since the last report.

    They are summed in the same groups of slots whether the run was interrupted or not, so that
    the sums are the same to the last bit.
    """

    def __init__(self, num_envs: int, num_agents: int) -> None:
        self._scores = np.empty((KEPT, len(SCORES) * num_envs))
        self._bonus = np.empty((KEPT, num_envs, num_agents), np.float32)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._kept = 0
        self.slots = 0
        """Slots in which the critic was asked, times households."""
        self.sums = np.zeros(len(SCORES))
        self.counts = np.zeros(len(SCORES), np.int64)
        """Defined values of each score, and their sums, [4]."""
        self.bonus = 0.0
        """Sum over slots and households."""

    def defined(self, scores: FairnessScores) -> bool:
        """Return whether any of four `scores` [M] of a slot is; if so, `add` has to follow."""
        row = self._scores[self._kept]
        np.concatenate(scores, out=row)
        if row[0] == row[0] or not np.isnan(row).all():  # the first tells most often
            return True
        self.slots += self._bonus[0].size
        return False

    def add(self, bonus: NDArray[np.float32]) -> None:
        """Take down the bonus [M, N] that the scores of the slot led to."""
        self._bonus[self._kept] = bonus
        self._kept += 1
        if self._kept == KEPT:
            self.sum_up()

    def sum_up(self) -> None:
        """Bring the sums up to date."""
        if not self._kept:
            return
        scores = self._scores[: self._kept].reshape(self._kept, len(SCORES), -1)
        undefined = np.isnan(scores)
        self.counts += (~undefined).sum(axis=(0, 2))
        self.sums += np.where(undefined, 0.0, scores).sum(axis=(0, 2))
        bonus = self._bonus[: self._kept]
        self.bonus += float(bonus.sum())
        self.slots += bonus.size
        self._kept = 0

    def snapshot(self) -> dict[str, Any]:
        """Return copies of all there is, for `restore`."""
        return {
            "scores": self._scores[: self._kept].copy(),
            "bonuses": self._bonus[: self._kept].copy(),
            "slots": self.slots,
            "sums": self.sums.copy(),
            "counts": self.counts.copy(),
            "bonus": self.bonus,
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from where `snapshot` was taken."""
        self._kept = len(snapshot["scores"])
        self._scores[: self._kept] = snapshot["scores"]
        self._bonus[: self._kept] = snapshot["bonuses"]
        self.slots, self.bonus = snapshot["slots"], snapshot["bonus"]
        self.sums, self.counts = snapshot["sums"].copy(), snapshot["counts"].copy()


def means(markets: Sequence[Given]) -> dict[str, float | None]:
    """Return the means over `markets`, and forget what they are of.

    Nothing where no score was defined; the bonus is that of a household in a slot.
    """
    for given in markets:
        given.sum_up()
    found: dict[str, float | None] = {}
    told = [given for given in markets if given.counts.any()]
    if told:
        sums = np.sum([given.sums for given in told], axis=0)
        counts = np.sum([given.counts for given in told], axis=0)
        for name, total, count in zip(SCORES, sums, counts, strict=True):
            found[f"critic_{name}"] = float(total / count) if count else None
        bonus = sum(given.bonus for given in told) / sum(given.slots for given in told)
        found["critic_bonus"] = bonus if np.isfinite(bonus) else None
    for given in markets:
        given.forget()
    return found
