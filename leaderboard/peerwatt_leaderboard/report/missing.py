"""What a report cannot show: runs that failed or are not finished, and seeds that are not there."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation.statistics import MIN_RUNS
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.entries import Board
from peerwatt.runs.plan import labels_of, readable_plans, resolve_all
from peerwatt.runs.store import RESULT_FILE, run_folder
from peerwatt.runs.work import FAILURE_FILE, read_attempt, read_failure

WORK = ".seed-*.work"


def unfinished(results: Path, boards: Sequence[Board], runs: Sequence[ResolvedRun]) -> list[str]:
    """Return a sentence for each run below `results` that failed or has not ended.

    Args:
        results: folder of the results.
        boards: what is in it, to name entries by.
        runs: what was planned, to name the others by.
    """
    names = _names(boards, runs)
    told = []
    for work in sorted(results.rglob(WORK)):
        place = work.relative_to(results)
        if not work.is_dir() or any(part.startswith(".") for part in place.parts[:-1]):
            continue
        seed = place.name.removeprefix(".").removesuffix(".work")
        folder = f"{place.parent.as_posix()}/{seed}"
        attempt = read_attempt(work)
        name = None if attempt is None else names.get(attempt.config_hash)
        name = f"{name} {seed.replace('-', ' ')} ({folder})" if name else folder
        sentence = f"{name} is not finished."
        if (work / FAILURE_FILE).exists():
            failed = read_failure(work)
            why = f"{FAILURE_FILE} cannot be read." if failed is None else failed.sentence
            sentence = f"{name} failed: {shown(why, 500)}"
        if (work.with_name(seed) / RESULT_FILE).exists():
            sentence += " It was begun again; shown is the run that ended before."
        told.append(shown(sentence, 1_000))
    return told


def _names(boards: Sequence[Board], runs: Sequence[ResolvedRun]) -> dict[str, str]:
    """Return hash of a configuration -> name of the entry, as shown or else as planned."""
    names = {
        entry.first.config_hash: f"{board.title} {entry.label}"
        for board in boards
        for entry in board.entries
    }
    for run, label in zip(runs, labels_of(runs), strict=True):
        names.setdefault(run.config_hash, label.rpartition(" seed ")[0])
    return names


def resolved(results: Path) -> tuple[list[ResolvedRun], list[str]]:
    """Return the runs of all plans in `results`, and a sentence for each plan that has none here.

    Such a plan names, say, a plugin that is not installed.
    """
    try:
        plans, problems = readable_plans(results)
    except PeerWattError as error:
        plans, problems = [], [str(error)]
    found: list[ResolvedRun] = []
    told = [f"What was planned cannot be told: {shown(problem, 500)}" for problem in problems]
    for plan in plans:
        try:
            found += resolve_all(plan.configs)
        except PeerWattError as error:
            entries = Counter(
                (config.task, config.algorithm, config.critic) for config in plan.configs
            )
            listed = "; ".join(
                f"{task} {algorithm}{'' if critic == 'none' else f' + {critic}'} ({count} runs)"
                for (task, algorithm, critic), count in entries.items()
            )
            files = " ".join(f"--plugin {shlex.quote(file)}" for file in plan.plugins)
            hint = f" It was made with {files}: give the report the same." if files else ""
            told.append(
                f"Plan {plan.name!r} cannot be looked up ({error}).{hint} It holds {listed}."
            )
    runs = {run_folder(results, run): run for run in found}
    return list(runs.values()), [shown(sentence, 1_000) for sentence in told]


def planned(results: Path, runs: Sequence[ResolvedRun]) -> list[str]:
    """Return a sentence for each entry of the planned `runs` that are not all in `results`."""
    told: dict[str, list[int]] = {}
    for run, label in zip(runs, labels_of(runs), strict=True):
        if not (run_folder(results, run) / RESULT_FILE).exists():
            told.setdefault(label.rpartition(" seed ")[0], []).append(run.config.seed)
    return [f"{name}: planned and not there: {_seeds(seeds)}." for name, seeds in told.items()]


def _seeds(seeds: Sequence[int]) -> str:
    """Name seeds, the first twenty of them."""
    listed = ", ".join(map(str, seeds[:20])) + (" …" if len(seeds) > 20 else "")
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listed}"


def uneven(board: Board) -> list[str]:
    """Return a sentence for each entry that lacks seeds which another entry of the task has."""
    every = sorted({result.seed for entry in board.entries for result in entry.results})
    told = []
    for entry in board.entries:
        there = {result.seed for result in entry.results}
        absent = [seed for seed in every if seed not in there]
        if absent:
            told.append(f"{board.title}, {entry.label}: lacks {_seeds(absent)}.")
    return told


def few(board: Board) -> list[str]:
    """Return a sentence for each entry that has too few runs for an interval."""
    return [
        f"{board.title}, {entry.label}: {len(entry.runs)} run{'s' if len(entry.runs) > 1 else ''}; "
        f"an interval and a rank need {MIN_RUNS}."
        for entry in board.entries
        if len(entry.runs) < MIN_RUNS
    ]


def noted(boards: Sequence[Board]) -> list[str]:
    """Return what the runs noted of themselves, each note with how many runs told it."""
    notes = Counter(
        (f"{board.title}, {entry.label}", note)
        for board in boards
        for entry in board.entries
        for result in entry.results
        for note in result.notes
    )
    return [
        shown(f"{place}: {note}" + (f" ({count} runs)" if count > 1 else ""), 1_000)
        for (place, note), count in sorted(notes.items())
    ]
