"""The tables of a report: one beside each plot, the same in HTML and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from peerwatt.evaluation.statistics import Interval, Profile
from peerwatt.runs.labels import Asked, differing, short_count
from peerwatt.runs.result import full_name
from peerwatt.runs.summary import FAIRNESS, MEAN_SAVING, WELFARE, Measure, Row, columns, written
from peerwatt_leaderboard.report.comparisons import Standing
from peerwatt_leaderboard.report.plots import probability_text

SHOWN_THRESHOLDS = tuple(range(0, 100, 10))
"""Thresholds of the table of profiles, in hundredths."""


class Cell(NamedTuple):
    """A number or a word, and what is written smaller behind it."""

    text: str
    more: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: its caption, the titles of its columns, and a row per entry."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def value(interval: Interval | None, measure: Measure) -> Cell:
    """Return a measure with its interval."""
    if interval is None:
        return Cell("–")
    signed = measure.key in ("operator", "market_surplus")
    text = written(interval.estimate, measure, signed=signed)
    if not interval.low < interval.high:  # no interval (NaN), or one without width
        return Cell(text)
    low, high = (written(v, measure, signed=signed) for v in (interval.low, interval.high))
    return Cell(text, f"[{low}, {high}]")


def _title(measure: Measure) -> str:
    return f"{measure.title} %" if measure.unit == "percent" else measure.title


def table(rows: Sequence[Row], gaps: Mapping[str, Interval], runs: Mapping[str, str]) -> Grid:
    """Return the table of a section: every measure of every entry.

    Args:
        rows: its entries.
        gaps: label -> by how much they miss the optimum.
        runs: label -> number of their runs.
    """
    measures = columns(rows)
    return Grid(
        caption="Interquartile mean over runs, with 95 % intervals",
        head=(
            "Rank",
            "Entry",
            "Runs",
            "Budget",
            _title(WELFARE),
            "Gap to optimum",
            *(_title(measure) for measure in measures[1:]),
        ),
        rows=tuple(
            (
                Cell("–" if row.rank is None else str(row.rank)),
                Cell(row.entry.label),
                Cell(runs[row.entry.label]),
                Cell("scripted" if row.entry.scripted else short_count(row.entry.first.budget)),
                value(row.interval(WELFARE), WELFARE),
                value(gaps.get(row.entry.label), WELFARE),
                *(value(row.interval(measure), measure) for measure in measures[1:]),
            )
            for row in rows
        ),
    )


def variants(rows: Sequence[Row]) -> Grid:
    """Return what was asked for in the entries of which others bear the same names.

    A column is an option in which entries of the same names differ.
    """
    asked = [Asked.of(row.entry.first) for row in rows]
    groups: dict[tuple[str, str], list[int]] = {}
    for place, one in enumerate(asked):
        groups.setdefault((full_name(one.algorithm), full_name(one.critic)), []).append(place)
    told: dict[int, dict[str, str]] = {}
    for places in groups.values():
        if len(places) > 1:
            found = differing([asked[place] for place in places])
            told |= dict(zip(places, found, strict=True))
    names = sorted({name for options in told.values() for name in options})
    return Grid(
        caption="What tells entries of the same names apart; the folders of the runs bear the "
        "configuration in their names",
        head=("Entry", "Configuration", "Budget", *names),
        rows=tuple(
            (
                Cell(rows[place].entry.label),
                Cell(asked[place].config_hash[:8]),
                Cell(short_count(asked[place].budget) if asked[place].budget else "scripted"),
                *(Cell(options.get(name, "")) for name in names),
            )
            for place, options in sorted(told.items())
        ),
    )


def profiles(rows: Sequence[Row], found: Mapping[str, Profile]) -> Grid:
    """Return the share of runs above some thresholds."""
    return Grid(
        caption="Share of runs with more welfare than τ, in per cent, with 95 % intervals",
        head=("Entry", *(f"τ = {hundredths / 100:.1f}" for hundredths in SHOWN_THRESHOLDS)),
        rows=tuple(
            (
                Cell(row.entry.label),
                *(_share(found[row.entry.label], hundredths) for hundredths in SHOWN_THRESHOLDS),
            )
            for row in rows
            if row.entry.label in found
        ),
    )


def _share(profile: Profile, hundredths: int) -> Cell:
    index = int(np.argmin(np.abs(profile.thresholds - hundredths / 100)))
    share, low, high = (100 * float(v[index]) for v in (profile.share, profile.low, profile.high))
    return Cell(f"{share:.0f}", f"[{low:.0f}, {high:.0f}]" if low < high else "")


def matrix(rows: Sequence[Row], found: Mapping[tuple[str, str], Interval]) -> Grid:
    """Return the probability that a run of the row has more welfare than one of the column."""
    compared = {label for pair in found for label in pair}
    labels = [row.entry.label for row in rows if row.entry.label in compared]
    return Grid(
        caption="Probability that a run of the row has more welfare than one of the column, with "
        "95 % intervals",
        head=("Entry", *(f"{index + 1} {label}" for index, label in enumerate(labels))),
        rows=tuple(
            (
                Cell(f"{index + 1} {one}"),
                *(
                    Cell("·")
                    if one == other
                    else Cell(*probability_text(found[one, other]).split(" ", 1))
                    for other in labels
                ),
            )
            for index, one in enumerate(labels)
        ),
    )


def curves(rows: Sequence[Row]) -> Grid:
    """Return welfare on the validation split after parts of the training."""
    learners = [
        (row, row.curve) for row in rows if not row.entry.scripted and row.curve is not None
    ]
    parts = (0.1, 0.25, 0.5, 0.75, 1.0)
    return Grid(
        caption="Welfare on the validation split at the validation nearest to a part of the "
        "budget, with 95 % intervals",
        head=("Entry", *(f"{part:.0%} of the budget".replace("%", " %") for part in parts)),
        rows=tuple(
            (
                Cell(row.entry.label),
                *(
                    value(
                        curve.intervals[
                            int(
                                np.argmin(
                                    np.abs(np.array(curve.steps) - part * row.entry.first.budget)
                                )
                            )
                        ],
                        WELFARE,
                    )
                    for part in parts
                ),
            )
            for row, curve in learners
        ),
    )


def fronts(rows: Sequence[Row], standings: Mapping[str, Mapping[str, Standing]]) -> Grid:
    """Return fairness beside welfare and the mean saving, and who is on which front.

    Args:
        rows: the entries.
        standings: measure -> label -> whether it is on the front.
    """
    words = {"yes": "on the front", "perhaps": "perhaps on it", "no": ""}

    def cell(row: Row, measure: Measure) -> Cell:
        made = value(row.interval(measure), measure)
        standing = standings[measure.key].get(row.entry.label, "no")
        return Cell(made.text, " ".join(filter(None, [made.more, words[standing]])))

    return Grid(
        caption="Welfare, mean saving and fairness, with 95 % intervals, and who is on the front",
        head=("Entry", *(_title(measure) for measure in (WELFARE, MEAN_SAVING, *FAIRNESS))),
        rows=tuple(
            (
                Cell(row.entry.label),
                *(value(row.interval(measure), measure) for measure in (WELFARE, MEAN_SAVING)),
                *(cell(row, measure) for measure in FAIRNESS),
            )
            for row in rows
        ),
    )


def has_intervals(rows: Sequence[Row]) -> bool:
    """Whether some entry has enough runs for intervals."""
    found = (row.interval(WELFARE) for row in rows)
    return any(interval is not None and math.isfinite(interval.low) for interval in found)
