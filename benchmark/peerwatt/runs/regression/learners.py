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
from peerwatt.runs.regression.scripted import same_in
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


_Values = Mapping[int, tuple[Mapping[str, float | None], Mapping[str, float | None]]]
"""Seed -> the values of every measure in BASE and in NEW."""


@dataclass(frozen=True)
class _Open:
    """A test that is still to be decided, and what it is of."""

    pair: Pair | None
    """None where it is told already: the test then only keeps its share of the error rate, lest a
    worse NEW, in which less is equal or undefined, give the others more of it."""
    measure: Measure
    test: Test
    note: str = ""


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
        looks: key of a pair -> the seeds of each of its looks so far; a pair without any waits for
            its first, and nothing is found of it.
        planned: how many looks share the chance of a false alarm.
    """
    findings: list[Finding] = []
    tests: list[_Open] = []
    for pair in pairs:
        seen = [list(seeds) for seeds in looks[pair.key]] if looks else [pair.seeds]
        base, new = pair.runs("base"), pair.runs("new")
        if not seen:
            tests += [_settled(name, settings) for name in settings.metrics]
            continue
        if same_in(pair, seen[-1]):
            text = f"the same policies and numbers, bit for bit, in all {len(seen[-1])} seeds."
            findings.append(Finding("learners", pair.title, "no worse", text))
            tests += [_settled(name, settings) for name in settings.metrics]
            continue
        values = {
            seed: (run_values(base[seed].result), run_values(new[seed].result)) for seed in seen[-1]
        }
        for name in settings.metrics:
            measure = judged(name)
            told = _undefined(pair, measure, values)
            if told is not None:
                findings.append(told)
                tests.append(_settled(name, settings))
                continue
            margin = settings.margin_of(name)
            differences, note = _differences(measure, margin, values)
            flips = []
            for seeds in seen:
                of_look = [differences[seed] for seed in seeds if seed in differences]
                if of_look:
                    flips.append(sign_flip(of_look, np.random.default_rng(len(of_look))))
            test = Test(tuple(flips), margin, settings.weight_of(name))
            tests.append(_Open(pair, measure, test, note))
    decisions = decide([item.test for item in tests], alpha=settings.alpha, looks=planned)
    for item, decision in zip(tests, decisions, strict=True):
        if item.pair is None:
            continue
        findings.append(
            Finding(
                layer="learners",
                subject=item.pair.title,
                outcome=decision.outcome,
                text=reason(item.measure, item.test.margin, decision) + item.note,
                metric=item.measure.key,
                demanded=settings.require_all or item.measure is WELFARE,
                decision=decision,
                margin=item.test.margin,
            )
        )
    return findings


def _settled(name: str, settings: Settings) -> _Open:
    """Return a test with p = 1."""
    flips = sign_flip([0.0], np.random.default_rng(0))
    test = Test((flips,), settings.margin_of(name), settings.weight_of(name))
    return _Open(None, judged(name), test)


def _differences(measure: Measure, margin: float, values: _Values) -> tuple[dict[int, float], str]:
    """Return new less base of each seed, more being better, and what to tell of undefined values.

    A value that only one side lacks counts as a change by the largest there is, at least twice the
    margin. Its size is the same with the two swapped, so that the test of a drop stays exact. Seeds
    in which both lack it are left out.
    """
    sign = 1.0 if measure.better == "high" else -1.0
    differences: dict[int, float] = {}
    lost, gained = [], []
    for seed, (base, new) in values.items():
        was, now = base[measure.key], new[measure.key]
        if was is not None and now is not None:
            differences[seed] = sign * (now - was)
        elif was is not None:
            lost.append(seed)
        elif now is not None:
            gained.append(seed)
    if not lost and not gained:
        return differences, ""
    change = max(2 * margin, *map(abs, differences.values())) if differences else 2 * margin
    differences |= dict.fromkeys(lost, -change) | dict.fromkeys(gained, change)
    note = (
        f" It is undefined in {len(lost)} seeds of NEW alone and in {len(gained)} of BASE alone, "
        f"which count as changes by {change:.3g}."
    )
    return differences, note


def _undefined(pair: Pair, measure: Measure, values: _Values) -> Finding | None:
    """Say what follows where a metric is undefined in all seeds of a side.

    All of NEW and none of BASE is a regression. That stands outside the chance of a false alarm,
    to which it adds at most 4^-n with n seeds.
    """
    name = measure.key
    if all(base[name] is not None and new[name] is None for base, new in values.values()):
        text = f"{measure.title} is undefined in every seed of NEW, and was a number in BASE."
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
    told = "neither a drop nor its absence is shown"
    if decision.estimate < -margin:
        told = (
            "the mean dropped by more than the margin, which may be chance or some runs' collapse"
        )
    more = f"about {decision.more:,} more seeds would tell: --until-decided adds them"
    if decision.pairs + decision.more >= MOST_PAIRS:
        more = "no reasonable number of seeds would decide it: widen the margin"
    elif decision.pairs < decision.least:
        more += f" (with fewer than {decision.least} not even a clear drop could be told)"
    return f"{name}: {told} ({bounds}); {more}."


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.0005 else f"{value:.1g}"
