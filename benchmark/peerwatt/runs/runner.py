"""Many runs at once: one process per core, live progress, nothing done twice."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import registry
from peerwatt.runs.config import ResolvedRun, RunConfig, check_critic, resolve
from peerwatt.runs.execute import execute, finished, warm_up
from peerwatt.runs.store import check_writable, run_folder

POLL_SECONDS = 0.2
_messages: Any = None


@dataclass(frozen=True)
class Failure:
    """Why a run failed: the sentence of a `PeerWattError`, or a traceback."""

    text: str
    bad_input: bool


@dataclass(frozen=True)
class Finished:
    """Where the runs are, and which of them failed."""

    folders: list[Path]
    failures: dict[str, Failure]  # by label


class _AgentSteps(ProgressColumn):
    """Agent-steps played and wanted, and how many a second."""

    def render(self, task: Task) -> Text:
        if not task.total:
            return Text("scripted")
        text = f"{task.completed / 1e6:.2f}/{task.total / 1e6:.2f} M agent-steps"
        speed = task.finished_speed or task.speed
        return Text(text if speed is None else f"{text}, {speed / 1000:,.0f} k/s", style="cyan")


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_worker(messages: Any) -> None:
    global _messages
    _messages = messages
    registry()  # before a configuration with a plugin's own types is unpickled
    threading.Thread(target=_follow_parent, daemon=True).start()
    # Leave through `finally`, so that no draft is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # The parent stops the pool on Ctrl-C; workers need not print a traceback each.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _follow_parent() -> None:
    """End this worker when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _work(index: int, config: RunConfig, results: Path, again: bool) -> tuple[int, Failure | None]:
    """Execute one run in a worker; return its index, and what went wrong."""
    try:
        _messages.put((index, 0, 0))
        run = resolve(config)
        execute(run, results, lambda *done: _messages.put((index, *done)), again=again)
        return index, None
    except PeerWattError as error:
        return index, Failure(str(error), bad_input=True)
    except MemoryError as error:
        sentence = f"not enough memory ({error}): lower num_envs, sizes or --workers."
        return index, Failure(sentence, bad_input=True)
    except SystemExit:
        os._exit(1)  # the pool would take it for a result and wait for more work
    except Exception:
        return index, Failure(traceback.format_exc(), bad_input=False)


def run_all(
    configs: Sequence[RunConfig],
    results: Path,
    *,
    workers: int | None = None,
    again: bool = False,
    console: Console | None = None,
) -> Finished:
    """Execute all runs of `configs` that are not in `results` yet.

    Names and options of all runs are checked before the first one starts; what only the algorithm
    can tell, such as a budget too small for it, fails that run. Critics that have a method `check`
    look for what would fail them, such as a missing key, if anything is to be run. Each run is a
    process of its own on one core (spawned, one torch thread), so runs do not disturb each other.

    Args:
        configs: the runs; those that are finished already are left alone.
        results: folder of the results.
        workers: parallel processes; by default one per core.
        again: do finished runs again, replacing them.
        console: where progress goes.

    Raises:
        PeerWattError: bad names, options or results folder, or a critic that cannot work; nothing
            has been run then.
    """
    console = console or Console(stderr=True)
    if workers is not None and workers < 1:
        raise PeerWattError(f"--workers {workers} must be at least 1.")
    configs = list(dict.fromkeys(configs))
    runs = [resolve(config) for config in configs]
    check_writable(results)
    todo = [i for i, run in enumerate(runs) if again or not finished(run, results)]
    done = len(runs) - len(todo)
    if done:
        sinks = " and tell no sink" if any(config.sink for config in configs) else ""
        console.print(
            f"{done} of {len(runs)} runs are finished already{sinks} (--again repeats them)."
        )
    failures: dict[str, Failure] = {}
    if todo:
        critics = {(configs[i].critic, configs[i].critic_options): runs[i] for i in todo}
        for run in critics.values():
            check_critic(run)
        for run in {runs[i].task.name: runs[i] for i in todo}.values():
            warm_up(run)
        workers = max(1, min(workers or default_workers(), len(todo)))
        chosen = [(i, configs[i]) for i in todo]
        failures = _run_pool(chosen, runs, results, workers, again, console)
    folders = [run_folder(results, run) for run in runs if run.label not in failures]
    return Finished(folders, failures)


class _Live:
    """The bars: one over all agent-steps, and one for each run in progress."""

    def __init__(self, progress: Progress, runs: dict[int, ResolvedRun]) -> None:
        self.progress = progress
        self._runs = runs
        self._played = dict.fromkeys(runs, 0)
        self._bars: dict[int, TaskID] = {}
        self._ended: set[int] = set()
        self._total = progress.add_task("", total=sum(run.budget for run in runs.values()))
        self._show_total()

    def played(self, index: int, steps: int, calls: int) -> None:
        """Take in that run `index` has played `steps` agent-steps, its critic made `calls`."""
        if index in self._ended:  # a message that its result overtook
            return
        run = self._runs[index]
        if index not in self._bars:
            self._bars[index] = self.progress.add_task(run.label, total=run.budget)
        self._played[index] = steps
        told = f", {calls:,} calls" if calls else ""
        self.progress.update(self._bars[index], completed=steps, description=f"{run.label}{told}")
        self._show_total()

    def ended(self, index: int, succeeded: bool) -> None:
        """Take in that run `index` is over."""
        self._ended.add(index)
        self._played[index] = self._runs[index].budget
        if index in self._bars:
            self.progress.remove_task(self._bars.pop(index))
        mark = "[green]done[/]  " if succeeded else "[red]failed[/]"
        self.progress.console.print(f"{mark} {self._runs[index].label}", highlight=False)
        self._show_total()

    def _show_total(self) -> None:
        self.progress.update(
            self._total,
            completed=sum(self._played.values()),
            description=f"[bold]{len(self._ended)}/{len(self._runs)} runs",
        )


def _run_pool(
    todo: Sequence[tuple[int, RunConfig]],
    runs: Sequence[ResolvedRun],
    results: Path,
    workers: int,
    again: bool,
    console: Console,
) -> dict[str, Failure]:
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    failures: dict[str, Failure] = {}
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _AgentSteps(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    try:
        with (
            _one_thread_per_process(),
            progress,
            ProcessPoolExecutor(workers, context, _begin_worker, (messages,)) as pool,
        ):
            try:
                live = _Live(progress, {i: runs[i] for i, _ in todo})
                pending: list[Future[Any]] = [
                    pool.submit(_work, i, config, results, again) for i, config in todo
                ]
                while pending:
                    with contextlib.suppress(queue.Empty):
                        while True:
                            live.played(*messages.get(timeout=POLL_SECONDS))
                    for future in [future for future in pending if future.done()]:
                        pending.remove(future)
                        index, failure = future.result()
                        if failure is not None:
                            failures[runs[index].label] = failure
                        live.ended(index, failure is None)
            except KeyboardInterrupt:
                processes = list((pool._processes or {}).values())  # shutdown forgets them
                pool.shutdown(wait=False, cancel_futures=True)
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.join()
                raise
    except BrokenProcessPool:
        raise PeerWattError(
            "a worker process died (out of memory?): finished runs are kept; run the same command "
            "again, perhaps with fewer --workers."
        ) from None
    return failures


@contextlib.contextmanager
def _one_thread_per_process() -> Iterator[None]:
    """Let spawned workers use one thread each: two on two cores only wait for each other."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
