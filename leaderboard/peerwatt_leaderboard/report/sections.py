"""What the report is about: each task, and each set of tasks that some entries have in common.

No number of an entry depends on any other entry: welfare is 0 at grid-only and 1 at the optimum,
whoever else plays, and every bootstrap has a generator of its own, seeded by the configuration.
Only ranks, fronts and probabilities of improvement compare, and each of these pairwise.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from peerwatt.evaluation.statistics import RESAMPLES, Interval, bootstrap_iqm, ranks
from peerwatt.runs.entries import Board, Entry
from peerwatt.runs.result import PluginRecord, TaskRecord, configuration_hash
from peerwatt.runs.summary import (
    CURVE_RESAMPLES,
    MEASURES,
    WELFARE,
    CurveBand,
    Row,
    Summary,
    order,
    rows_of,
    run_values,
)
from peerwatt_leaderboard.site import slug, unique

Floats = NDArray[np.float64]

ANY_TASK = TaskRecord(name="any-v1", content_hash="0" * 64, households=1, slots=1)
POINTS = 21
"""Points of a learning curve over tasks."""


@dataclass(frozen=True)
class Section:
    """One task, or several together."""

    title: str
    identifier: str
    tasks: tuple[TaskRecord, ...]
    mechanism: PluginRecord
    rows: list[Row]
    """Best first; over tasks, those of the entries that were played on all of them."""
    scores: Mapping[str, Floats]
    """Label -> welfare of each run and task, [R, T]; an entry with an undefined one is absent."""
    keys: Mapping[str, str]
    """Label -> what the generators of an entry's bootstraps are seeded by."""
    left_out: tuple[str, ...]
    """A sentence for each entry that could have been here and is not."""


def sections_of(boards: Sequence[Board]) -> list[Section]:
    """Return a section for each set of several tasks, larger sets first, and for each board."""
    taken = Counter[str]()
    return [*_over_tasks(boards, taken), *(_of_board(board, taken) for board in boards)]


def generator_of(key: str) -> np.random.Generator:
    """Return a generator that depends on `key` alone: same input, same report."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    )


def _of_board(board: Board, taken: Counter[str]) -> Section:
    rows = rows_of(board)
    scores, left_out = {}, []
    for row in rows:
        seeds = row.summaries[WELFARE.key].seeds
        if None in seeds:
            left_out.append(
                f"{row.entry.label}: the welfare of {seeds.count(None)} of {len(seeds)} runs is "
                "undefined, so it is in no profile and no comparison."
            )
        else:
            scores[row.entry.label] = np.array(seeds, dtype=np.float64)[:, None]
    return Section(
        title=board.title,
        identifier=unique(slug(board.title), taken),
        tasks=(board.task,),
        mechanism=board.mechanism,
        rows=rows,
        scores=scores,
        keys={row.entry.label: row.entry.first.config_hash for row in rows},
        left_out=tuple(left_out),
    )


def _over_tasks(boards: Sequence[Board], taken: Counter[str]) -> Iterator[Section]:
    """Yield a section for each set of boards on which some configuration was played.

    In it are all configurations that were played on each of these boards, on others too or not, so
    a newcomer may add a section and changes none.
    """
    played: dict[str, dict[int, Entry]] = {}
    for index, board in enumerate(boards):
        for entry in board.entries:
            played.setdefault(_configuration(entry), {})[index] = entry
    sets = {tuple(sorted(entries)) for entries in played.values() if len(entries) > 1}
    for indices in sorted(sets, key=lambda indices: (-len(indices), indices)):
        members, left_out = {}, []
        for key, entries in sorted(played.items()):
            if not set(indices) <= entries.keys():
                continue
            chosen = [entries[index] for index in indices]
            counts = [len(entry.runs) for entry in chosen]
            if len(set(counts)) > 1:
                told = ", ".join(
                    f"{count} on {boards[index].title}"
                    for index, count in zip(indices, counts, strict=True)
                )
                left_out.append(f"{chosen[0].label}: has not as many runs on each task ({told}).")
            else:
                members[key] = chosen
        if members:
            yield _pooled([boards[index] for index in indices], members, left_out, taken)


def _configuration(entry: Entry) -> str:
    """Return the hash of an entry's configuration, whatever the task; the mechanism counts."""
    first = entry.first
    return configuration_hash(
        task=ANY_TASK,
        mechanism=first.mechanism,
        algorithm=first.algorithm,
        critic=first.critic,
        shaping=first.shaping,
        budget=first.budget,
        validations=first.validations,
    )


def _pooled(
    boards: Sequence[Board],
    members: Mapping[str, Sequence[Entry]],
    left_out: list[str],
    taken: Counter[str],
) -> Section:
    """Return the section of several boards."""
    titles = [board.title for board in boards]
    place = "/".join(board.task.content_hash for board in boards)
    rows, scores, keys = [], {}, {}
    taken_labels = Counter[str]()
    for key, entries in members.items():
        label = unique(entries[0].label, taken_labels)
        keys[label] = f"{key}/{place}"
        values = [[run_values(result) for result in entry.results] for entry in entries]
        summaries = {}
        for measure in MEASURES:
            cells = [[run[measure.key] for run in of_task] for of_task in values]
            runs = np.array(cells, dtype=np.float64).T  # None becomes NaN; [R, T]
            interval = None
            if not np.isnan(runs).any():
                generator = generator_of(f"{keys[label]}/{measure.key}")
                interval = bootstrap_iqm(runs, generator, resamples=RESAMPLES)
            summaries[measure.key] = Summary(
                seeds=tuple(value for of_task in cells for value in of_task), interval=interval
            )
            if measure is WELFARE and interval is not None:
                scores[label] = runs
        if label not in scores:
            left_out.append(
                f"{label}: the welfare of some run is undefined, so it is not compared."
            )
        rows.append(
            Row(
                entry=Entry(runs=entries[0].runs, label=label),
                rank=None,
                summaries=summaries,
                curve=_curve(entries, keys[label]),
                others={},
            )
        )
    by_key = {keys[label]: values for label, values in scores.items()}
    places = ranks(by_key, np.random.default_rng(0))
    ranked = [replace(row, rank=places.get(keys[row.entry.label])) for row in rows]
    return Section(
        title=f"Over {', '.join(titles[:-1])} and {titles[-1]}",
        identifier=unique(slug(f"over {' '.join(titles)}"), taken),
        tasks=tuple(board.task for board in boards),
        mechanism=boards[0].mechanism,
        rows=sorted(ranked, key=order),
        scores=scores,
        keys=keys,
        left_out=tuple(left_out),
    )


def _curve(entries: Sequence[Entry], key: str) -> CurveBand | None:
    """Aggregate the learning curves of all runs on all tasks, linear between two validations.

    It spans what all runs have in common: nothing if one has no validation with a welfare.
    """
    curves: list[list[tuple[Floats, Floats]]] = []
    for entry in entries:
        of_task = []
        for result in entry.results:
            points = [(p.agent_steps, p.welfare) for p in result.curve if p.welfare is not None]
            if not points:
                return None
            steps, values = np.array(points, dtype=np.float64).T
            of_task.append((steps, values))
        curves.append(of_task)
    every = list(itertools.chain.from_iterable(curves))
    start = max(steps[0] for steps, _ in every)
    stop = min(steps[-1] for steps, _ in every)
    if start > stop:
        return None
    grid = np.linspace(start, stop, POINTS) if start < stop else np.array([start])
    values = np.array([[np.interp(grid, *curve) for curve in of_task] for of_task in curves])
    intervals: list[Interval] = [
        bootstrap_iqm(
            values[:, :, index].T, generator_of(f"{key}/curve"), resamples=CURVE_RESAMPLES
        )
        for index in range(grid.size)
    ]
    return CurveBand(steps=tuple(grid.tolist()), intervals=tuple(intervals))
