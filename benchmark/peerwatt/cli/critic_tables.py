"""The tables of `peerwatt critics bench`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peerwatt.criticbench.influence import REFERENCES
from peerwatt.criticbench.measures import common_errors, constant
from peerwatt.criticbench.record import (
    POOLED,
    Arm,
    CriticRecord,
    Estimate,
    Influence,
    Latency,
    Operations,
    Variant,
)
from peerwatt.errors import shown

WIDE = 144
INFLUENCES = ("welfare", "ftg", "fbs", "fpp", "ftb", "worst_off")


class Influenced(NamedTuple):
    """What training came to under one critic."""

    label: str
    name: str
    found: Influence


Cells = Sequence[tuple[str, Callable[[CriticRecord], str]]]


def _number(estimate: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    if estimate.estimate is None:
        return "–"
    value = round(estimate.estimate, digits) + 0.0  # no negative zero
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text.replace("-", "−")


def _interval(estimate: Estimate, digits: int = 3) -> str:
    if estimate.low is None or estimate.high is None:
        return _number(estimate, digits)
    bounds = f" [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"
    return _number(estimate, digits) + bounds.replace("-", "−")


def _percent(estimate: Estimate) -> str:
    return "–" if estimate.estimate is None else f"{100 * estimate.estimate:.1f}"


def _changed(name: str) -> Callable[[CriticRecord], str]:
    """Return what writes the change by a variant of the same market."""

    def written(record: CriticRecord) -> str:
        variant: Variant = record.invariance[name]
        if variant.status != "measured":
            return {"by-construction": "≡", "not-applicable": "·"}[variant.status]
        return _steady(record, variant.change[POOLED])

    return written


def _steady(record: CriticRecord, estimate: Estimate) -> str:
    """Write what is 0 for a critic that does not waver; of one that cannot, it says nothing."""
    if estimate.estimate == 0.0 and constant(record.validity):
        return "const."
    return _number(estimate)


def _repeated(name: str) -> Callable[[CriticRecord], str]:
    return lambda record: _steady(record, getattr(record.reliability.scores[POOLED], name))


def _flips(record: CriticRecord) -> str:
    flips = record.reliability.scores[POOLED].flips
    return "const." if constant(record.validity) else _percent(flips)


def _reached(record: CriticRecord) -> str:
    """Tell how many scores moved where a text reached the critic, if any did."""
    fields = record.robustness.reachable
    if all(field.same_input for field in fields):
        return "≡"
    told = [field.changed for field in fields if field.same_input is False]
    return str(sum(told)) if told else "unknown"


VALIDITY: Cells = (
    ("scored\n%", lambda r: _percent(r.validity.scores[POOLED].coverage)),
    ("MAE [95 %]", lambda r: _interval(r.validity.scores[POOLED].mae)),
    ("bias", lambda r: _number(r.validity.scores[POOLED].bias, signed=True)),
    ("Spearman [95 %]", lambda r: _interval(r.validity.scores[POOLED].spearman, 2)),
    ("Kendall\nτ-b", lambda r: _number(r.validity.scores[POOLED].kendall, 2)),
    ("κ", lambda r: _number(r.validity.scores[POOLED].kappa, 2)),
    ("wrong\nsteps %", lambda r: _percent(r.validity.violations)),
    ("unseen\nsteps %", lambda r: _percent(r.validity.flat)),
    ("distinct\n%", lambda r: _percent(r.validity.scores[POOLED].distinct)),
    ("slope", lambda r: _number(r.calibration.scores[POOLED].slope, 2)),
    ("ECE", lambda r: _number(r.calibration.scores[POOLED].ece)),
)
TRUST: Cells = (
    ("retest\nSD", _repeated("sd")),
    ("noise", _repeated("change")),
    ("ICC", lambda r: _number(r.reliability.scores[POOLED].icc, 2)),
    ("flips\n%", _flips),
    ("house-\nholds", _changed("order")),
    ("units", _changed("units")),
    ("para-\nphrase", _changed("paraphrase")),
    ("batch", _changed("batch")),
    ("reached", _reached),
    (
        "lift by\nnote",
        lambda r: (
            "≡"
            if r.robustness.notes == "by-construction"
            else _number(r.robustness.lift, signed=True)
        ),
    ),
    ("drift", lambda r: "≡" if r.robustness.notes != "measured" else _number(r.robustness.drift)),
)
COST: Cells = (
    ("calls", lambda r: _calls(r.operations)),
    ("no reply\n%", lambda r: _percent(r.operations.failed_rate)),
    ("invalid\n%", lambda r: _percent(r.operations.invalid_rate)),
    ("after\nrepair %", lambda r: _percent(r.operations.invalid_after_repair)),
    ("refused\n%", lambda r: _percent(r.operations.refusal_rate)),
    ("tokens in + out\nper call", lambda r: _tokens(r.operations)),
    ("$ per\n1,000 calls", lambda r: _dollars(r.operations.dollars_per_1000_calls)),
    ("ms cold\np50 / p95", lambda r: _milliseconds(r.operations.cold)),
    ("ms warm\np50 / p95", lambda r: _milliseconds(r.operations.warm)),
    ("cached\n%", lambda r: _percent(Estimate(estimate=r.operations.cache_hit_rate))),
)


def _calls(operations: Operations) -> str:
    cached = not operations.calls and any(usage.modelled for usage in operations.usage.values())
    return "0, cached" if cached else f"{operations.calls:,}"


def _tokens(operations: Operations) -> str:
    counts = operations.prompt_tokens_per_call, operations.completion_tokens_per_call
    return "–" if None in counts else " + ".join(f"{count:,.0f}" for count in counts)


def _dollars(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _milliseconds(latency: Latency) -> str:
    if latency.p50.estimate is None or latency.p95.estimate is None:
        return "–"
    return f"{1000 * latency.p50.estimate:.3g} / {1000 * latency.p95.estimate:.3g}"


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


def print_records(records: Sequence[CriticRecord]) -> None:
    """Print tables of validity, trust and cost, and what did not go as asked for."""
    if not records:
        return
    console = _console()
    suite = records[0].suite
    cells = list(VALIDITY)
    coverage = {record.validity.scores[POOLED].coverage.estimate for record in records}
    if len(coverage) > 1:
        scoring = [r for r in records if r.validity.scores[POOLED].answered]
        common = common_errors({record.bench_hash: record.rows for record in scoring})
        nothing = Estimate(estimate=None)
        cells.insert(
            2, ("MAE where\nall scored", lambda r: _number(common.get(r.bench_hash, nothing)))
        )
    title = f"{suite.name} {suite.content_hash[:8]} · {suite.slots} slots"
    caption = "all four scores against the closed forms; wrong and unseen: steps of the series"
    _table(console, f"Validity · {title}", caption, cells, records)
    caption = (
        "noise: mean |difference| of two answers; households to batch: the same when a market is "
        "put otherwise; reached: scores moved by names and titles; lift: by a note that training "
        "never has; ≡ by construction, · not applicable, const.: it says the same of every market"
    )
    _table(console, f"Trust · {title}", caption, TRUST, records)
    caption = (
        "milliseconds per slot that is scored alone, cold: for the first time, warm: once more"
    )
    _table(console, f"Cost · {title}", caption, COST, records)
    for record in records:
        for note in record.notes:
            print(f"peerwatt: warning: {shown(record.label, 60)}: {note}.", file=sys.stderr)


def _table(
    console: Console, title: str, caption: str, cells: Cells, records: Sequence[CriticRecord]
) -> None:
    table = Table(
        title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("critic", overflow="fold", min_width=14, max_width=30)
    for head, _ in cells:
        table.add_column(head, justify="right", no_wrap=True)
    for record in records:
        table.add_row(Text(record.label), *(cell(record) for _, cell in cells))
    console.print(table)


def print_influence(rows: Sequence[Influenced]) -> None:
    """Print what one training came to under each critic."""
    if not rows:
        return
    first = rows[0].found
    table = Table(
        title=f"Influence · {first.algorithm} on {first.task} · {first.mechanism}, "
        f"seeds: {len(first.none.seeds)}, agent-steps: {first.budget:,}",
        caption="IQM over seeds, and in brackets the 95 % interval of the difference to none",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("critic", overflow="fold", min_width=14, max_width=30)
    for name in INFLUENCES:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    rule = next((row.found.against_none for row in rows if row.label == "rule"), {})
    arms: list[tuple[str, Arm, dict[str, Estimate]]] = [
        ("none", first.none, {}),
        ("rule", first.rule, rule),
        *(
            (row.label, row.found.critic, row.found.against_none)
            for row in rows
            if row.name not in REFERENCES
        ),
    ]
    for label, arm, against in arms:
        cells = []
        for name in INFLUENCES:
            text = _number(arm.iqm[name])
            difference = against.get(name)
            if difference is not None and difference.low is not None:
                text += f" [{difference.low:+.3f}, {difference.high:+.3f}]".replace("-", "−")
            cells.append(text)
        table.add_row(Text(label), *cells)
    _console().print(table)
