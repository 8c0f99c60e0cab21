"""Many runs at once: by an executor, with live progress, nothing done twice."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rich.console import Console

from peerwatt.errors import PeerWattError
from peerwatt.runs.config import ResolvedRun, RunConfig, check_critic
from peerwatt.runs.execute import finished, warm_up
from peerwatt.runs.executors import (
    CHECKPOINT_SECONDS,
    Began,
    Ended,
    Event,
    Executor,
    Failure,
    Job,
    Orders,
    failure_of,
)
from peerwatt.runs.executors.in_process import InProcessExecutor
from peerwatt.runs.executors.processes import ProcessExecutor
from peerwatt.runs.live import LiveView
from peerwatt.runs.locks import BeingMade, held
from peerwatt.runs.plan import labels_of, resolve_all
from peerwatt.runs.provenance import own_code
from peerwatt.runs.state import run_state
from peerwatt.runs.store import check_writable, run_folder, work_folder
from peerwatt.runs.work import prepare, record_failure


@dataclass(frozen=True)
class Finished:
    """Where the runs are, and which of them failed."""

    folders: list[Path]
    failures: dict[str, Failure]  # by label


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_at_once(executor: Executor | None, runs: int) -> int:
    """Return how many of `runs` runs are executed at once if nobody says otherwise."""
    if isinstance(executor, InProcessExecutor):
        return 1
    # One that has an address is elsewhere, and knows itself what it has room for.
    return runs if getattr(executor, "address", None) else default_workers()


def check_orders(workers: int | None, retries: int, checkpoint_seconds: float) -> None:
    """Refuse numbers that make no sense.

    Raises:
        PeerWattError: one of them does not.
    """
    for name, value, least in (
        ("--workers", workers, 1),
        ("--retries", retries, 0),
        ("--checkpoint-seconds", checkpoint_seconds, 0),
    ):
        if value is not None and not value >= least:
            raise PeerWattError(f"{name} {value} must be at least {least}.")


def run_all(
    configs: Sequence[RunConfig],
    results: Path,
    *,
    workers: int | None = None,
    again: bool = False,
    console: Console | None = None,
    executor: Executor | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    retries: int = 1,
) -> Finished:
    """Execute all runs of `configs` that are not in `results` yet.

    Names and options of all runs are checked before the first one starts; what only the algorithm
    can tell, such as a budget too small for it, fails that run, and the others go on. Critics that
    have a method `check` look for what would fail them, such as a missing key, if anything is to be
    run.

    Args:
        configs: the runs; those that are finished already are left alone.
        results: folder of the results.
        workers: how many runs at once; by default one per core of this machine, or as many as the
            executor has room for elsewhere.
        again: do finished runs again, replacing them.
        console: where progress goes.
        executor: where the runs are executed; by default in processes of this machine.
        checkpoint_seconds: least time between two checkpoints of a run.
        retries: how often a run is tried again whose worker died.

    Raises:
        PeerWattError: bad names, options or results folder, or a critic that cannot work; nothing
            has been run then.
        KeyboardInterrupt: interrupted; runs that were under way have saved a checkpoint if they do
            that at all. Its text says how many are done.
    """
    code = own_code()  # before anybody changes it while the runs are made
    console = console or Console(stderr=True)
    check_orders(workers, retries, checkpoint_seconds)
    # The last one of those that differ only in what changes no result, such as their sink.
    runs = list({run_folder(results, run): run for run in resolve_all(configs)}.values())
    labels = labels_of(runs)
    check_writable(results)
    todo: list[int] = []
    failures: dict[int, Failure] = {}
    for i, run in enumerate(runs):
        try:
            if again or not finished(run, results):
                todo.append(i)
        except PeerWattError as error:  # of this run alone: the others go on
            failures[i] = failure_of(error)
    done = len(runs) - len(todo) - len(failures)
    if done:
        sinks = (
            " (`peerwatt sync` tells a sink of them)"
            if any(run.config.sink for run in runs)
            else ""
        )
        console.print(
            f"{done} of {len(runs)} runs are finished already{sinks} (--again repeats them)."
        )
    if todo:
        critics = {(runs[i].config.critic, runs[i].config.critic_options): runs[i] for i in todo}
        for run in critics.values():
            check_critic(run)
        markets = {(runs[i].task.name, runs[i].mechanism_record.name): runs[i] for i in todo}
        for run in markets.values():
            warm_up(run)
        if again:
            for i in todo:
                _begin_anew(runs[i], results)
        jobs = [Job(i, runs[i].config, labels[i]) for i in todo]
        orders = Orders(
            results=results,
            workers=min(workers or most_at_once(executor, len(todo)), len(todo)),
            checkpoint_seconds=checkpoint_seconds,
            retries=retries,
            code=code,
        )
        view = LiveView(console, {i: (labels[i], runs[i].budget) for i in todo}, done)

        def is_done(index: int) -> bool:
            return run_state(runs[index], results).kind == "done"

        failures |= _carry_out(executor or ProcessExecutor(), jobs, orders, view, is_done)
        for index, failure in failures.items():
            if failure.lost:
                _record(runs[index], results, failure)
    folders = [run_folder(results, run) for i, run in enumerate(runs) if i not in failures]
    return Finished(folders, {labels[i]: failure for i, failure in failures.items()})


def _carry_out(
    executor: Executor,
    jobs: Sequence[Job],
    orders: Orders,
    view: LiveView,
    is_done: Callable[[int], bool],
) -> dict[int, Failure]:
    """Have the jobs executed; return what went wrong, by index."""
    running: set[int] = set()
    failures: dict[int, Failure] = {}
    if isinstance(executor, InProcessExecutor):
        executor.watch = view.take
    try:
        with view, _announced(view.console):
            try:
                events = cast(Generator[Event], executor.run(jobs, orders))
                with contextlib.closing(events):
                    for event in events:
                        view.take(event)
                        match event:
                            case Began(index):
                                running.add(index)
                            case Ended(index, failure):
                                running.discard(index)
                                if failure is not None:
                                    failures[index] = failure
            except KeyboardInterrupt:
                for index in filter(is_done, sorted(running)):  # at the end, unheard
                    view.take(Ended(index, None))
                raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{view.done} of {view.total} runs are done") from None
    return failures


def _begin_anew(run: ResolvedRun, results: Path) -> None:
    """Leave a mark that `run` is to be done anew: until it is, whoever resumes takes it up."""
    with contextlib.suppress(BeingMade), held(results, run, 0):
        try:
            prepare(run, results, again=True)
        except OSError as error:
            raise PeerWattError(
                f"cannot write {run_folder(results, run)}: {error.strerror}; name another folder "
                "with --results."
            ) from error


def _record(run: ResolvedRun, results: Path, failure: Failure) -> None:
    """Write down the failure of a run whose worker could not, unless somebody is at it again."""
    work = work_folder(results, run)
    with contextlib.suppress(PeerWattError), held(results, run, 0):
        if work.is_dir():
            record_failure(work, failure.text, failure.bad_input)


@contextlib.contextmanager
def _announced(console: Console) -> Iterator[None]:
    """Let the first signal that interrupts say that runs are saved, for that takes seconds."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        for one in before:
            signal.signal(one, signal.default_int_handler)
        console.print("stopping: runs save a checkpoint; once more kills them.")
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # What is ignored stays ignored, as in the background of a shell.
    before = {number: now for number, now in before.items() if now not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
