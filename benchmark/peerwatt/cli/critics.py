"""`peerwatt critics bench`: measure critics, and print how they compare."""

from __future__ import annotations

import dataclasses
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
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

from peerwatt.cli.critic_tables import Influenced, brief, print_influence, print_records
from peerwatt.cli.options import agent_steps, check_seeds
from peerwatt.criticbench.bench import Bench, write_record
from peerwatt.criticbench.influence import Training, influence
from peerwatt.criticbench.record import CriticRecord, Influence
from peerwatt.criticbench.subject import examined
from peerwatt.criticbench.suite import load_suite
from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.executors import Failure
from peerwatt.runs.store import check_writable

IN_TRAINING = {
    "distilled": "answers nothing until it has learned from thousands of slots of a training",
    "replay": "answers only what the training asked that it recorded",
}
"""Critics of which a suite of slots can tell nothing -> why."""


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
    for subject in subjects:
        if (why := IN_TRAINING.get(subject.record.name)) and not trainings:
            raise PeerWattError(
                f"--critic {shown(subject.record.name)} {why}, so that no suite can measure it; "
                "name a task with --influence to see what a training under it comes to."
            )
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
        if subject.record.name not in IN_TRAINING
    ]
    check_writable(options.results)
    done, problems = _measure(benches)
    failures: dict[str, Failure] = {}
    measured = {bench.subject: bench for bench in benches if bench in done}
    chosen = [s for s in subjects if s in measured or s.record.name in IN_TRAINING]
    tables: dict[Training, list[Influenced]] = defaultdict(list)
    for training in trainings if chosen else ():
        found, failed = influence(training, chosen, options.results, again=options.again)
        failures |= failed
        for subject, one in zip(chosen, found, strict=True):
            if one is None:
                continue
            tables[training].append(Influenced(subject.label, subject.record.name, one))
            if (bench_ := measured.get(subject)) is not None:
                done[bench_] = _with_influence(done[bench_], one)
                write_record(bench_.file, done[bench_])
    print_records(list(done.values()))
    for rows in tables.values():
        print_influence(rows)
    for bench_ in measured.values():
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
        TextColumn("answers"),
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
            label = shown(bench_.subject.label, 200)
            short = brief(label)
            bar = progress.add_task(short, total=bench_.size)
            try:
                done[bench_] = bench_.run(partial(_advance, progress, bar, short))
                progress.update(bar, description=short)
            except PeerWattError as error:
                problems.append(f"{label}: {error}")
                progress.update(bar, description=f"{short} [red]stopped")
    return done, problems


def _advance(progress: Progress, bar: TaskID, label: str, phase: str, slots: int) -> None:
    progress.update(bar, advance=slots, description=f"{label} [cyan]{phase}")


def _with_influence(record: CriticRecord, found: Influence) -> CriticRecord:
    """Return `record` with `found` in place of an earlier one of the same training."""

    def key(one: Influence) -> tuple[object, ...]:
        return one.task, one.task_hash, one.algorithm, one.mechanism, one.budget, one.none.seeds

    others = [one for one in record.influence if key(one) != key(found)]
    return record.model_copy(update={"influence": [*others, found]})
