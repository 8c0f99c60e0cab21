"""A bootstrap of clusters within parts, and the statistics that are computed with it.

A series, a group of books or an episode is drawn with all its slots or not at all, for its slots
are alike. What is resampled are weights, how often each cluster was drawn; every statistic here is
a closed form of these weights, so that a thousand resamples cost no more than a few matrix
products, and a cluster that was drawn twice counts just as its rows written down twice. Statistics
are arrays [1 + resamples] whose first value is that of the sample; NaN is undefined.

The percentile bootstrap. An interval is left out where the statistic rests on rows of fewer than
`MIN_CLUSTERS` clusters that can vary, or is undefined in more than a tenth of the resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from peerwatt.criticbench.record import Estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

RESAMPLES = 2_000
MIN_CLUSTERS = 5
"""Clusters that an interval needs, as runs are needed for one on the leaderboard."""
BINS = 6
"""Bins 0-5, the scale on which people and models agree best (arXiv 2601.03444)."""
EQUAL = 1e-9
"""Scores nearer than that are the same."""

UNDEFINED = Estimate(estimate=None)


class Resampling:
    """Clusters of M rows, and how often each was drawn in each resample.

    Args:
        parts: [M] part of each row, within which clusters are drawn.
        clusters: [M] cluster of each row.
        seed: of the draws.
    """

    def __init__(
        self,
        parts: Sequence[str],
        clusters: Sequence[str],
        *,
        seed: int = 0,
        resamples: int = RESAMPLES,
    ) -> None:
        pairs = sorted(set(zip(parts, clusters, strict=True)))
        number = {pair: index for index, pair in enumerate(pairs)}
        self.of_row = np.array(
            [number[pair] for pair in zip(parts, clusters, strict=True)], np.int64
        )
        generator = np.random.default_rng(seed)
        self.weights = np.zeros((resamples + 1, len(pairs)))  # [1 + resamples, C]
        self.weights[0] = 1.0
        varying = np.zeros(len(pairs), bool)
        for part in sorted({part for part, _ in pairs}):
            members = [number[pair] for pair in pairs if pair[0] == part]
            k = len(members)
            self.weights[1:, members] = generator.multinomial(k, [1 / k] * k, size=resamples)
            varying[members] = k > 1
        self._varies = varying[self.of_row]  # [M]

    def sums(self, values: Floats) -> Floats:
        """Return the weighted sums [1 + resamples, ...] of `values` [M, ...]."""
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        per_cluster = np.zeros((self.weights.shape[1], flat.shape[1]))
        np.add.at(per_cluster, self.of_row, flat)
        return (self.weights @ per_cluster).reshape(-1, *np.shape(values)[1:])

    def pairs(self, values: Floats, rows: Ints) -> Floats:
        """Return the weighted sums [1 + resamples] over pairs of `rows`, `values` [R, R]."""
        indicator = np.zeros((len(rows), self.weights.shape[1]))
        indicator[np.arange(len(rows)), self.of_row[rows]] = 1.0
        between = indicator.T @ values @ indicator
        total: Floats = np.einsum("bc,cd,bd->b", self.weights, between, self.weights, optimize=True)
        return total

    def estimate(self, values: Floats, counted: Bools) -> Estimate:
        """Return the estimate of a statistic [1 + resamples], the first of which is the sample.

        `counted` [M, ...] tells which rows, or values of them, it rests on.
        """
        if not np.isfinite(values[0]):
            return UNDEFINED
        defined = values[1:][np.isfinite(values[1:])]
        estimate = _rounded(values[0])
        rows = counted.reshape(len(counted), -1).any(axis=1) & self._varies
        enough = len(np.unique(self.of_row[rows])) >= MIN_CLUSTERS
        if not enough or len(defined) < 0.9 * (len(values) - 1):
            return Estimate(estimate=estimate)
        low, high = map(_rounded, np.quantile(defined, [0.025, 0.975]))
        return Estimate(estimate=estimate, low=low, high=high)


def _rounded(value: float) -> float:
    """Return `value` without the rounding errors of sums."""
    return round(float(value), 9) + 0.0


def ratio(above: Floats, below: Floats) -> Floats:
    """Divide, and return NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(below) > 1e-12, above / below, np.nan)


def mean(resampling: Resampling, values: Floats, counted: Bools) -> Floats:
    """Return the means of `values` where `counted`, both [M, ...], over all but the resamples."""
    axes = tuple(range(1, values.ndim))
    kept = np.where(counted, values, 0.0).sum(axis=axes)
    return ratio(resampling.sums(kept), resampling.sums(counted.sum(axis=axes).astype(float)))


def mean_estimate(resampling: Resampling, values: Floats, counted: Bools) -> Estimate:
    """Return the estimate of `mean`."""
    return resampling.estimate(mean(resampling, values, counted), counted)


def spearman(resampling: Resampling, x: Floats, y: Floats, rows: Ints) -> Floats:
    """Return Spearman's rho of x and y [R], which stand in `rows`: Pearson's of the mid-ranks."""
    ranks = []
    for values in (x, y):
        below = (values[None, :] < values[:, None] - EQUAL).astype(float)
        tied = (np.abs(values[None, :] - values[:, None]) <= EQUAL).astype(float)
        indicator = np.zeros((len(rows), resampling.weights.shape[1]))
        indicator[np.arange(len(rows)), resampling.of_row[rows]] = 1.0
        ranks.append(resampling.weights @ ((below + tied / 2) @ indicator).T)  # [1 + B, R]
    weights = resampling.weights[:, resampling.of_row[rows]]
    total = weights.sum(axis=1, keepdims=True)
    centred = [rank - ratio((weights * rank).sum(axis=1, keepdims=True), total) for rank in ranks]
    covariance = (weights * centred[0] * centred[1]).sum(axis=1)
    variances = [(weights * values**2).sum(axis=1) for values in centred]
    floor = 1e-9 * total[:, 0] ** 3  # no variance but rounding
    product = np.where(np.minimum(*variances) > floor, variances[0] * variances[1], np.nan)
    return np.clip(covariance / np.sqrt(product), -1.0, 1.0)


def kendall(resampling: Resampling, x: Floats, y: Floats, rows: Ints) -> Floats:
    """Return Kendall's tau-b of x and y [R], which stand in `rows`."""
    signs = []
    for values in (x, y):
        distance = values[:, None] - values[None, :]
        signs.append(np.where(np.abs(distance) <= EQUAL, 0.0, np.sign(distance)))
    concordance, untied_x, untied_y = (
        resampling.pairs(a * b, rows)
        for a, b in ((signs[0], signs[1]), (signs[0], signs[0]), (signs[1], signs[1]))
    )
    return ratio(concordance, np.sqrt(untied_x * untied_y))


def bins(values: Floats) -> Ints:
    """Return the bin 0-5 of each score, halves upwards."""
    return np.floor((BINS - 1) * values + 0.5 + EQUAL).astype(np.int64)


def kappa(resampling: Resampling, x: Floats, y: Floats, rows: Ints) -> Floats:
    """Return Cohen's quadratic-weighted kappa of x and y [R] on the bins 0-5.

    0 if x always says the same and y does not; undefined if both do and agree.
    """
    table = np.zeros((len(resampling.of_row), BINS, BINS))
    table[rows, bins(x), bins(y)] = 1.0
    observed = resampling.sums(table)
    total = observed.sum(axis=(1, 2), keepdims=True)
    expected = ratio(observed.sum(axis=2)[:, :, None] * observed.sum(axis=1)[:, None, :], total)
    penalty = (np.arange(BINS)[:, None] - np.arange(BINS)) ** 2
    return 1.0 - ratio((observed * penalty).sum(axis=(1, 2)), (expected * penalty).sum(axis=(1, 2)))


def icc(resampling: Resampling, answers: Floats, rows: Ints) -> Floats:
    """Return ICC(A,1) of `answers` [R, K], which stand in `rows`.

    Two-way random effects, absolute agreement, single answer: McGraw and Wong, Psychological
    Methods 1 (1996) 30. Undefined where the slots do not differ: a constant critic is not reliable.
    """
    k = answers.shape[1]
    centred = answers - answers.mean()  # the sums of squares would cancel
    full = np.zeros((len(resampling.of_row), k))
    full[rows] = centred
    one = np.zeros(len(resampling.of_row))
    one[rows] = 1.0
    n = resampling.sums(one)
    columns = resampling.sums(full)
    grand = ratio(columns.sum(axis=1), n * k)
    between = resampling.sums(full.sum(axis=1) ** 2) / k - n * k * grand**2
    of_columns = ratio((columns**2).sum(axis=1), n) - n * k * grand**2
    total = resampling.sums((full**2).sum(axis=1)) - n * k * grand**2
    between, of_columns, total = (
        np.maximum(values, 0.0) for values in (between, of_columns, total)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        msr = between / (n - 1)
        msc = of_columns / (k - 1)
        mse = np.maximum(total - between - of_columns, 0.0) / ((n - 1) * (k - 1))
        value = (msr - mse) / (msr + (k - 1) * mse + k / n * (msc - mse))
    return np.where((n > 1.5) & (msr > EQUAL**2), value, np.nan)


def averaged(parts: Sequence[Floats], *, missing: float = np.nan) -> Floats:
    """Return the mean [1 + resamples] of several statistics, NaN where none is defined.

    One that is undefined is left out of the mean, or counts as `missing`.
    """
    table = np.stack(parts)
    defined = np.isfinite(table)
    if np.isfinite(missing):
        table = np.where(defined | ~defined.any(axis=0), table, missing)
        defined = np.isfinite(table)
    return ratio(np.where(defined, table, 0.0).sum(axis=0), defined.sum(axis=0).astype(float))


def rate(count: int, total: int) -> Estimate:
    """Return a share of independent events with Wilson's 95 % interval.

    Raises:
        ValueError: more was counted than there is.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share")
    if not total:
        return UNDEFINED
    z, p = 1.959963984540054, count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (p * (1 - p) / total + z * z / (4 * total**2)) ** 0.5
    return Estimate(estimate=p, low=max(0.0, centre - half), high=min(1.0, centre + half))


def quantile(seconds: Sequence[float], share: float, seed: int = 0) -> Estimate:
    """Return a quantile of `seconds` with its bootstrap interval over answers."""
    if not seconds:
        return UNDEFINED
    values = np.asarray(seconds, np.float64)
    estimate = float(np.quantile(values, share))
    if len(values) < MIN_CLUSTERS:
        return Estimate(estimate=estimate)
    generator = np.random.default_rng(seed)
    samples = values[generator.integers(0, len(values), (RESAMPLES, len(values)))]
    low, high = np.quantile(np.quantile(samples, share, axis=1), [0.025, 0.975])
    return Estimate(estimate=estimate, low=float(low), high=float(high))
