"""Many runs at once: one process per core, live progress, nothing done twice."""

from __future__ import annotations

import multiprocessing
import os
import queue
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from peerwatt.errors import PeerWattError
from peerwatt.runs.config import ResolvedRun, RunConfig, resolve
from peerwatt.runs.execute import execute, finished, warm_up
from peerwatt.runs.store import check_writable, run_folder

POLL_SECONDS = 0.2
_messages: Any = None


@dataclass(frozen=True)
class Finished:
    """Where the runs are, and which of them failed."""

    folders: list[Path]
    failures: dict[str, str]  # label -> traceback


class _Speed(ProgressColumn):
    """Agent-steps per second."""

    def render(self, task: Task) -> Text:
        if not task.fields.get("steps"):
            return Text("")
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed / 1000:,.0f} k agent-steps/s", style="cyan")


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_worker(messages: Any) -> None:
    global _messages
    _messages = messages
    # The parent stops the pool on Ctrl-C; workers need not print a traceback each.
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(index: int, config: RunConfig, results: Path) -> tuple[int, str | None, str | None]:
    """Execute one run in a worker; return its index, folder and traceback."""
    try:
        _messages.put((index, 0))
        folder = execute(resolve(config), results, lambda steps: _messages.put((index, steps)))
        return index, str(folder), None
    except PeerWattError as error:
        return index, None, str(error)
    except Exception:
        return index, None, traceback.format_exc()


def run_all(
    configs: Sequence[RunConfig],
    results: Path,
    *,
    workers: int | None = None,
    again: bool = False,
    console: Console | None = None,
) -> Finished:
    """Execute all runs of `configs` that are not in `results` yet.

    Names and options of all runs are checked before the first one starts. Each run is a process
    of its own on one core (spawned, one torch thread), so runs do not disturb each other.

    Args:
        configs: the runs; those that are finished already are left alone.
        results: folder of the results.
        workers: parallel processes; by default one per core.
        again: do finished runs again, replacing them.
        console: where progress goes.

    Raises:
        PeerWattError: bad names, options or results folder; nothing has been run then.
    """
    console = console or Console(stderr=True)
    runs = [resolve(config) for config in configs]
    check_writable(results)
    todo = [i for i, run in enumerate(runs) if again or not finished(run, results)]
    done = len(runs) - len(todo)
    if done:
        console.print(f"{done} of {len(runs)} runs are finished already (--again repeats them).")
    failures: dict[str, str] = {}
    if todo:
        for run in {runs[i].task.name: runs[i] for i in todo}.values():
            warm_up(run)
        workers = max(1, min(workers or default_workers(), len(todo)))
        failures = _run_pool([(i, configs[i]) for i in todo], runs, results, workers, console)
    folders = [run_folder(results, run) for run in runs if run.label not in failures]
    return Finished(folders, failures)


def _run_pool(
    todo: Sequence[tuple[int, RunConfig]],
    runs: Sequence[ResolvedRun],
    results: Path,
    workers: int,
    console: Console,
) -> dict[str, str]:
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    failures: dict[str, str] = {}
    # One thread per process: two torch threads on two cores only wait for each other.
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(threads)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Speed(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    try:
        with (
            progress,
            ProcessPoolExecutor(workers, context, _begin_worker, (messages,)) as pool,
        ):
            total = progress.add_task("[bold]all runs", total=len(todo))
            bars: dict[int, Any] = {}
            pending: set[Future[Any]] = {pool.submit(_work, i, c, results) for i, c in todo}
            try:
                while pending:
                    _drain(messages, progress, bars, runs)
                    for future in [future for future in pending if future.done()]:
                        pending.remove(future)
                        index, folder, trace = future.result()
                        label = runs[index].label
                        if index in bars:
                            progress.remove_task(bars.pop(index))
                        progress.advance(total)
                        if trace is not None:
                            failures[label] = trace
                        mark = "[green]done[/]  " if folder else "[red]failed[/]"
                        progress.console.print(f"{mark} {label}", highlight=False)
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list((pool._processes or {}).values()):
                    process.terminate()
                raise
    except BrokenProcessPool:
        raise PeerWattError(
            "a worker process died (out of memory?): finished runs are kept; run the same command "
            "again, perhaps with fewer --workers."
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return failures


def _drain(
    messages: Any, progress: Progress, bars: dict[int, Any], runs: Sequence[ResolvedRun]
) -> None:
    """Show what the workers reported, waiting a moment for the first message."""
    try:
        while True:
            index, steps = messages.get(timeout=POLL_SECONDS)
            if index not in bars:
                budget = runs[index].budget or None
                bars[index] = progress.add_task(runs[index].label, total=budget, steps=True)
            progress.update(bars[index], completed=steps)
    except queue.Empty:
        return
