"""`peerwatt status`: how far the runs of a results folder are."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peerwatt.cli.planning import Survey, survey
from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.labels import short_count
from peerwatt.runs.live import spoken
from peerwatt.runs.plan import Plan, labels_of, readable_plans
from peerwatt.runs.state import Kind, RunState
from peerwatt.runs.store import RESULT_FILE, run_folder
from peerwatt.runs.work import read_failure

KINDS: tuple[Kind, ...] = ("done", "running", "stopped", "failed", "new")


@dataclasses.dataclass(frozen=True)
class StatusOptions:
    """Show how far the runs of a results folder are: done, running, stopped, failed and new.

    It only reads, and may be called while other commands are at work in the folder.
    """

    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder of the results."""
    json: bool = False
    """Print one JSON object, with every run."""


def run(arguments: list[str]) -> None:
    """Print counts per entry, and what is running, stopped or failed."""
    options = tyro.cli(StatusOptions, prog="peerwatt status", args=arguments)
    plans, problems = readable_plans(options.results)
    strange = []
    states: dict[Path, tuple[ResolvedRun, RunState]] = {}
    for plan in plans:
        try:
            part = survey([plan], options.results)
        except PeerWattError as error:
            problems.append(str(error))
            strange.append(plan)
        else:
            pairs = zip(part.runs, part.states, strict=True)
            states |= {run_folder(options.results, one): (one, state) for one, state in pairs}
    for problem in problems:
        print(f"peerwatt: warning: {shown(problem, 1000)}", file=sys.stderr)
    runs = [one for one, _ in states.values()]
    found = Survey(runs, labels_of(runs), [state for _, state in states.values()])
    others = Others.found(options.results, {run_folder(options.results, one) for one in found.runs})
    if options.json:
        print(json.dumps(_content(found, options.results, others, strange), indent=1))
        return
    if not plans and not problems:
        print(f"{options.results} holds no plan, and {others.done} finished runs.")
        return
    _print(found, others, strange)


@dataclasses.dataclass(frozen=True)
class Others:
    """Runs in a results folder that are in no plan that is understood here."""

    done: int
    unfinished: list[str]
    """Their folders, below that of the results."""
    failed: dict[str, str]
    """Likewise -> why."""

    @classmethod
    def found(cls, results: Path, planned: set[Path]) -> Others:
        """Look for them; `planned` are the folders of the runs in plans."""
        finished = {file.parent for file in results.glob(f"*/*/seed-*/{RESULT_FILE}")}
        unfinished, failed = [], {}
        for work in sorted(results.glob("*/*/.seed-*.work")):
            folder = work.with_name(work.name.removeprefix(".").removesuffix(".work"))
            name = folder.relative_to(results).as_posix()
            if folder in planned:
                continue
            failure = read_failure(work)
            if failure is None:
                unfinished.append(name)
            else:
                failed[name] = failure.sentence
        return cls(len(finished - planned), unfinished, failed)

    def __str__(self) -> str:
        counts = {
            "done": self.done,
            "running or stopped": len(self.unfinished),
            "failed": len(self.failed),
        }
        return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def _content(
    found: Survey, results: Path, others: Others, strange: Sequence[Plan]
) -> dict[str, Any]:
    """Return what `--json` prints."""
    runs = []
    for one, label, state in zip(found.runs, found.labels, found.states, strict=True):
        runs.append(
            {
                "run": label,
                "folder": run_folder(results, one).as_posix(),
                "config_hash": one.config_hash,
                "seed": one.config.seed,
                "state": state.kind,
                "agent_steps": state.agent_steps,
                "budget": one.budget,
                "seconds": state.seconds,
                "failure": state.failure,
                "where": state.where,
            }
        )
    counts = Counter(state.kind for state in found.states)
    return {
        "results": results.as_posix(),
        "counts": {kind: counts[kind] for kind in KINDS},
        "unplanned": {
            "done": others.done,
            "unfinished": others.unfinished,
            "failed": others.failed,
        },
        "plans_not_understood": [
            {"name": plan.name, "runs": len(plan.configs), "plugins": list(plan.plugins)}
            for plan in strange
        ],
        "runs": runs,
    }


def _print(found: Survey, others: Others, strange: Sequence[Plan]) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=120)
    total = Counter(state.kind for state in found.states)
    columns = [kind for kind in KINDS if total[kind]]
    counts: dict[str, Counter[Kind]] = defaultdict(Counter)
    names = {}
    for one, label, state in zip(found.runs, found.labels, found.states, strict=True):
        counts[one.config_hash][state.kind] += 1
        names[one.config_hash] = label.rpartition(" seed ")[0]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("entry")
    for title in ("seeds", *columns):
        table.add_column(title, justify="right")
    for digest, name in names.items():
        cells = [str(counts[digest][kind] or "–") for kind in columns]
        table.add_row(Text(name), str(counts[digest].total()), *cells)
    if names:
        console.print(table)
    for one, label, state in zip(found.runs, found.labels, found.states, strict=True):
        if state.kind in ("running", "stopped"):
            console.print(Text(f"{state.kind:<8} {label}{_progress(one.budget, state)}"))
        elif state.kind == "failed":
            console.print(
                Text(f"failed   {label}: {shown(state.failure or 'unknown')}"), soft_wrap=True
            )
    for name, why in others.failed.items():
        console.print(Text(f"failed   {shown(name)}: {shown(why)}"), soft_wrap=True)
    told = [f"{len(found.runs)} runs: " + ", ".join(f"{total[kind]} {kind}" for kind in columns)]
    told = told if found.runs else []
    for plan in strange:
        told.append(f"{len(plan.configs)} runs of plan {shown(plan.name)!r}, not understood here")
    if more := str(others):
        whose = "of these or of no plan" if strange else "in no plan"
        told.append(f"runs {whose}: {more}")
    console.print(Text("; ".join(told)), soft_wrap=True)


def _progress(budget: int, state: RunState) -> str:
    if not budget:
        return ""
    text = f": {state.agent_steps / budget:.0%} of {short_count(budget)} agent-steps"
    if state.kind != "running" or not state.seconds or not state.agent_steps:
        return text
    speed = state.agent_steps / state.seconds
    left = spoken((budget - state.agent_steps) / speed)
    return f"{text}, {speed / 1000:,.0f} k/s, {left} left, {state.where}"
