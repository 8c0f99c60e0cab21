"""What a report says, before it is written as HTML or as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from peerwatt.evaluation.statistics import MIN_RUNS
from peerwatt.runs.entries import Board
from peerwatt.runs.result import RunResult
from peerwatt.runs.summary import FAIRNESS, Measure
from peerwatt_leaderboard import charts
from peerwatt_leaderboard.drawing import Style
from peerwatt_leaderboard.report import comparisons, grids, missing, plots
from peerwatt_leaderboard.report.grids import Grid
from peerwatt_leaderboard.report.sections import Section, sections_of


@dataclass(frozen=True)
class Plot:
    """A picture, as SVG."""

    key: str
    """Unique in its section."""
    title: str
    svg: str


@dataclass(frozen=True)
class Figure:
    """A plot, or several to choose from, with the numbers that it shows."""

    key: str
    title: str
    caption: str
    plots: tuple[Plot, ...]
    grid: Grid


@dataclass(frozen=True)
class Chapter:
    """A section, ready to be written."""

    identifier: str
    title: str
    facts: str
    over_tasks: bool
    table: Grid
    variants: Grid
    """Without rows where no two entries bear the same names."""
    figures: tuple[Figure, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """All that is written."""

    facts: str
    chapters: tuple[Chapter, ...]
    absent: tuple[tuple[str, tuple[str, ...]], ...]
    """Headings of what is missing, each with its sentences."""


NO_GRID = Grid("", (), ())
"""For a plot whose numbers are in the table of the chapter."""
METHOD = (
    "Welfare is 0 at grid-only (no trade, batteries idle) and 1 at the perfect-foresight optimum, "
    "whoever else is here: no entry changes the numbers of another. All are computed from the "
    "episodes of the test split, played once after training.",
    "Values are interquartile means over runs with nominal 95 % intervals (bootstrap, stratified "
    "by task; profiles and probabilities of improvement: score intervals). They cover the truth "
    f"less often with few runs, so that an entry with fewer than {MIN_RUNS} has none and no rank; "
    "one without width means that all runs are equal.",
    "A rank is 1 + the number of entries that are better by an interval of the difference above 0, "
    "without correction for multiple comparisons.",
)


def report_of(results: Path, boards: Sequence[Board]) -> Report:
    """Return the report on `boards`, which were read from the folder `results`."""
    sections = sections_of(boards)
    single = [section.rows for section in sections if len(section.tasks) == 1]
    styles = charts.styles_of(single)
    runs, unknown = missing.resolved(results)
    absent = {
        "Failed or not finished": missing.unfinished(results, boards, runs),
        "Planned and not there": [*unknown, *missing.planned(results, runs)],
        "Seeds that others have": [line for board in boards for line in missing.uneven(board)],
        "Too few runs for intervals": [line for board in boards for line in missing.few(board)],
        "Notes of the runs": missing.noted(boards),
    }
    return Report(
        facts=_facts(boards),
        chapters=tuple(_chapter(section, styles) for section in sections),
        absent=tuple((heading, tuple(lines)) for heading, lines in absent.items() if lines),
    )


def _facts(boards: Sequence[Board]) -> str:
    """Say what was reported on: how much, made by what, until when."""
    results = [result for board in boards for e in board.entries for result in e.results]
    tasks = sorted({(board.task.name, board.task.content_hash) for board in boards})
    versions = sorted({result.environment.packages.get("peerwatt", "?") for result in results})
    commits = sorted({_commit(result) for result in results} - {""})
    newest = max((result.created_utc for result in results), key=datetime.fromisoformat)
    made = f"PeerWatt {', '.join(versions)}"
    if commits:
        made += f" at commit {', '.join(commits[:5])}{' …' if len(commits) > 5 else ''}"
    return (
        f"{len(results)} run{'' if len(results) == 1 else 's'} on "
        f"{', '.join(f'{name} ({digest[:8]})' for name, digest in tasks)} · made by {made} · "
        f"the last ended on {newest[:10]}"
    )


def _commit(result: RunResult) -> str:
    commit = result.environment.git_commit
    return f"{commit[:10]}{' (changed)' if result.environment.git_dirty else ''}" if commit else ""


def _chapter(section: Section, styles: Mapping[str, Style]) -> Chapter:
    """Compute and draw all of one section."""
    rows, over_tasks = section.rows, len(section.tasks) > 1
    names = ", ".join(f"{task.name} ({task.content_hash[:8]})" for task in section.tasks)
    facts = f"mechanism {section.mechanism.name} · {names}"
    if over_tasks:
        facts = (
            f"{len(section.tasks)} tasks together, each with as many runs: {names} · mechanism "
            f"{section.mechanism.name}"
        )
    else:
        task, test = section.tasks[0], rows[0].entry.first.test
        facts = (
            f"{task.households} households · {task.slots} slots per episode · {test.episodes} test "
            f"episodes · {facts}"
        )
    times = f" × {len(section.tasks)}" if over_tasks else ""
    runs = {row.entry.label: f"{len(row.entry.runs)}{times}" for row in rows}
    left_out = list(section.left_out)
    if not grids.has_intervals(rows):
        left_out.append(f"No entry has {MIN_RUNS} runs, so there are no intervals and no ranks.")
    return Chapter(
        identifier=section.identifier,
        title=section.title,
        facts=facts,
        over_tasks=over_tasks,
        table=grids.table(rows, comparisons.gaps(section), runs),
        variants=grids.variants(rows),
        figures=tuple(_figures(section, styles)),
        left_out=tuple(left_out),
    )


def _figures(section: Section, styles: Mapping[str, Style]) -> list[Figure]:
    """Draw the figures of a section; one that would be empty is left out."""
    rows = section.rows
    figures = []

    def add(key: str, title: str, caption: str, drawn: list[Plot], grid: Grid) -> None:
        if drawn:
            figures.append(Figure(key, title, caption, tuple(drawn), grid))

    add(
        "welfare",
        "Welfare",
        "Interquartile mean over runs with its 95 % interval; grid-only is 0, the optimum 1. The "
        "numbers are in the table above.",
        [Plot("welfare", "Welfare", plots.intervals(rows, styles))],
        NO_GRID,
    )
    chances = comparisons.chances(section)
    svg = plots.matrix(rows, chances, styles)
    add(
        "improvement",
        "Probability of improvement",
        "How likely a run of the row has more welfare than one of the column; ties count half. "
        "Bold: the interval does not hold ½.",
        [Plot("improvement", "Probability of improvement", svg)] if svg else [],
        grids.matrix(rows, chances),
    )
    found = comparisons.profiles(section)
    svg = plots.profiles(rows, found, styles)
    add(
        "profiles",
        "Performance profiles",
        "How reliably runs get far: the share of all runs above each welfare; further right and "
        "higher is better. Bands are pointwise 95 % intervals; grid-only is left out.",
        [Plot("profiles", "Performance profiles", svg)] if svg else [],
        grids.profiles(rows, found),
    )
    identifiers = {row.entry.label: f"{section.identifier}-entries" for row in rows}
    svg = charts.curves(rows, styles, identifiers)
    over = "; both tasks together" if len(section.tasks) == 2 else "; all tasks together"
    add(
        "curves",
        "Sample efficiency",
        "Welfare on the validation split while training: line = interquartile mean over runs, band "
        "= 95 % interval, level grey lines = scripted traders, which do not learn"
        f"{over if len(section.tasks) > 1 else ''}.",
        [Plot("curves", "Sample efficiency", svg)] if svg else [],
        grids.curves(rows),
    )
    standings = {measure.key: comparisons.front(rows, measure) for measure in FAIRNESS}
    add(
        "front",
        "Welfare against fairness",
        "Up and right is better; whiskers are 95 % intervals; the stair joins the front, the "
        "entries that no other beats in both. Fairness alone is worth little: equally nothing is "
        "not fair.",
        [
            Plot(
                f"front-{measure.key.replace('_', '-')}",
                measure.title,
                charts.scatter(
                    rows, measure, styles, identifiers, front=_front(standings[measure.key])
                ),
            )
            for measure in _drawn(section)
        ],
        grids.fronts(rows, standings),
    )
    return figures


def _front(standings: Mapping[str, comparisons.Standing]) -> list[str]:
    return [label for label, standing in standings.items() if standing == "yes"]


def _drawn(section: Section) -> list[Measure]:
    """Return the fairness measures that some entry but grid-only has."""
    return [
        measure
        for measure in FAIRNESS
        if any(
            row.interval(measure) is not None and not charts.is_grid_only(row)
            for row in section.rows
        )
    ]
