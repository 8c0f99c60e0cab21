"""The bootstrap under the statistics, and the intervals that it gives.

Scores are turned into rows [T, R], one row of runs for each task; runs are resampled within rows.

Source: the stratified percentile bootstrap of R. Agarwal et al., "Deep reinforcement learning at
the edge of the statistical precipice", NeurIPS 2021, arXiv 2108.13264; resampling is SciPy's. The
level at which its bounds are read off is that of T. Hesterberg, "What teachers should know about
the bootstrap", The American Statistician 69 (2015) 371, section 3.3 ("expanded percentile").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

RESAMPLES = 10_000
"""Bootstrap resamples; the Monte Carlo error of a bound is then 1 to 4 % of the interval."""

MIN_RUNS = 5
"""Runs that an entry needs for an interval and a rank; with fewer, intervals cover too little."""


class Interval(NamedTuple):
    """A point estimate between the bounds of its confidence interval; NaN bounds: no interval."""

    estimate: float
    low: float
    high: float


UNDEFINED = Interval(np.nan, np.nan, np.nan)


def task_rows(scores: ArrayLike) -> Floats:
    """Return `scores` [R] or [R, T] as [T, R]: one row of runs for each task.

    Raises:
        ValueError: they have another shape, or there are none.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"scores must be [runs] or [runs, tasks], not of shape {values.shape}")
    return np.atleast_2d(values.T)


def same_tasks(a: ArrayLike, b: ArrayLike) -> list[Floats]:
    """Return the rows of two entries.

    Raises:
        ValueError: they are not of equally many tasks.
    """
    first, second = task_rows(a), task_rows(b)
    if len(first) != len(second):
        raise ValueError(f"entries of {len(first)} and {len(second)} tasks do not compare")
    return [first, second]


def expanded(confidence: float, rows: Floats) -> float:
    """Return the level at which a percentile interval of `rows` [T, R] covers with `confidence`.

    A resample of R runs varies by the factor (R - 1) / R less than a new sample would, and what it
    varies by is itself an estimate. As much wider as a t interval is than a normal one with the
    variance of the bootstrap; with many runs, `confidence` itself.
    """
    tasks, runs = rows.shape
    t = stats.t.ppf((1 + confidence) / 2, tasks * (runs - 1))
    return float(1 - 2 * stats.norm.sf(t * np.sqrt(runs / (runs - 1))))


def bootstrap(
    statistic: Callable[..., Floats],
    entries: Sequence[Floats],
    generator: np.random.Generator,
    *,
    confidence: float,
    resamples: int,
) -> Interval:
    """Return `statistic(*entries)` with its interval, each entry [T, R], resampled within rows.

    Of one entry the interval is the expanded percentile interval, of two the plain one: measured,
    the latter already covers a difference (docs/statistics.md).

    Args:
        statistic: takes entries [..., T, R] and returns values [...].
        entries: rows of each entry.
        generator: of all draws.
        confidence: chance to cover the truth.
        resamples: how many are drawn.
    """
    if not all(np.isfinite(entry).all() for entry in entries):
        return UNDEFINED
    estimate = float(statistic(*entries))
    if any(entry.shape[1] < MIN_RUNS for entry in entries):
        return Interval(estimate, np.nan, np.nan)
    if all(np.ptp(entry, axis=1).max() == 0 for entry in entries):
        return Interval(estimate, estimate, estimate)

    tasks = len(entries[0])

    def pooled(*samples: Floats, axis: int = -1) -> Floats:
        rows = [np.moveaxis(sample, axis, -1) for sample in samples]
        groups = (rows[k : k + tasks] for k in range(0, len(rows), tasks))
        return statistic(*(np.stack(group, axis=-2) for group in groups))

    found: Any = stats.bootstrap(
        [row for entry in entries for row in entry],
        pooled,
        n_resamples=resamples,
        batch=min(resamples, 1_000),
        vectorized=True,
        confidence_level=expanded(confidence, entries[0]) if len(entries) == 1 else confidence,
        method="percentile",
        rng=generator,
    )
    return Interval(estimate, *map(float, found.confidence_interval))
