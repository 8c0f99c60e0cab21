"""The tables of `peerwatt critics bench`."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peerwatt.criticbench.influence import REFERENCES
from peerwatt.criticbench.measures import (
    common_errors,
    constant,
    repeats_tell_nothing,
    slots_of,
    verdict,
)
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
from peerwatt.evaluation.statistics import MIN_RUNS

WIDE = 144
MEANING = "what the columns mean: docs/llm-critics.md#columns"
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


def worded(label: str) -> str:
    """Return a critic's label with spaces where a table may break it."""
    return label.replace(":", ": ", 1).replace(",", ", ") if "{" not in label else label


def brief(label: str) -> str:
    """Return a critic's label as a line of a progress bar holds it, cut between words."""
    return textwrap.shorten(worded(label), 48, placeholder=" …")


def _labels(records: Sequence[CriticRecord]) -> dict[str, str]:
    """Return bench hash -> label; of equal ones, with the host or what else tells them apart."""
    found = {record.bench_hash: worded(record.label) for record in records}
    hosts = {
        r.bench_hash: urlsplit(str(r.critic.options.get("api_base", ""))).netloc for r in records
    }
    for more in (hosts, {digest: f"#{digest[:8]}" for digest in found}):
        counts = Counter(found.values())
        for digest, label in found.items():
            if counts[label] > 1:
                found[digest] = f"{label} {more[digest]}".strip()
    return found


def _below(estimate: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """Write an estimate with its interval in the line below."""
    text = _number(estimate, digits, signed=signed)
    if estimate.low is None or estimate.high is None:
        return text
    sign = "+" if signed else ""
    low, high = (
        f"{round(x, digits) + 0.0:{sign}.{digits}f}".replace("-", "−")
        for x in (estimate.low, estimate.high)
    )
    return f"{text}\n[{low}, {high}]"


def _percent(estimate: Estimate) -> str:
    return "–" if estimate.estimate is None else f"{100 * estimate.estimate:.1f}"


def _changed(name: str) -> Callable[[CriticRecord], str]:
    """Return what writes the change by a variant of the same market."""

    def written(record: CriticRecord) -> str:
        variant: Variant = record.invariance[name]
        if variant.status != "measured":
            return {"by-construction": "≡", "not-applicable": "·"}[variant.status]
        text = _steady(record, variant.change[POOLED])
        if name != "order" or text == "const.":
            return text
        return _below(variant.change[POOLED])

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


def _distinct(record: CriticRecord) -> str:
    pooled = record.validity.scores[POOLED]
    if pooled.distinct.estimate is None:
        return "–"
    return f"{_percent(pooled.distinct)} of {_percent(pooled.distinct_truth)}"


VALIDITY: Cells = (
    ("Answered\n%", lambda r: _percent(r.validity.scores[POOLED].coverage)),
    ("Error (MAE)\n[95 %]", lambda r: _below(r.validity.scores[POOLED].mae)),
    ("Bias", lambda r: _number(r.validity.scores[POOLED].bias, signed=True)),
    ("Spearman ρ\n[95 %]", lambda r: _below(r.validity.scores[POOLED].spearman, 2)),
    ("Kendall\nτ-b", lambda r: _number(r.validity.scores[POOLED].kendall, 2)),
    ("Kappa", lambda r: _number(r.validity.scores[POOLED].kappa, 2)),
    ("Wrong\nway %", lambda r: _percent(r.validity.violations)),
    ("Not\nseen %", lambda r: _percent(r.validity.flat)),
    ("Distinct %\nof truth's", _distinct),
    ("Slope", lambda r: _number(r.calibration.scores[POOLED].slope, 2)),
    ("ECE", lambda r: _number(r.calibration.scores[POOLED].ece)),
)
TRUST: Cells = (
    ("Test-\nretest\nSD", _repeated("sd")),
    ("Noise", _repeated("change")),
    ("ICC", lambda r: _number(r.reliability.scores[POOLED].icc, 2)),
    ("Flips\n%", _flips),
    ("Household\norder", _changed("order")),
    ("Units", _changed("units")),
    ("Para-\nphrase", _changed("paraphrase")),
    ("Slot\norder", _changed("batch")),
    ("Reachable\ntext", _reached),
    (
        "Lift, if\nexposed",
        lambda r: (
            "≡"
            if r.robustness.notes == "by-construction"
            else _below(r.robustness.lift, signed=True)
        ),
    ),
    (
        "Drift, if\nexposed",
        lambda r: "≡" if r.robustness.notes != "measured" else _below(r.robustness.drift),
    ),
)
COST: Cells = (
    ("Calls", lambda r: _calls(r.operations)),
    ("No reply\n%", lambda r: _percent(r.operations.failed_rate)),
    ("Invalid\n%", lambda r: _percent(r.operations.invalid_rate)),
    ("After\nrepair %", lambda r: _percent(r.operations.invalid_after_repair)),
    ("Refused\n%", lambda r: _percent(r.operations.refusal_rate)),
    ("Tokens in\n+ out", lambda r: _tokens(r.operations)),
    ("$ per\n1,000 calls", lambda r: _dollars(r.operations)),
    ("Latency cold\np50 / p95", lambda r: _latency(r.operations.cold)),
    ("Latency warm\np50 / p95", lambda r: _latency(r.operations.warm)),
    ("From\ncache %", lambda r: _percent(Estimate(estimate=r.operations.cache_hit_rate))),
)


def _calls(operations: Operations) -> str:
    cached = not operations.calls and any(usage.modelled for usage in operations.usage.values())
    return "0, cached" if cached else f"{operations.calls:,}"


def _tokens(operations: Operations) -> str:
    counts = operations.prompt_tokens_per_call, operations.completion_tokens_per_call
    return "–" if None in counts else " + ".join(f"{count:,.0f}" for count in counts)


def _dollars(operations: Operations) -> str:
    if not operations.calls:
        return "–"
    value = operations.dollars_per_1000_calls
    return "unknown" if value is None else f"{value:,.4g}"


def _latency(latency: Latency) -> str:
    if latency.p50.estimate is None or latency.p95.estimate is None:
        return "–"
    both = latency.p50.estimate, latency.p95.estimate
    unit, factor = next(
        (unit, factor)
        for unit, factor, least in (("s", 1.0, 1.0), ("ms", 1e3, 1e-3), ("µs", 1e6, 0.0))
        if both[1] >= least
    )
    return " / ".join(f"{factor * value:,.3g}" for value in both) + f" {unit}"


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
            2, ("Error where\nall answered", lambda r: _number(common.get(r.bench_hash, nothing)))
        )
    title = f"{suite.name} {suite.content_hash[:8]}"
    slots, names = slots_of(records), _labels(records)
    caption = (
        "all four scores against the closed forms; wrong way and not seen: steps of the series; "
        "distinct: different scores, of what there are of the closed forms"
    )
    _table(
        console, f"Validity · {title} · {slots['validity']} slots", caption, cells, records, names
    )
    print(
        *(f"{names[r.bench_hash]} · {verdict(r)}." for r in records), MEANING, sep="\n", end="\n\n"
    )
    caption = (
        f"SD to flips rest on {slots['repeats']} slots, household to slot order on "
        f"{slots['variants']}, lift and drift on {slots['notes']}; "
        "noise: mean |difference| of two answers; household to slot order: the same when a market "
        "is put otherwise; reachable text: scores moved by names and titles; lift and drift: by a "
        "note that training never has; [95 % interval]; ≡ by "
        "construction, · not applicable, const.: it says the same of every market"
    )
    _table(console, f"Trust · {title}", caption, TRUST, records, names)
    for record in filter(repeats_tell_nothing, records):
        print(
            f"{names[record.bench_hash]} · repeats at temperature 0 are the same question to a "
            "deterministic model: measure with temperature=1."
        )
    caption = (
        f"latency of one slot that is scored alone, on {slots['timing']} slots; cold: for the "
        "first time; warm: once more, from the cache; from cache: of questions asked "
        "again; – asks nobody"
    )
    _table(console, f"Cost · {title}", caption, COST, records, names)
    for record in records:
        for note in record.notes:
            print(f"peerwatt: warning: {shown(record.label, 60)}: {note}.", file=sys.stderr)


def _table(
    console: Console,
    title: str,
    caption: str,
    cells: Cells,
    records: Sequence[CriticRecord],
    names: Mapping[str, str],
) -> None:
    table = Table(
        title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    longest = max(len(word) for name in names.values() for word in name.split())
    table.add_column("critic", overflow="fold", min_width=min(max(14, longest), 30), max_width=30)
    for head, _ in cells:
        table.add_column(head, justify="right", no_wrap=True)
    for record in records:
        table.add_row(Text(names[record.bench_hash]), *(cell(record) for _, cell in cells))
    console.print(table)


def print_influence(rows: Sequence[Influenced]) -> None:
    """Print what one training came to under each critic."""
    if not rows:
        return
    first = rows[0].found
    table = Table(
        title=f"Influence · {first.algorithm} on {first.task} · {first.mechanism}, "
        f"seeds: {len(first.none.seeds)}, agent-steps: {first.budget:,}",
        caption=(
            "IQM over seeds; "
            + (
                "in brackets the 95 % interval of the difference to none"
                if len(first.none.seeds) >= MIN_RUNS
                else f"no intervals: they need at least {MIN_RUNS} seeds"
            )
            + "; worst off: per cent of its grid-only bill"
        ),
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
        table.add_row(Text(worded(label)), *cells)
    _console().print(table)
