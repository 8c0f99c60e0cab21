"""Statistics over seeds: aggregates with intervals, comparisons, and ranks with ties.

`scores` hold one value per run, [R], or one per run and task, [R, T]. With tasks the bootstrap is
stratified: runs are resampled within each task, and the statistic pools all of them. Every draw
comes from the generator that the caller gives, and the global state of numpy is never used. A
statistic of an entry takes the scores of that entry alone, on a scale with fixed anchors (welfare:
grid-only is 0, the optimum is 1), so that no rival can move it.

How often each interval covers the truth was measured (`perf/statistics.py`, docs/statistics.md).
With fewer than `MIN_RUNS` runs none covers enough, so that there is no interval, whether the runs
differ or not: the estimate stays and the bounds are NaN. From there on, runs that are all equal (a
deterministic trader) have an interval without width. A score that is not finite makes the whole
result NaN, because leaving it out would hide a failed run.

Source: R. Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice",
NeurIPS 2021, arXiv 2108.13264; `resampling` and `shares` name those of the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from peerwatt.evaluation.resampling import (
    MIN_RUNS,
    RESAMPLES,
    Floats,
    Interval,
    bootstrap,
    same_tasks,
    task_rows,
)
from peerwatt.evaluation.shares import Profile, performance_profile, probability_of_improvement

__all__ = [
    "MIN_RUNS",
    "RESAMPLES",
    "Interval",
    "Profile",
    "bootstrap_difference",
    "bootstrap_iqm",
    "holm",
    "iqm",
    "optimality_gap",
    "paired_difference",
    "performance_profile",
    "probability_of_improvement",
    "ranks",
]


def iqm(scores: ArrayLike) -> float:
    """Return the interquartile mean of all scores: a quarter is cut off at either end.

    The cut is rounded down to whole scores, so it is the plain mean of fewer than four.
    """
    values = np.asarray(scores, dtype=np.float64)
    return float(stats.trim_mean(values, 0.25, axis=None)) if np.isfinite(values).all() else np.nan


def bootstrap_iqm(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the interquartile mean of `scores` [R] or [R, T] with its bootstrap interval."""
    return bootstrap(
        _iqm, [task_rows(scores)], generator, confidence=confidence, resamples=resamples
    )


def optimality_gap(
    scores: ArrayLike,
    generator: np.random.Generator,
    *,
    target: float = 1.0,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return by how much `scores` [R] or [R, T] miss `target` on average, with its interval.

    A score above the target counts as the target, so that no surplus makes up for a failure.
    """

    def gap(runs: Floats) -> Floats:
        missing: Floats = np.maximum(target - runs, 0.0).mean(axis=(-1, -2))
        return missing

    return bootstrap(
        gap, [task_rows(scores)], generator, confidence=confidence, resamples=resamples
    )


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the interquartile mean of `a` less that of `b`, with its bootstrap interval.

    Runs are resampled independently in `a` and `b`: seed 3 of one entry has nothing in common with
    seed 3 of another but its number. Where rows do belong together there is `paired_difference`.
    """

    def difference(a: Floats, b: Floats) -> Floats:
        return _iqm(a) - _iqm(b)

    return bootstrap(
        difference, same_tasks(a, b), generator, confidence=confidence, resamples=resamples
    )


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean of `a` less `b` over rows that belong together, with its interval.

    Row k of both must have met the same: the same scenario, for how two policies would compare on
    other scenarios, or the same seed of two versions of one algorithm. What both met alike cancels,
    and the interval is the narrower, the more of the variation that was. Rows are resampled, within
    each task, never apart.

    Raises:
        ValueError: `a` and `b` are not of the same shape [R] or [R, T].
    """
    first, second = task_rows(a), task_rows(b)
    if first.shape != second.shape:
        raise ValueError(
            f"paired scores must have the same shape, not {np.shape(a)} and {np.shape(b)}"
        )

    def mean(runs: Floats) -> Floats:
        value: Floats = runs.mean(axis=(-1, -2))
        return value

    with np.errstate(invalid="ignore"):  # inf - inf: NaN, as it should be
        pairs = first - second
    return bootstrap(mean, [pairs], generator, confidence=confidence, resamples=resamples)


def ranks(
    entries: Mapping[str, ArrayLike],
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> dict[str, int | None]:
    """Return the rank of each entry by its scores, of which more is better.

    A rank is 1 + the number of entries that are significantly better, by which the whole interval
    of the difference lies above 0. "Significantly better" is not transitive: two entries of
    different rank need not differ significantly. An entry with fewer than `MIN_RUNS` runs, or with
    a score that is not finite, has none and is not counted.

    Each pair is compared at the level `confidence` on its own, without any correction for multiple
    comparisons: the more entries, the likelier is some difference by chance alone.

    One number is drawn from `generator` and seeds every comparison alike, so how two entries
    compare depends neither on who else is there nor on the order of the mapping.
    """
    root = int(generator.integers(2**63))
    names = sorted(entries)
    runs = {name: task_rows(entries[name]) for name in names}
    rankable = [
        name for name in names if runs[name].shape[1] >= MIN_RUNS and np.isfinite(runs[name]).all()
    ]
    result: dict[str, int | None] = {name: 1 if name in rankable else None for name in entries}
    for i, one in enumerate(rankable):
        for other in rankable[i + 1 :]:
            _, low, high = bootstrap_difference(
                runs[one].T,
                runs[other].T,
                np.random.default_rng(root),
                confidence=confidence,
                resamples=resamples,
            )
            if low > 0 or high < 0:
                worse = other if low > 0 else one
                result[worse] = (result[worse] or 0) + 1
    return result


def holm(p_values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the p-values [K] adjusted by Holm's step-down procedure, in the order given.

    Rejecting what is at most alpha keeps the chance of any false rejection at or below alpha,
    however the tests depend on one another. A weight is the share of alpha that a test gets at
    first; the share of what was rejected goes to the rest, in proportion. Without weights all are
    alike, which is Holm's own procedure.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65; weighted: Y. Benjamini and
    Y. Hochberg, ibid. 24 (1997) 407.

    Args:
        p_values: [K] in [0, 1].
        weights: [K] above 0, of any sum.

    Raises:
        ValueError: a p-value or a weight that is none.
    """
    p = np.asarray(p_values, dtype=np.float64)
    w = np.ones(p.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"p-values must be a list of numbers in [0, 1], not {p.tolist()}")
    if w.shape != p.shape or not np.all((w > 0) & np.isfinite(w)):
        raise ValueError(f"weights must be {p.size} positive numbers, not {w.tolist()}")
    order = np.argsort(p / w, kind="stable")
    left = np.cumsum(w[order][::-1])[::-1]  # weight of what is not yet rejected
    adjusted = np.empty(p.shape)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] / w[order] * left), 1.0)
    return adjusted


def _iqm(runs: Floats) -> Floats:
    """Interquartile mean over tasks and runs, [..., T, R] -> [...]."""
    pooled = runs.reshape(*runs.shape[:-2], -1)
    mean: Floats = stats.trim_mean(pooled, 0.25, axis=-1)
    return mean
