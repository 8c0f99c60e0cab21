"""Statistics over seeds: interquartile means, bootstrap intervals and ranks with ties.

`scores` hold one value per run, [R], or one per run and task, [R, T]. With tasks the bootstrap is
stratified: runs are resampled within each task, and the statistic pools all of them. Every draw
comes from the generator that the caller gives, and the global state of numpy is never used.

The intervals are nominal: with few runs the percentile bootstrap covers the truth less often than
it says. Simulated on normal scores (40,000 samples), a 95 % interval of the interquartile mean
covers it in 50 % of all cases with 2 runs, 75 % with 3, 90 % with 5 and 94 % with 10. So with fewer
than `MIN_RUNS` runs there is no interval, whether they differ or not: the estimate stays and the
bounds are NaN. From there on, runs that are all equal (a deterministic trader) have an interval
without width. A score that is not finite makes the whole result NaN, because leaving it out would
hide a failed run.

Source: R. Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice",
NeurIPS 2021, arXiv 2108.13264. The percentile bootstrap is SciPy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

RESAMPLES = 10_000
"""Bootstrap resamples; the Monte Carlo error of a bound is then about 1 % of the interval."""

MIN_RUNS = 5
"""Runs that an entry needs for an interval and a rank; with fewer, intervals cover too little."""


class Interval(NamedTuple):
    """A point estimate between the bounds of its confidence interval; NaN bounds: no interval."""

    estimate: float
    low: float
    high: float


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
    return _bootstrap(_iqm, [_runs(scores)], generator, confidence, resamples)


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
    seed 3 of another but its number.
    """

    def difference(a: Floats, b: Floats) -> Floats:
        return _iqm(a) - _iqm(b)

    return _bootstrap(difference, _pair(a, b), generator, confidence, resamples)


def probability_of_improvement(
    a: ArrayLike,
    b: ArrayLike,
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the probability that a run of `a` beats one of `b`, with its bootstrap interval.

    It is the Mann-Whitney U over the number of pairs, so that a tie counts half; with tasks, the
    mean of theirs.
    """

    def probability(a: Floats, b: Floats) -> Floats:
        wins = np.sign(a[..., :, None] - b[..., None, :]).mean(axis=(-1, -2))
        return 0.5 + 0.5 * wins.mean(axis=-1)

    return _bootstrap(probability, _pair(a, b), generator, confidence, resamples)


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
    runs = {name: _runs(entries[name]) for name in names}
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


def _runs(scores: ArrayLike) -> Floats:
    """Return `scores` as [T, R]: one row of runs for each task."""
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"scores must be [runs] or [runs, tasks], not of shape {values.shape}")
    return np.atleast_2d(values.T)


def _pair(a: ArrayLike, b: ArrayLike) -> list[Floats]:
    first, second = _runs(a), _runs(b)
    if len(first) != len(second):
        raise ValueError(f"entries of {len(first)} and {len(second)} tasks do not compare")
    return [first, second]


def _iqm(runs: Floats) -> Floats:
    """Interquartile mean over tasks and runs, [..., T, R] -> [...]."""
    pooled = runs.reshape(*runs.shape[:-2], -1)
    mean: Floats = stats.trim_mean(pooled, 0.25, axis=-1)
    return mean


def _bootstrap(
    statistic: Callable[..., Floats],
    entries: list[Floats],
    generator: np.random.Generator,
    confidence: float,
    resamples: int,
) -> Interval:
    """Percentile interval of `statistic(*entries)`, each entry [T, R], resampled within rows."""
    if not all(np.isfinite(entry).all() for entry in entries):
        return Interval(np.nan, np.nan, np.nan)
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
        confidence_level=confidence,
        method="percentile",
        rng=generator,
    )
    return Interval(estimate, *map(float, found.confidence_interval))
