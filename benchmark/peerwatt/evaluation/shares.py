"""Shares of runs with intervals: how many exceed a threshold, and how many beat another entry's.

A share near 0 or 1 is where the bootstrap fails: ten runs that are all above a threshold are all
above it in every resample, so that its interval has no width. These are score intervals, which ask
for which true shares the one observed would not be surprising. Several tasks are taken together as
if all were one with as many runs: that is exact for tasks that are alike and a little too wide for
others, because p (1 - p) is concave.

Sources: E. B. Wilson, Journal of the American Statistical Association 22 (1927) 209; R. G.
Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic,
part 2", Statistics in Medicine 25 (2006) 559, method 5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from peerwatt.evaluation.resampling import (
    MIN_RUNS,
    UNDEFINED,
    Floats,
    Interval,
    same_tasks,
    task_rows,
)


class Profile(NamedTuple):
    """Share of runs above each of K thresholds, all [K]; NaN bounds: no band."""

    thresholds: Floats
    share: Floats
    low: Floats
    high: Floats


def performance_profile(
    scores: ArrayLike, thresholds: ArrayLike, *, confidence: float = 0.95
) -> Profile:
    """Return the share of `scores` [R] or [R, T] above each threshold, with its pointwise band.

    Each threshold is covered with `confidence` on its own; all at once are not. The band is
    Wilson's, and has no width where the runs of each task are all equal (a deterministic trader).

    Args:
        scores: one per run, or per run and task.
        thresholds: [K], on the same scale as the scores.
        confidence: chance to cover the truth at one threshold.
    """
    rows = task_rows(scores)
    levels = np.asarray(thresholds, dtype=np.float64)
    nothing = np.full(levels.shape, np.nan)
    if not np.isfinite(rows).all():
        return Profile(levels, nothing, nothing, nothing)
    share = (rows.ravel() > levels[:, None]).mean(axis=1)
    if rows.shape[1] < MIN_RUNS:
        return Profile(levels, share, nothing, nothing)
    if np.ptp(rows, axis=1).max() == 0:
        return Profile(levels, share, share, share)
    bounds = [
        stats.binomtest(round(p * rows.size), rows.size).proportion_ci(confidence, "wilson")
        for p in share
    ]
    low, high = np.array(bounds, dtype=np.float64).reshape(-1, 2).T
    return Profile(levels, share, low, high)


def probability_of_improvement(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Return the probability that a run of `a` beats one of `b`, with its interval.

    It is the Mann-Whitney U over the number of pairs, so that a tie counts half; with tasks, the
    mean of theirs. The interval is Newcombe's, and has no width where the runs of each task are all
    equal in both entries.
    """
    first, second = same_tasks(a, b)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return UNDEFINED
    wins = np.sign(first[:, :, None] - second[:, None, :])
    estimate = float(0.5 + 0.5 * wins.mean())
    if min(first.shape[1], second.shape[1]) < MIN_RUNS:
        return Interval(estimate, np.nan, np.nan)
    if max(np.ptp(first, axis=1).max(), np.ptp(second, axis=1).max()) == 0:
        return Interval(estimate, estimate, estimate)
    z = float(stats.norm.isf((1 - confidence) / 2))
    low = _lower(estimate, first.size, second.size, z)
    return Interval(estimate, low, 1 - _lower(1 - estimate, first.size, second.size, z))


def _lower(share: float, m: int, n: int, z: float) -> float:
    """Return the least true probability of which `share` is at most `z` deviations away."""
    if share == 0:
        return 0.0

    def surplus(p: float) -> float:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - p) / (2 - p) + p / (1 + p))
        return z**2 * p * (1 - p) * spread / (m * n) - (share - p) ** 2

    root: float = optimize.brentq(surplus, 0.0, min(share, 1 - 1e-9))
    return root
