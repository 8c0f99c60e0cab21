"""Is the new worse than the base? Sign-flip tests of paired differences, and what they decide.

A difference is "new less base" of one pair: the same seed, the same scenarios, or one round of two
programs in turn. It is oriented so that more is better. If nothing changed, a difference is as
likely to be d as -d (the two of a pair could be swapped), so the 2^n ways to flip the signs are
equally likely: no normal distribution is assumed, and the test of "no drop" is exact. It is the
bootstrap of paired differences with Rademacher weights.

That of a drop by the margin, and with it *no worse* and the bounds, assumes more: that differences
spread symmetrically about their mean, which nothing guarantees where the two sides differ. Where
a few runs of NEW are far worse than the rest, a true drop by the margin is called no worse more
often than in the nominal 5 %, the more so the rarer they are: in 10 pairs in about 5 % of normal
differences, 13 % of left-skewed exponential ones, 11 % where a fifth of the runs of NEW collapse
and 59 % where one in twenty does.

Flipping the pairs of a subset A lowers the mean below a hypothetical `shift` just where the mean of
A is on the other side of it, so the means of all non-empty subsets hold every p-value and every
bound: of 2^n - 1 of them, and the mean itself, each is equally likely to be the first above the
truth. Up to `EXACT` pairs all subsets are taken, beyond that `FLIPS` random ones, with
p = (k + 1) / (B + 1), by which the level is kept exactly all the same.

Sources: J. A. Hartigan, "Using subsample values as typical values", JASA 64 (1969) 1303-1317;
B. Phipson and G. K. Smyth, "Permutation p-values should never be zero", SAGMB 9 (2010), article 39;
S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979)
65-70, with weights; R. L. Berger, "Multiparameter hypothesis testing and acceptance sampling",
Technometrics 24 (1982) 295-300, for why *no worse* in all of several needs no correction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from peerwatt.evaluation.statistics import holm

Floats = NDArray[np.float64]
Outcome = Literal["regression", "no worse", "undecided"]

EXACT = 14
"""Pairs up to which all 2^n sign flips are taken."""
FLIPS = 20_000
"""Random sign flips beyond that."""
ALPHA = 0.05
"""Chance of a false alarm in one call, and of a false *no worse* for one metric, the latter if the
differences spread symmetrically about their mean."""
POWER = 0.8
"""Chance of a decision that the number of further pairs is reckoned for."""
MOST_PAIRS = 10_000
"""More are not asked for: a difference that needs as many is not going to be decided."""
_CLOSE = 1e-12
"""Relative difference up to which two means are a tie: they differ by rounding only."""


@dataclass(frozen=True, eq=False)
class SignFlips:
    """Differences of pairs with the means of their subsets; see `sign_flip`."""

    differences: Floats  # [n]
    means: Floats
    """Means of non-empty subsets, sorted."""
    ties: int
    """Flips that change nothing: the identity, and random ones that flip no pair."""

    @property
    def estimate(self) -> float:
        """Mean difference."""
        return float(self.differences.mean())

    @property
    def deviation(self) -> float:
        """Standard deviation of the differences; NaN of a single one."""
        return float(self.differences.std(ddof=1)) if self.differences.size > 1 else math.nan

    @property
    def smallest(self) -> float:
        """The least p-value that this many pairs can have."""
        return max(0.5**self.differences.size, 1 / self._flips)

    @property
    def _flips(self) -> int:
        return self.means.size + self.ties

    def _slack(self, shift: float) -> float:
        return _CLOSE * max(float(np.abs(self.differences).max()), abs(shift))

    def p_below(self, shift: float = 0.0) -> float:
        """Return the one-sided p-value of "the mean is at least `shift`", small if it is below."""
        least = np.searchsorted(self.means, shift - self._slack(shift), side="left")
        return float(self.ties + self.means.size - least) / self._flips

    def p_above(self, shift: float = 0.0) -> float:
        """Return the one-sided p-value of "the mean is at most `shift`", small if it is above."""
        most = np.searchsorted(self.means, shift + self._slack(shift), side="right")
        return float(self.ties + most) / self._flips

    def lower(self, level: float) -> float:
        """Return the bound that lies above the true mean in at most a share `level` of all cases.

        It is the least `shift` at which `p_above` is more than `level`; -inf with too few pairs.
        """
        rank = self._rank(level)
        return float(self.means[rank]) if rank >= 0 else -math.inf

    def upper(self, level: float) -> float:
        """Return the bound that lies below the true mean in at most a share `level` of all cases.

        It is the largest `shift` at which `p_below` is more than `level`; inf with too few pairs.
        """
        rank = self._rank(level)
        return float(self.means[-1 - rank]) if rank >= 0 else math.inf

    def _rank(self, level: float) -> int:
        if not 0 < level < 1:
            raise ValueError(f"a level must lie between 0 and 1, not be {level}")
        return min(math.floor(level * self._flips + 1e-9) - self.ties, self.means.size - 1)


def sign_flip(differences: ArrayLike, generator: np.random.Generator) -> SignFlips:
    """Return the sign flips of `differences` [n], from which come p-values and bounds.

    Args:
        differences: new less base of each pair, finite.
        generator: draws the subsets if there are more than `EXACT` pairs.

    Raises:
        ValueError: `differences` are not a non-empty list of finite numbers.
    """
    values = np.array(differences, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"differences must be finite numbers [n], not {differences!r}")
    if values.size <= EXACT:
        chosen, none = _subsets(values.size), 0
    else:
        drawn = generator.integers(0, 2, (FLIPS, values.size), np.int8).astype(np.float64)
        chosen = drawn[drawn.any(axis=1)]
        none = len(drawn) - len(chosen)
    return SignFlips(values, np.sort(chosen @ values / chosen.sum(axis=1)), 1 + none)


@lru_cache(maxsize=EXACT)
def _subsets(size: int) -> Floats:
    """Return all non-empty subsets of `size` pairs, [2^size - 1, size] of 0 and 1."""
    return (np.arange(1, 2**size)[:, None] >> np.arange(size) & 1).astype(np.float64)


@dataclass(frozen=True)
class Test:
    """One metric of one comparison."""

    looks: tuple[SignFlips, ...]
    """The flips at each look so far, each with all pairs that were there; at least one."""
    margin: float
    """A drop by less than this is taken for none."""
    weight: float = 1.0
    """Its share of the chance of a false alarm, against the weights of the other tests."""


@dataclass(frozen=True)
class Decision:
    """What one test says."""

    outcome: Outcome
    estimate: float
    """Mean difference at the last look."""
    low: float
    """One-sided lower bound of the mean difference at the level of the call, over all looks, exact
    for differences that spread symmetrically about their mean."""
    high: float
    """One-sided upper bound likewise."""
    p_drop: float
    """Of "no drop", corrected for the looks and for the other tests (Holm)."""
    p_margin: float
    """Of "a drop by the margin or more", corrected for the looks."""
    pairs: int
    more: int
    """Further pairs after which it is likely to be decided, if the truth is as observed."""
    least: int
    """Pairs below which no drop, however clear, could be called a regression."""


def decide(tests: Sequence[Test], *, alpha: float = ALPHA, looks: int = 1) -> list[Decision]:
    """Decide all tests of one call together.

    A *regression* is a mean significantly below 0 (Holm's correction over all tests, weighted)
    that is not shown to be within the margin. *No worse* is a mean that is significantly above
    minus the margin; as all of several must be so, that needs no correction. Anything else is
    *undecided*.

    The p-value of a test is `looks` times the least of its looks (Bonferroni), which is valid
    whenever one stops. So all false alarms of a call, at any of the looks, have a chance of at most
    `alpha`. That of *no worse* holds if the differences spread symmetrically about their mean.

    Args:
        tests: the tests; every one counts, decided or not.
        alpha: chance of any false alarm.
        looks: how many looks were planned; no test may have more.
    """
    if any(not 1 <= len(test.looks) <= looks for test in tests):
        raise ValueError(f"a test needs between 1 and {looks} looks")
    drops = [_over_looks([flips.p_below() for flips in test.looks], looks) for test in tests]
    if not tests:
        return []
    weights = np.array([test.weight for test in tests], dtype=np.float64)
    adjusted = holm(drops, weights)
    level = alpha / looks
    decisions = []
    for test, p_drop, share in zip(tests, adjusted, weights / weights.sum(), strict=True):
        p_margin = _over_looks([flips.p_above(-test.margin) for flips in test.looks], looks)
        flips = test.looks[-1]
        outcome: Outcome = "undecided"
        if p_margin <= alpha:
            outcome = "no worse"
        elif p_drop <= alpha:
            outcome = "regression"
        least = math.ceil(math.log2(1 / (level * share)))
        more = 0
        if outcome == "undecided":
            wanted = pairs_wanted(flips, test.margin, level, level * share)
            more = max(1, wanted - flips.differences.size)
        decisions.append(
            Decision(
                outcome=outcome,
                estimate=flips.estimate,
                low=max(look.lower(level) for look in test.looks),
                high=min(look.upper(level) for look in test.looks),
                p_drop=float(p_drop),
                p_margin=p_margin,
                pairs=flips.differences.size,
                more=more,
                least=least,
            )
        )
    return decisions


def pairs_wanted(flips: SignFlips, margin: float, level: float, drop_level: float) -> int:
    """Return the pairs that decide with probability `POWER`, were the truth as observed.

    Whichever needs fewer: *no worse* at `level`, or *regression* at `drop_level`. By the normal
    approximation, so a rough number; at most `MOST_PAIRS`.
    """
    mean, spread = flips.estimate, flips.deviation
    if math.isnan(spread):
        spread = abs(mean) + margin
    wanted = []
    for distance, at in ((mean + margin, level), (-mean, drop_level)):
        if distance > 0:
            sum_of_quantiles = float(ndtri(1 - at) + ndtri(POWER))
            by_spread = (sum_of_quantiles * spread / distance) ** 2
            wanted.append(max(by_spread, math.log2(1 / at)))
    return min(math.ceil(min(wanted, default=math.inf)), MOST_PAIRS) if wanted else MOST_PAIRS


def _over_looks(p_values: Sequence[float], looks: int) -> float:
    return min(1.0, looks * min(p_values))
