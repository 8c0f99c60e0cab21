"""What a section says beyond the table: profiles, probabilities of improvement, gaps and fronts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from peerwatt.evaluation.statistics import (
    Interval,
    Profile,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)
from peerwatt.runs.summary import WELFARE, Measure, Row
from peerwatt_leaderboard.report.sections import Section, generator_of

Floats = NDArray[np.float64]

THRESHOLDS: Floats = np.arange(-100, 101) / 100.0
"""Welfare thresholds of the profiles, the same in every report."""

Standing = Literal["yes", "perhaps", "no"]


def profiles(section: Section) -> dict[str, Profile]:
    """Return the performance profile of each entry that has scores."""
    return {
        label: performance_profile(scores, THRESHOLDS) for label, scores in section.scores.items()
    }


def gaps(section: Section) -> dict[str, Interval]:
    """Return by how much each entry's runs miss the optimum on average."""
    return {
        label: optimality_gap(scores, generator_of(f"{section.keys[label]}/gap"))
        for label, scores in section.scores.items()
    }


def chances(section: Section) -> dict[tuple[str, str], Interval]:
    """Return, for each two entries, the probability that a run of the first has more welfare.

    Only one of two is computed, and the other is what is left of 1, so that they agree.
    """
    found: dict[tuple[str, str], Interval] = {}
    labels = sorted(section.scores, key=section.keys.__getitem__)
    for index, one in enumerate(labels):
        for other in labels[index + 1 :]:
            chance = probability_of_improvement(section.scores[one], section.scores[other])
            found[one, other] = chance
            rest = (1 - chance.estimate, 1 - chance.high, 1 - chance.low)
            found[other, one] = Interval(*(max(share, 0.0) for share in rest))  # no -0.00
    return found


def front(rows: list[Row], measure: Measure) -> dict[str, Standing]:
    """Say of each entry whether it is on the front of welfare and `measure`.

    "yes": no other is as good in both and better in one. "perhaps": one is, but by less than the
    intervals. "no": one is, by intervals that do not overlap. Without intervals, nothing but the
    estimates can be compared, and there is no "perhaps".
    """
    points: dict[str, tuple[Interval, Interval]] = {}
    for row in rows:
        x, y = row.interval(measure), row.interval(WELFARE)
        if x is not None and y is not None:
            points[row.entry.label] = (x, y)
    return {label: _standing(label, points) for label in points}


def _standing(label: str, points: Mapping[str, tuple[Interval, Interval]]) -> Standing:
    x, y = points[label]
    standing: Standing = "yes"
    for other, (u, v) in points.items():
        if other == label:
            continue
        ahead = u.estimate >= x.estimate and v.estimate >= y.estimate
        if not ahead or (u.estimate, v.estimate) == (x.estimate, y.estimate):
            continue
        bounded = np.isfinite([*x, *y, *u, *v]).all()
        apart = u.low >= x.high and v.low >= y.high and (u.low > x.high or v.low > y.high)
        if not bounded or apart:
            return "no"
        standing = "perhaps"
    return standing
