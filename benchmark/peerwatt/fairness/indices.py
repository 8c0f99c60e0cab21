"""Outcome fairness: how evenly a community's benefit falls on its households.

All functions work along the last axis, so ``[..., N]`` gives ``[...]``; NaN in gives NaN out. The
benefit meant is the money that a household saves against grid-only. The scale-free indices (Gini,
Jain) call equally *nothing* fair: never show one without the mean saving beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def gini(benefit: ArrayLike) -> Any:
    """Gini coefficient, ``sum_ij |x_i - x_j| / (2 N^2 mean)``; 0 is equal, 1 - 1/N one takes all.

    Relative to the mean, so it is NaN where the mean is not positive (nothing gained, or a loss).
    Losers are not clipped to 0: with some of them and a positive mean the coefficient is still
    half the relative mean difference, and it exceeds 1 when losses are large. Source: C. Gini,
    *Variabilità e mutabilità*, 1912; negative values: C. Chen, T. Tsaur, T. Rhai, "The Gini
    coefficient and negative income", Oxford Economic Papers 34, 1982.
    """
    x = np.sort(np.asarray(benefit, dtype=np.float64), axis=-1)
    n = x.shape[-1]
    weight = 2.0 * np.arange(1, n + 1) - n - 1.0
    return _ratio_where_gain((x * weight).sum(axis=-1), n * x.sum(axis=-1), x.mean(axis=-1))


def jain(benefit: ArrayLike) -> Any:
    """Jain's index, ``(sum x)^2 / (N sum x^2)``; 1 is equal, 1/N one takes all.

    The square hides the sign, so it is NaN where the mean is not positive. With some losers and a
    positive mean it is ``1 / (1 + CV^2)`` as ever and may fall below 1/N. Source: R. Jain, D.
    Chiu, W. Hawe, "A quantitative measure of fairness and discrimination", DEC-TR-301, 1984.
    """
    x = np.asarray(benefit, dtype=np.float64)
    total, squares = x.sum(axis=-1), (x * x).sum(axis=-1)
    return np.minimum(_ratio_where_gain(total * total, x.shape[-1] * squares, total), 1.0)


def qoe(values: ArrayLike, low: ArrayLike, high: ArrayLike) -> Any:
    """Hossfeld's fairness index, ``1 - 2 sd / (high - low)`` with the population's sd.

    `low` and `high` ([...] or scalars) are the fixed ends of the scale, so the index needs no
    positive mean: for effective prices ($/kWh) they are feed-in and retail, and half the
    households at either end gives 0. NaN where ``high <= low``. Source: T. Hossfeld et al.,
    "Definition of QoE fairness in shared systems", IEEE Communications Letters 21(1), 2017, doi
    10.1109/LCOMM.2016.2616342.
    """
    width = np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64)
    deviation = np.std(np.asarray(values, dtype=np.float64), axis=-1)
    return 1.0 - _ratio_where_gain(2.0 * deviation, width, width)


def share_of_losers(savings: ArrayLike) -> Any:
    """Share of households that are worse off than under grid-only (``saving < 0``).

    Any negative saving counts: give exact integers (quanta x ticks), or exact sums of them, so
    that rounding makes no losers. Source: the "losers" KPI of CityLearn.
    """
    x = np.asarray(savings)
    return np.where(np.isnan(x).any(axis=-1), np.nan, np.mean(x < 0, axis=-1))[()]


def worst_off(savings: ArrayLike) -> Any:
    """Saving of the household that saves least, in the unit of `savings`; negative for a loss.

    Source: the difference principle of J. Rawls, *A Theory of Justice*, 1971.
    """
    return np.min(np.asarray(savings, dtype=np.float64), axis=-1)


def group_gap(relative_savings: ArrayLike, groups: ArrayLike) -> Any:
    """Largest less smallest group mean of relative savings (saving / grid-only bill).

    `groups` [N] labels each household. NaN with fewer than two groups; negative means are taken as
    they are. Source: the asset-rich against asset-poor gap of CityLearn, for any number of groups.
    """
    x, labels = np.asarray(relative_savings, dtype=np.float64), np.asarray(groups)
    names = np.unique(labels)
    means = np.stack([x[..., labels == name].mean(axis=-1) for name in names], axis=-1)
    return np.ptp(means, axis=-1) if len(names) > 1 else np.full(x.shape[:-1], np.nan)[()]


def _ratio_where_gain(
    numerator: NDArray[np.float64], denominator: NDArray[np.float64], gain: NDArray[np.float64]
) -> Any:
    """Return numerator / denominator, NaN where `gain` is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gain > 0.0, numerator / denominator, np.nan)[()]
