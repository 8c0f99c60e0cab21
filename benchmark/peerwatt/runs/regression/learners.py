"""Learners: paired differences of every metric over the common seeds, decided together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.evaluation.verdict import ALPHA, MOST_PAIRS, Decision, Test, decide, sign_flip
from peerwatt.runs.regression.findings import Finding
from peerwatt.runs.regression.pairing import Pair
from peerwatt.runs.regression.scripted import same_play
from peerwatt.runs.summary import MEASURES, WELFARE, Measure, run_values

METRICS = ("welfare", "worst_off", "ftg", "fbs", "fpp")
WELFARE_MARGIN = 0.005
MARGINS = {"scale": WELFARE_MARGIN, "score": 0.05, "percent": 1.0}
"""By the unit of the metric; that of prices is wider, for selfish learners move them freely."""
MARGIN_OF = {"fpp": 0.1, "ftb": 0.1}
PRIMARY_WEIGHT = 0.8
"""Share of the chance of a false alarm that welfare gets; the other metrics share the rest."""


@dataclass(frozen=True)
class Settings:
    """How learners are judged."""

    metrics: tuple[str, ...] = METRICS
    margin: float = WELFARE_MARGIN
    margins: Mapping[str, float] = field(default_factory=dict)
    alpha: float = ALPHA
    require_all: bool = False

    def __post_init__(self) -> None:
        """Refuse what makes no sense, in one sentence each."""
        if not self.metrics:
            raise PeerWattError("--metrics names none; give at least welfare.")
        for name in (*self.metrics, *self.margins):
            judged(name)
        if WELFARE.key not in self.metrics:
            raise PeerWattError("--metrics lacks welfare, by which the whole is judged: add it.")
        if len(set(self.metrics)) < len(self.metrics):
            raise PeerWattError(f"--metrics {','.join(self.metrics)} names a metric twice.")
        for name in self.margins:
            if name not in self.metrics:
                raise PeerWattError(f"--margins {name}: is not among the --metrics; add it there.")
        if not 0 < self.alpha < 0.5:
            raise PeerWattError(f"--alpha {self.alpha:g} must lie between 0 and 0.5.")
        for name in self.metrics:
            margin = self.margin_of(name)
            if not (math.isfinite(margin) and margin > 0):
                raise PeerWattError(
                    f"the margin {margin:g} of {name} must be more than 0: within it a drop counts "
                    "as none, and without one no number of seeds shows that nothing dropped."
                )

    def margin_of(self, name: str) -> float:
        """Return the margin of a metric, in its own unit."""
        if name in self.margins:
            return self.margins[name]
        if name == WELFARE.key:
            return self.margin
        return MARGIN_OF.get(name, MARGINS[judged(name).unit])

    def weight_of(self, name: str) -> float:
        """Return the share of `alpha` that a metric of one entry gets, times the entries."""
        if len(self.metrics) == 1:
            return 1.0
        others = (1 - PRIMARY_WEIGHT) / (len(self.metrics) - 1)
        return PRIMARY_WEIGHT if name == WELFARE.key else others


def judged(name: str) -> Measure:
    """Return the measure called `name`.

    Raises:
        PeerWattError: there is none, or it is neither better high nor low.
    """
    known = {measure.key: measure for measure in MEASURES if measure.better != "neither"}
    if name not in known:
        raise unknown_name("metric", name, known)
    return known[name]


@dataclass(frozen=True)
class _Open:
    """A test that is still to be decided, and what it is of."""

    pair: Pair
    measure: Measure
    test: Test


def compare_learners(
    pairs: Sequence[Pair],
    settings: Settings,
    looks: Mapping[str, Sequence[Sequence[int]]] | None = None,
    planned: int = 1,
) -> list[Finding]:
    """Judge all pairs together.

    Args:
        pairs: entries that learn, each with at least one common seed.
        settings: metrics, margins and the chance of a false alarm.
        looks: of a sequential plan: key of a pair -> the seeds of each of its looks so far.
        planned: how many looks the plan has.
    """
    findings: list[Finding] = []
    tests: list[_Open] = []
    for pair in pairs:
        seen = [list(seeds) for seeds in looks[pair.key]] if looks else [pair.seeds]
        base, new = pair.runs("base"), pair.runs("new")
        if all(same_play(base[s].result, new[s].result) for s in seen[-1]):
            text = f"the same policies and numbers, bit for bit, in all {len(seen[-1])} seeds."
            findings.append(Finding("learners", pair.title, "no worse", text))
            continue
        values = {
            seed: tuple(run_values(runs[seed].result) for runs in (base, new)) for seed in seen[-1]
        }
        for name in settings.metrics:
            measure = judged(name)
            told = _undefined(pair, measure, values)
            if told is not None:
                findings.append(told)
                continue
            sign = 1.0 if measure.better == "high" else -1.0
            flips = []
            for seeds in seen:
                defined = [values[s] for s in seeds if values[s][0][name] is not None]
                differences = [sign * (_value(n, name) - _value(b, name)) for b, n in defined]
                flips.append(sign_flip(differences, np.random.default_rng(len(differences))))
            test = Test(tuple(flips), settings.margin_of(name), settings.weight_of(name))
            tests.append(_Open(pair, measure, test))
    decisions = decide([item.test for item in tests], alpha=settings.alpha, looks=planned)
    for item, decision in zip(tests, decisions, strict=True):
        findings.append(
            Finding(
                layer="learners",
                subject=item.pair.title,
                outcome=decision.outcome,
                text=reason(item.measure, item.test.margin, decision),
                metric=item.measure.key,
                demanded=settings.require_all or item.measure is WELFARE,
                decision=decision,
                margin=item.test.margin,
            )
        )
    return findings


def _value(values: Mapping[str, float | None], name: str) -> float:
    value = values[name]
    assert value is not None
    return value


def _undefined(
    pair: Pair,
    measure: Measure,
    values: Mapping[int, tuple[Mapping[str, float | None], ...]],
) -> Finding | None:
    """Say what follows where a metric is undefined: lost is a regression, never there is none."""
    name = measure.key
    lost = [s for s, (base, new) in values.items() if base[name] is not None and new[name] is None]
    if lost:
        text = f"{measure.title} is undefined in seed {lost[0]} of NEW, and was a number in BASE."
        return Finding("learners", pair.title, "regression", text, metric=name)
    if all(base[name] is None for base, _ in values.values()):
        text = f"{measure.title} is undefined in BASE, so that nothing compares."
        return Finding("learners", pair.title, "undecided", text, metric=name, demanded=False)
    return None


def reason(measure: Measure, margin: float, decision: Decision) -> str:
    """Say in a sentence why a metric is judged as it is."""
    digits = {"scale": 4, "score": 3, "percent": 2}[measure.unit]
    unit = " points" if measure.unit == "percent" else ""

    def number(value: float, signed: bool = True) -> str:
        if not math.isfinite(value):
            return "−∞" if value < 0 else "∞"
        text = f"{value:{'+' if signed else ''}.{digits}f}"
        return text.replace("-", "−")

    name = f"{measure.title} (less is better, so a rise is told as a drop)"
    name = name if measure.better == "low" else measure.title
    change, allowed = number(decision.estimate), number(margin, signed=False)
    seeds = f"{decision.pairs} seed{'s' if decision.pairs > 1 else ''}"
    if decision.outcome == "no worse":
        return (
            f"{name} is not lower by {allowed}{unit} or more: {change} in the mean of {seeds}, at "
            f"least {number(decision.low)} (p = {_p(decision.p_margin)})."
        )
    if decision.outcome == "regression":
        return (
            f"{name} fell by {number(-decision.estimate, signed=False)}{unit} in the mean of "
            f"{seeds}, at least by {number(-decision.high, signed=False)} (p = "
            f"{_p(decision.p_drop)}, corrected), and that it fell by less than the margin of "
            f"{allowed} is not shown."
        )
    bounds = f"{change} in the mean of {seeds}, between {number(decision.low)} and "
    bounds += f"{number(decision.high)}; margin {allowed}"
    more = f"add {decision.more:,} seeds"
    if decision.pairs + decision.more >= MOST_PAIRS:
        more = "no reasonable number of seeds would decide it: widen the margin"
    elif decision.pairs < decision.least:
        more += f" (with fewer than {decision.least} not even a clear drop could be told)"
    return f"{name}: neither a drop nor its absence is shown ({bounds}); {more}."


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.0005 else f"{value:.1g}"
