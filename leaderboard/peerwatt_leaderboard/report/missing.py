"""What a report cannot show: runs that failed or are not finished, and seeds that are not there."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation.statistics import MIN_RUNS
from peerwatt.runs.entries import Board
from peerwatt.runs.plan import labels_of, read_plans, resolve_all
from peerwatt.runs.store import RESULT_FILE, run_folder
from peerwatt.runs.work import FAILURE_FILE

WORK = ".seed-*.work"
MOST = 100_000
"""Bytes of a failure's file that are read."""


def unfinished(results: Path) -> list[str]:
    """Return a sentence for each run below `results` that failed or has not ended."""
    told = []
    for work in sorted(results.rglob(WORK)):
        place = work.relative_to(results)
        if not work.is_dir() or any(part.startswith(".") for part in place.parts[:-1]):
            continue
        seed = place.name.removeprefix(".").removesuffix(".work")
        name = f"{place.parent.as_posix()}/{seed}"
        sentence = f"{name} is not finished."
        if (work / FAILURE_FILE).exists():
            sentence = f"{name} failed: {_failure(work / FAILURE_FILE)}"
        if (work.with_name(seed) / RESULT_FILE).exists():
            sentence += " It was begun again; shown is the run that ended before."
        told.append(shown(sentence, 1_000))
    return told


def _failure(file: Path) -> str:
    """Return the sentence of a failure."""
    try:
        if file.stat().st_size > MOST:
            return f"{FAILURE_FILE} is too large to be read."
        told = json.loads(file.read_text(encoding="utf-8"))
        return shown(str(told["text"]), 500)
    except (OSError, ValueError, KeyError, TypeError):
        return f"{FAILURE_FILE} cannot be read."


def planned(results: Path) -> list[str]:
    """Return a sentence for each entry of the plans in `results` whose runs are not all there."""
    try:
        plans = read_plans(results)
        runs = resolve_all(list(dict.fromkeys(c for plan in plans for c in plan.configs)))
    except PeerWattError as error:  # say, a plugin that is not installed here
        return [f"What was planned cannot be told: {shown(str(error), 500)}"]
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
