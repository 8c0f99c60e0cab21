"""`peerwatt critics bench`: measure critics, and print how they compare."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from peerwatt.cli.options import agent_steps, check_seeds
from peerwatt.criticbench.bench import Bench, written
from peerwatt.criticbench.influence import REFERENCES, Training, influence
from peerwatt.criticbench.measures import common_errors
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
from peerwatt.criticbench.subject import examined
from peerwatt.criticbench.suite import load_suite
from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.runner import Failure
from peerwatt.runs.store import check_writable

WIDE = 144
INFLUENCES = ("welfare", "ftg", "fbs", "fpp", "ftb", "worst_off")


@dataclasses.dataclass(frozen=True)
class CriticsBenchOptions:
    """Measure critics on a fixed suite of cleared slots whose fairness is known.

    How valid, reliable, invariant, calibrated, robust and dear the scores of each critic are, with
    bootstrap intervals. It can be stopped and resumed: finished records are kept, and what a model
    has answered is in the cache of the results folder.
    """

    critic: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A critic with its options, such as rule or llm:model=openai/gpt-4o-mini,prompt=summary-v1;
    repeat it for each."""
    suite: str = "standard-v1"
    """Suite of slots: standard-v1, or small-v1 for slow models."""
    repeats: int = 5
    """Independent answers to the same question, for the reliability."""
    seed: int = 0
    """Seed of what critics draw themselves."""
    influence: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Task on which to train under each critic, and under none and rule; may be repeated."""
    algorithm: str = "ippo"
    """What is trained for the influence."""
    seeds: int = 5
    """Seeds of the influence."""
    budget: str = "500k"
    """Agent-steps of each run of the influence; k, M and G are understood."""
    results: Path = Path("runs")
    """Folder of the results; records go into its folder critics."""
    workers: int | None = None
    """Parallel processes of the influence; by default one per core."""
    again: bool = False
    """Measure critics again that have a record. What is in the cache is not asked anew."""


def bench(arguments: list[str]) -> None:
    """Measure the critics, write a record for each, print the tables."""
    options = tyro.cli(CriticsBenchOptions, prog="peerwatt critics bench", args=arguments)
    if not options.critic:
        raise PeerWattError(
            "no critic is named: write `peerwatt critics bench --critic rule --critic random`."
        )
    check_seeds(options.seeds)
    budget = agent_steps(options.budget)
    trainings = [
        Training(task, options.algorithm, options.seeds, budget, options.workers)
        for task in options.influence
    ]
    subjects = [examined(text) for text in dict.fromkeys(options.critic)]
    for training in trainings:
        training.check()
    suite = load_suite(options.suite)
    benches = [
        Bench(
            subject,
            suite,
            options.results,
            repeats=options.repeats,
            seed=options.seed,
            again=options.again,
        )
        for subject in subjects
    ]
    check_writable(options.results)
    done, problems = _measure(benches)
    failures: dict[str, Failure] = {}
    measured = [bench for bench in benches if bench in done]
    for training in trainings:
        chosen = [bench.subject for bench in measured]
        found, failed = influence(training, chosen, options.results, again=options.again)
        failures |= failed
        for bench_, one in zip(measured, found, strict=True):
            if one is not None:
                done[bench_] = _with_influence(done[bench_], one)
                written(bench_.file, done[bench_])
    _print(list(done.values()), trainings)
    for bench_ in measured:
        print(f"record: {bench_.file}")
    for problem in problems:
        print(f"peerwatt: {problem}", file=sys.stderr)
    for text in dict.fromkeys(failure.text for failure in failures.values()):
        labels = [label for label, failure in failures.items() if failure.text == text]
        more = f" (and {len(labels) - 1} more)" if len(labels) > 1 else ""
        print(f"peerwatt: {labels[0]}{more} failed: {text}", file=sys.stderr)
    if problems or failures:
        sys.exit(2 if all(failure.bad_input for failure in failures.values()) else 1)


def _measure(benches: Sequence[Bench]) -> tuple[dict[Bench, CriticRecord], list[str]]:
    """Carry the benchmarks out; return what came of them, and why some did not end."""
    console = Console(stderr=True)
    done: dict[Bench, CriticRecord] = {}
    problems = []
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("slots"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    finished = [bench for bench in benches if bench.finished]
    if finished:
        console.print(
            f"{len(finished)} of {len(benches)} critics have a record already (--again measures "
            "them again)."
        )
    with progress:
        for bench_ in benches:
            if bench_.finished:
                done[bench_] = bench_.run()
                continue
            label = shown(bench_.subject.label, 48)
            bar = progress.add_task(label, total=bench_.size)
            try:
                done[bench_] = bench_.run(partial(_advance, progress, bar, label))
                progress.update(bar, description=label)
            except PeerWattError as error:
                problems.append(f"{label}: {error}")
                progress.update(bar, description=f"{label} [red]stopped")
    return done, problems


def _advance(progress: Progress, bar: TaskID, label: str, phase: str, slots: int) -> None:
    progress.update(bar, advance=slots, description=f"{label} [cyan]{phase}")


def _with_influence(record: CriticRecord, found: Influence) -> CriticRecord:
    """Return `record` with `found` in place of an earlier one of the same training."""

    def key(one: Influence) -> tuple[object, ...]:
        return one.task, one.task_hash, one.algorithm, one.mechanism, one.budget, one.none.seeds

    others = [one for one in record.influence if key(one) != key(found)]
    return record.model_copy(update={"influence": [*others, found]})


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


def _changed(variant: Variant) -> str:
    if variant.status != "measured":
        return {"by-construction": "≡", "not-applicable": "·"}[variant.status]
    return _number(variant.change[POOLED])


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
    ("retest\nSD", lambda r: _number(r.reliability.scores[POOLED].sd)),
    ("noise", lambda r: _number(r.reliability.scores[POOLED].change)),
    ("ICC", lambda r: _number(r.reliability.scores[POOLED].icc, 2)),
    ("flips\n%", lambda r: _percent(r.reliability.scores[POOLED].flips)),
    ("house-\nholds", lambda r: _changed(r.invariance["order"])),
    ("units", lambda r: _changed(r.invariance["units"])),
    ("para-\nphrase", lambda r: _changed(r.invariance["paraphrase"])),
    ("batch", lambda r: _changed(r.invariance["batch"])),
    ("reached", lambda r: str(sum(field.changed for field in r.robustness.reachable))),
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
    ("calls", lambda r: f"{r.operations.calls:,}"),
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


def _tokens(operations: Operations) -> str:
    counts = operations.prompt_tokens_per_call, operations.completion_tokens_per_call
    return "–" if None in counts else " + ".join(f"{count:,.0f}" for count in counts)


def _dollars(value: float | None) -> str:
    return "–" if value is None else f"{value:,.4g}"


def _milliseconds(latency: Latency) -> str:
    if latency.p50.estimate is None or latency.p95.estimate is None:
        return "–"
    return f"{1000 * latency.p50.estimate:.3g} / {1000 * latency.p95.estimate:.3g}"


def _print(records: Sequence[CriticRecord], trainings: Sequence[Training]) -> None:
    """Print a table of validity, one of the rest, and one of each influence."""
    if not records:
        return
    console = Console() if sys.stdout.isatty() else Console(width=WIDE)
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
        "never has; ≡ by construction, · not applicable"
    )
    _table(console, f"Trust · {title}", caption, TRUST, records)
    caption = (
        "milliseconds per slot that is scored alone, cold: for the first time, warm: once more"
    )
    _table(console, f"Cost · {title}", caption, COST, records)
    for training in trainings:
        _print_influence(console, training, records)
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


def _print_influence(console: Console, training: Training, records: Sequence[CriticRecord]) -> None:
    found = [
        (record, one)
        for record in records
        for one in record.influence
        if (one.algorithm, one.budget, len(one.none.seeds))
        == (training.algorithm, training.budget, training.seeds)
        and training.task
        in (one.task, *([training.task] if training.task.endswith(".toml") else []))
    ]
    if not found:
        return
    first = found[0][1]
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
    rows: list[tuple[str, Arm, dict[str, Estimate]]] = [
        ("none", first.none, {}),
        ("rule", first.rule, next((r.against_none for c, r in found if c.label == "rule"), {})),
        *(
            (record.label, one.critic, one.against_none)
            for record, one in found
            if record.critic.name not in REFERENCES
        ),
    ]
    for label, arm, against in rows:
        cells_ = []
        for name in INFLUENCES:
            text = _number(arm.iqm[name])
            difference = against.get(name)
            if difference is not None and difference.low is not None:
                text += f" [{difference.low:+.3f}, {difference.high:+.3f}]".replace("-", "−")
            cells_.append(text)
        table.add_row(Text(label), *cells_)
    console.print(table)
