"""What `peerwatt run` and `resume` have in common: show the plan, carry it out."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peerwatt.cli.report import finish
from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import Forecast
from peerwatt.plugins.loader import FILES
from peerwatt.runs.config import ResolvedRun, check_critic
from peerwatt.runs.estimate import ASSUMED_SPEED, Estimate, estimate
from peerwatt.runs.executors import CHECKPOINT_SECONDS, Executor
from peerwatt.runs.executors.in_process import InProcessExecutor
from peerwatt.runs.labels import short_count
from peerwatt.runs.live import spoken
from peerwatt.runs.plan import Plan, labels_of, resolve_all
from peerwatt.runs.runner import check_orders, most_at_once, run_all
from peerwatt.runs.state import RunState, run_state
from peerwatt.runs.store import check_writable, run_folder

EXIT_CODES = (
    "Exit codes: 0 if all runs are done, 1 if some failed, 2 for bad input, 130 if interrupted."
)


@dataclasses.dataclass(frozen=True)
class Execution:
    """How runs are executed; nothing of it changes a result."""

    workers: int | None = None
    """Runs at once; by default one per core, or what a Ray cluster has room for."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Time between two checkpoints of a run, from which it goes on when it was stopped or killed;
    0 saves as often as the algorithm offers it."""
    retries: int = 1
    """How often a run is tried again whose worker process died."""
    executor: Literal["processes", "in-process", "ray"] = "processes"
    """Where runs are executed: processes of this machine, this process itself, or a Ray cluster."""
    address: str | None = None
    """Address of the Ray cluster, HOST:PORT of its head or auto; by default one of its own."""
    run_cpus: float = 1.0
    """Cores that Ray reserves for a run."""
    run_memory: float | None = None
    """Memory that Ray reserves for a run, in GB."""
    dry_run: bool = False
    """Show the plan with its estimate, and run nothing."""

    def make(self) -> Executor | None:
        """Return the executor, None for the usual one.

        Raises:
            PeerWattError: an option of Ray without Ray, or Ray is not installed.
        """
        if self.executor == "ray":
            if find_spec("ray") is None:
                raise PeerWattError("--executor ray needs Ray: pip install 'peerwatt[ray]'.")
            from peerwatt.runs.executors.ray import RayExecutor

            ray: Executor = RayExecutor(self.address, self.run_cpus, self.run_memory)
            return ray
        given = {
            "--address": self.address,
            "--run-cpus": None if self.run_cpus == 1.0 else self.run_cpus,
            "--run-memory": self.run_memory,
        }
        for option, value in given.items():
            if value is not None:
                raise PeerWattError(f"{option} {value} is for --executor ray, not {self.executor}.")
        return InProcessExecutor() if self.executor == "in-process" else None


@dataclasses.dataclass(frozen=True)
class Survey:
    """Runs, and how far each of them is."""

    runs: list[ResolvedRun]
    labels: list[str]
    states: list[RunState]


def survey(plans: Sequence[Plan], results: Path) -> Survey:
    """Look up how far the runs of `plans` are; reads only.

    Raises:
        PeerWattError: a name is unknown or an option out of range; the sentence tells what a plan
            that was read needs.
    """
    found = []
    for plan in plans:
        try:
            found += resolve_all(plan.configs)
        except PeerWattError as error:
            missing = [file for file in plan.plugins if file not in _loaded_files()]
            hints = [str(error)]
            if missing:
                flags = " ".join(f"--plugin {shlex.quote(file)}" for file in missing)
                hints.append(f"It was made with {flags}.")
            if plan.folder not in ("", os.getcwd()):
                hints.append(f"Relative paths in it count from {plan.folder}.")
            origin = f"plan {shown(plan.name, 200)!r} of {results}: " if plan.folder else ""
            raise PeerWattError(origin + shown(" ".join(hints), 2000)) from None
    runs = list({run_folder(results, run): run for run in found}.values())
    return Survey(runs, labels_of(runs), [run_state(run, results) for run in runs])


def _loaded_files() -> list[str]:
    return os.environ.get(FILES, "").split(os.pathsep)


def carry_out(
    plans: Sequence[Plan], results: Path, execution: Execution, *, again: bool = False
) -> None:
    """Show the plans; unless it is a dry run, execute them and print what came of it.

    Args:
        plans: what the folder is to hold; those that do not stand in it yet are written there.
        results: folder of the results.
        execution: how the runs are executed.
        again: do finished runs again.
    """
    check_orders(execution.workers, execution.retries, execution.checkpoint_seconds)
    executor = execution.make()
    found = survey(plans, results)
    kinds = [_kind(state, again) for state in found.states]
    at_once = execution.workers or min(most_at_once(executor, len(kinds)), max(1, len(kinds)))
    print_plan(found, kinds, results, at_once, dry_run=execution.dry_run)
    todo = [run for run, kind in zip(found.runs, kinds, strict=True) if kind != "done"]
    critics = {(run.config.critic, run.config.critic_options): run for run in todo}
    for run in critics.values():
        try:
            check_critic(run)
        except PeerWattError as error:
            if not execution.dry_run:
                raise
            print(f"peerwatt: warning: it would not start: {error}", file=sys.stderr)
    if execution.dry_run:
        return
    check_writable(results)
    for plan in plans:
        if not plan.folder:
            plan.save(results)
    try:
        done = run_all(
            [run.config for run in found.runs],
            results,
            workers=execution.workers,
            again=again,
            executor=executor,
            checkpoint_seconds=execution.checkpoint_seconds,
            retries=execution.retries,
        )
    except KeyboardInterrupt as stop:
        text = f"{stop}; " if str(stop) else ""
        raise KeyboardInterrupt(f"{text}`peerwatt resume {results}` goes on") from None
    for line in dict.fromkeys(filter(None, map(_tracked, todo))):
        print(line, file=sys.stderr)
    finish(done)


def _tracked(run: ResolvedRun) -> str:
    """Return where the sink of `run` has brought it, if it is one that tells."""
    tell = getattr(run.sink, "outcome", None)
    return shown(f"{run.config.sink}: {tell()}", 1000) if callable(tell) else ""


def print_plan(
    found: Survey, kinds: Sequence[str], results: Path, at_once: int, *, dry_run: bool
) -> None:
    """Print how many runs are done, to resume and new, and what they will take."""
    stream = sys.stdout if dry_run else sys.stderr
    console = Console(stderr=not dry_run, width=None if stream.isatty() else 100)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    names: dict[str, str] = {}
    for run, label, kind in zip(found.runs, found.labels, kinds, strict=True):
        counts[run.config_hash][kind] += 1
        names[run.config_hash] = label.rpartition(" seed ")[0]
    total = Counter(kinds)
    if len(names) > 1 or dry_run:
        columns = [kind for kind in KINDS if total[kind]]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("entry")
        for name in ("agent-steps", "seeds", *columns):
            table.add_column(name, justify="right")
        budgets = {run.config_hash: run.budget for run in found.runs}
        for digest, name in names.items():
            cells = [str(counts[digest][kind] or "–") for kind in columns]
            budget = short_count(budgets[digest]) if budgets[digest] else "–"
            table.add_row(Text(name), budget, str(counts[digest].total()), *cells)
        console.print(table)
    todo = [i for i, kind in enumerate(kinds) if kind not in ("done", "running")]
    told = ", ".join(f"{total[kind]} {kind}" for kind in KINDS if total[kind])
    line = f"{len(kinds)} run{'s' * (len(kinds) != 1)}: {told}"
    if todo:
        played = [0 if kinds[i] == "new" else found.states[i].agent_steps for i in todo]
        workers = min(at_once, len(todo))
        outlook = estimate([found.runs[i] for i in todo], played, results, workers)
        line += f"; {_time(outlook, workers)}"
        if outlook.forecast.calls:
            line += f"\n{_cost(outlook.forecast)}"
    console.print(Text(line), soft_wrap=True)


KINDS = ("done", "running", "to resume", "failed before", "new")


def _kind(state: RunState, again: bool) -> str:
    """Return one of `KINDS`."""
    if again and state.kind != "running":
        return "new"
    return {"stopped": "to resume", "failed": "failed before"}.get(state.kind, state.kind)


def _time(outlook: Estimate, workers: int) -> str:
    text = f"about {spoken(outlook.seconds)} with {workers} at once ("
    if not outlook.assumed:
        return text + "by speeds measured in this folder)"
    whose = "" if not outlook.measured else f" for {outlook.assumed} of the entries"
    return (
        f"{text}assumed{whose}: {ASSUMED_SPEED:,} agent-steps a second and core"
        f"{', without the time that models take' * bool(outlook.forecast.calls)})"
    )


def _cost(forecast: Forecast) -> str:
    dollars = "unknown $" if forecast.dollars is None else f"${forecast.dollars:,.4g}"
    return (
        f"language models: at most {forecast.calls:,} calls, {forecast.prompt_tokens:,} + "
        f"{forecast.completion_tokens:,} tokens, {dollars}, if no request fails or is repaired"
    )
