"""The columns of the critics' tables: where each number comes from, and what it means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from peerwatt.criticbench.measures import constant
from peerwatt.criticbench.record import POOLED, SCORES, CriticRecord, Estimate, Variant

TITLES = {name: name.upper() for name in SCORES} | {POOLED: "All four"}
"""Key of a score -> its title."""
NOTHING = Estimate(estimate=None)
CONSTRUCTION = "≡"
"""Stands where the critic's input cannot differ."""
EMPTY = {
    "not-applicable": ("–", "makes no sense for this critic"),
    "no calls": ("–", "asks no model"),
    "cached": ("–", "answered from the cache: nothing was paid here"),
    "unknown": ("unknown", "the critic does not tell what it sends"),
}
"""Why a column has no number -> what stands there, and what it means."""

VARIANTS = {
    "order": ("Household order", "households come in another order and under other ids"),
    "units": ("Units", "energy and money are told in other units"),
    "paraphrase": ("Paraphrase", "the prompt says the same in other words"),
    "batch": ("Slot order", "slots that share a call come in another order"),
}
"""Variant of the same market -> its title, and what is put otherwise."""

UNMOVED = ("Reliability", "Invariance", "Robustness")
"""Groups of columns in which a critic that always says the same is perfect for no merit."""

Unit = Literal["error", "score", "percent", "seconds", "dollars"]
_DIGITS = {"error": 3, "score": 2, "percent": 1}


@dataclass(frozen=True)
class Column:
    """One number per critic."""

    key: str
    title: str
    group: str
    unit: Unit
    better: Literal["high", "low", "neither"]
    meaning: str
    value: Callable[[CriticRecord], Estimate]
    status: Callable[[CriticRecord], str] = lambda record: ""
    """Why there is no number, if there is a reason."""


@dataclass(frozen=True)
class Cell:
    """A number as the table shows it."""

    column: Column
    text: str
    sort: str = ""
    told: str = ""
    faint: bool = False
    low: str | None = None
    high: str | None = None


def _pooled(path: str) -> Callable[[CriticRecord], Estimate]:
    """Return what reads an estimate of all scores together, such as "validity.mae"."""
    section, field = path.split(".")

    def read(record: CriticRecord) -> Estimate:
        estimate: Estimate = getattr(getattr(record, section).scores[POOLED], field)
        return estimate

    return read


def _share(part: int, whole: int) -> Estimate:
    return Estimate(estimate=part / whole if whole else None)


def asked(record: CriticRecord) -> bool:
    """Return whether a model had a say, be it by answers that were paid for before."""
    usages = record.operations.usage.values()
    return bool(record.operations.calls) or any(usage.modelled for usage in usages)


def _no_calls(record: CriticRecord) -> str:
    if record.operations.calls:
        return ""
    return "cached" if asked(record) else "no calls"


def _reached(record: CriticRecord) -> Estimate:
    """Return the share of scores that changed where the critic was told something else."""
    fields = [field for field in record.robustness.reachable if field.same_input is False]
    return _share(sum(field.changed for field in fields), sum(field.scores for field in fields))


def _same_input(record: CriticRecord) -> str:
    """Return why there is no such share: what it was told is the same, or unknown."""
    same = [field.same_input for field in record.robustness.reachable]
    if False in same:
        return ""
    return "by-construction" if same and None not in same else "unknown"


_VALIDITY = (
    Column(
        "mae", "Error (MAE)", "Validity", "error", "low",
        "Mean absolute difference between score and closed form, over all slots and scores that "
        "were answered: 0 is exact, and a critic that always says 0.5 has a third or so.",
        _pooled("validity.mae"),
    ),
    Column(
        "coverage", "Answered", "Validity", "percent", "high",
        "Share of the scores that it gave; the rest it abstained from. Read no error without it.",
        _pooled("validity.coverage"),
    ),
    Column(
        "spearman", "Spearman ρ", "Validity", "score", "high",
        "Rank correlation of scores and closed forms: whether fairer markets get higher scores.",
        _pooled("validity.spearman"),
    ),
    Column(
        "kendall", "Kendall τ‑b", "Validity", "score", "high",
        "Pairs of slots put in the right order less those put in the wrong one, with ties.",
        _pooled("validity.kendall"),
    ),
    Column(
        "kappa", "Kappa", "Validity", "score", "high",
        "Quadratic-weighted kappa on six levels (0 to 5): agreement beyond chance.",
        _pooled("validity.kappa"),
    ),
    Column(
        "distinct", "Distinct", "Validity", "percent", "neither",
        "Different scores, in per cent of all scores, and what there are of the closed forms: near "
        "0, it says the same of every market.",
        _pooled("validity.distinct"),
    ),
    Column(
        "violations", "Wrong way", "Validity", "percent", "low",
        "Monotonicity: steps of the controlled series at which the score moved against the closed "
        "form.",
        lambda record: record.validity.violations,
    ),
    Column(
        "flat", "Not seen", "Validity", "percent", "low",
        "Steps of the controlled series at which the score did not move though the closed form "
        "did.",
        lambda record: record.validity.flat,
    ),
)  # fmt: skip

_RELIABILITY = (
    Column(
        "sd", "Test-retest SD", "Reliability", "error", "low",
        "Spread of independent answers to the very same question.",
        _pooled("reliability.sd"),
    ),
    Column(
        "icc", "ICC", "Reliability", "score", "high",
        "Intraclass correlation (A,1): share of the variance that is between slots, not between "
        "repeats; undefined for a critic that always says the same.",
        _pooled("reliability.icc"),
    ),
    Column(
        "flips", "Flips", "Reliability", "percent", "low",
        "Pairs of clearly different slots that two repeats put in opposite order.",
        _pooled("reliability.flips"),
    ),
)  # fmt: skip

_CONDUCT = (
    Column(
        "reachable", "Reachable text", "Robustness", "percent", "low",
        "Scores that changed when hostile text stood in a place that an attacker can write to: "
        "names of households, titles of tasks, names of plugins. ≡: the same bytes are sent; "
        "“unknown”: the critic does not tell what it sends.",
        _reached,
        _same_input,
    ),
    Column(
        "lift", "Lift, if exposed", "Robustness", "error", "low",
        "Hypothetical: how far scores move towards what a hostile text asks for if it were put "
        "into the prompt, as training never does.",
        lambda record: record.robustness.lift,
        lambda record: record.robustness.notes,
    ),
    Column(
        "drift", "Drift, if exposed", "Robustness", "error", "low",
        "Hypothetical: how far scores move, either way, if a harmless text were put there.",
        lambda record: record.robustness.drift,
        lambda record: record.robustness.notes,
    ),
    Column(
        "invalid", "Invalid", "Operations", "percent", "low",
        "First replies that could not be used: no JSON, wrong keys, out of range, cut off.",
        lambda record: record.operations.invalid_rate,
        _no_calls,
    ),
    Column(
        "refused", "Refused", "Operations", "percent", "low",
        "First replies in which the model declined to answer.",
        lambda record: record.operations.refusal_rate,
        _no_calls,
    ),
    Column(
        "dollars", "$ per 1,000 calls", "Operations", "dollars", "low",
        "Price of a thousand requests; “unknown” where the price of the model is not known.",
        lambda record: Estimate(estimate=record.operations.dollars_per_1000_calls),
        _no_calls,
    ),
    Column(
        "latency", "Latency", "Operations", "seconds", "low",
        "Median wall-clock time of scoring one slot alone for the first time, on the machine that "
        "the benchmark ran on; slots that got no score are left out.",
        lambda record: record.operations.cold.p50,
    ),
)  # fmt: skip


def quality(common: Mapping[str, Estimate]) -> tuple[Column, ...]:
    """Return the columns about whether the scores are right.

    Args:
        common: bench hash of a critic -> its error over what all critics answered, if that differs.
    """
    if not common:
        return _VALIDITY
    column = Column(
        "common",
        "Error where all answered",
        "Validity",
        "error",
        "low",
        "The same over those scores alone that every critic gave (but critics that gave none), so "
        "that nobody gains by abstaining where it is hard.",
        lambda record: common.get(record.bench_hash, NOTHING),
    )
    return (*_VALIDITY[:2], column, *_VALIDITY[2:])


def conduct(records: Sequence[CriticRecord]) -> tuple[Column, ...]:
    """Return the columns about what moves the scores, and what they take."""
    found = {name for record in records for name in record.invariance}
    variants = [name for name in VARIANTS if name in found] + sorted(found - VARIANTS.keys())
    return (*_RELIABILITY, *(_variant(name) for name in variants), *_CONDUCT)


def _variant(name: str) -> Column:
    """Return the column of one way of putting the same market otherwise."""

    def of(record: CriticRecord) -> Variant | None:
        return record.invariance.get(name)

    title, meaning = VARIANTS.get(name, (name.replace("-", " "), "put in another way"))
    return Column(
        f"variant-{name}",
        title,
        "Invariance",
        "error",
        "low",
        f"Mean absolute change of a score when {meaning}; compare it with what asking again does "
        "(test-retest).",
        lambda record: variant.change.get(POOLED, NOTHING) if (variant := of(record)) else NOTHING,
        lambda record: variant.status if (variant := of(record)) else "not-applicable",
    )


def cell(column: Column, record: CriticRecord) -> Cell:
    """Return one number of a critic: as text, with its interval, and as the key to sort by."""
    status, value = column.status(record), column.value(record)
    constructed = status == "by-construction"
    if constructed and not value.estimate:
        told = "by construction: what the critic is given cannot differ"
        return Cell(column, CONSTRUCTION, "0", told, faint=True)
    if status in EMPTY:
        text, told = EMPTY[status]
        return Cell(column, text, "", told, faint=True)
    if value.estimate == 0.0 and column.group in UNMOVED and constant(record.validity):
        return Cell(column, "constant", "", "it says the same of every market", faint=True)
    if value.estimate is None:
        if column.unit == "dollars":
            return Cell(column, "unknown", "", "the price of the model is not known", faint=True)
        return Cell(column, "–", "", "undefined", faint=True)
    low, high = (
        None if bound is None else written(bound, column.unit) for bound in (value.low, value.high)
    )
    bounded = low is not None and high is not None
    notes = [f"95 % interval: {low} to {high}"] if bounded else []
    if column.group == "Invariance" or column.key == "drift":
        notes += ["what it is given does not differ, so this is noise"] if constructed else []
        notes += _noise(record)
    if column.key == "latency" and (tail := record.operations.cold.p95.estimate) is not None:
        notes = [f"95th percentile: {written(tail, 'seconds')}"]
    text = written(value.estimate, column.unit)
    if column.key == "distinct":
        text += f" of {written(record.validity.scores[POOLED].distinct_truth.estimate, 'percent')}"
    return Cell(
        column,
        text,
        repr(value.estimate),
        "; ".join(notes),
        low=low if bounded else None,
        high=high if bounded else None,
    )


def _noise(record: CriticRecord) -> list[str]:
    """Tell how far scores move when nothing is put otherwise."""
    noise = record.reliability.scores[POOLED].change.estimate
    return [] if noise is None else [f"asking again moves them by {written(noise, 'error')}"]


def written(value: float | None, unit: Unit, *, signed: bool = False) -> str:
    """Write a value in its unit: shares as per cent, seconds as suits them; "–" for none."""
    if value is None or not math.isfinite(value):
        return "–"
    if unit == "seconds":
        return seconds(value)
    if unit == "dollars":
        return f"{value:.2f}" if value >= 0.1 or value == 0.0 else f"{value:.2g}"
    digits = _DIGITS[unit]
    value = round(value * (100.0 if unit == "percent" else 1.0), digits) + 0.0
    text = f"{value:+.{digits}f}" if signed and value else f"{value:.{digits}f}"
    return text.replace("-", "−")


def seconds(value: float) -> str:
    """Write a duration with the unit that suits it: 0.0123 as "12 ms"."""
    for least, factor, unit in ((60.0, 1 / 60, "min"), (1.0, 1.0, "s"), (1e-3, 1e3, "ms")):
        if value >= least:
            return (
                f"{value * factor:.2g} {unit}"
                if value * factor < 100
                else (f"{value * factor:.0f} {unit}")
            )
    return f"{value * 1e6:.2g} µs" if value * 1e6 < 100 else f"{value * 1e6:.0f} µs"
