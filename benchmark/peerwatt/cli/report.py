"""The table that ends `peerwatt run` and `peerwatt resume`."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peerwatt.errors import shown
from peerwatt.evaluation.statistics import MIN_RUNS
from peerwatt.fairness.session import CriticUsage
from peerwatt.runs.entries import Board, Entry, boards_of
from peerwatt.runs.executors import Failure
from peerwatt.runs.provenance import own_code
from peerwatt.runs.result import RunResult
from peerwatt.runs.runner import Finished
from peerwatt.runs.store import RESULT_FILE, read_result
from peerwatt.runs.summary import TABLE, columns, rows_of, written

WIDE = 118
"""Columns of text that the whole table takes; a narrower terminal gets the first measures only."""

LABEL = 26
"""Columns of text of an entry's label; a longer one takes several lines."""

MARKET_MAKER = 10
"""Columns of text more for the market maker's balance, under mechanisms that are not balanced."""


MOST_UNSCORED = 0.05
"""Share of slots that a critic may leave unscored before that is worth a warning."""


def finish(done: Finished) -> None:
    """Print one row per entry, and what failed: exit code 2 if by bad input alone, else 1."""
    console = Console() if sys.stdout.isatty() else Console(width=WIDE + MARKET_MAKER)
    for board in boards_of(folder / RESULT_FILE for folder in done.folders):
        console.print(_table(board, console.width))
        for entry in board.entries:
            _print_critic(console, entry)
    results = [read_result(folder) for folder in done.folders]
    notes = [note for result in results for note in result.notes if note not in _shortfalls(result)]
    for note in dict.fromkeys(notes):
        print(f"peerwatt: warning: {note}.", file=sys.stderr)
    here = own_code()
    others = sum(r.environment.code not in (None, here) for r in results)
    if others:
        print(
            f"peerwatt: warning: {others} of {len(results)} runs were made by other code of "
            "PeerWatt than this; --again repeats them.",
            file=sys.stderr,
        )
    labels: dict[Failure, list[str]] = {}
    for label, failure in done.failures.items():
        labels.setdefault(failure, []).append(label)
    for failure, failed in labels.items():
        rest = len(failed) - 1
        more = f" (and {rest} more run{'s' * (rest > 1)})" if rest else ""
        print(f"peerwatt: {failed[0]}{more} failed: {failure.text}", file=sys.stderr)
    if labels:
        sys.exit(2 if all(failure.bad_input for failure in labels) else 1)


def _shortfalls(result: RunResult) -> list[str]:
    """Return the notes of a run that are told of all its seeds together."""
    return [] if result.critic_usage is None else result.critic_usage.shortfalls


def _print_critic(console: Console, entry: Entry) -> None:
    """Print what the critic of `entry` did over all seeds, and warn if it left much unscored."""
    usages = [r.critic_usage for r in entry.results if r.critic_usage is not None]
    if not usages:
        return
    told, unscored = critic_line(usages)
    label = shown(entry.label, 80)
    console.print(Text(f"{label}: {told}"), soft_wrap=not console.is_terminal)
    if unscored > MOST_UNSCORED:
        print(
            f"peerwatt: warning: {label}: the critic left {unscored:.1%} of the slots unscored "
            f"that it was to score ({_reasons(usages)}).",
            file=sys.stderr,
        )


def critic_line(usages: Sequence[CriticUsage]) -> tuple[str, float]:
    """Tell in a line what critics did, and return the share of slots that they left unscored."""
    total = {
        name: sum(getattr(usage, name) for usage in usages)
        for name in (
            *("wanted", "scored", "student", "fallback", "calls", "cache_hits"),
            *("prompt_tokens", "completion_tokens", "assumed"),
        )
    }
    wanted, scored = total["wanted"], total["scored"] + total["student"]
    slots = max(wanted, 1)
    unscored = sum(sum(usage.abstained.values()) for usage in usages) / slots
    told = f"critic scored {scored:,} of {wanted:,} slots"
    if total["student"]:
        told += f" ({total['student'] / slots:.1%} by its student)"
    if total["calls"] or total["cache_hits"]:
        bills = [usage.dollars for usage in usages]
        known = [bill for bill in bills if bill is not None]
        dollars = f"${math.fsum(known):,.4f}" if len(known) == len(bills) else "dollars unknown"
        told += (
            f", {total['calls']:,} calls, {total['cache_hits']:,} cached, "
            f"{total['prompt_tokens']:,} + {total['completion_tokens']:,} tokens, {dollars}"
        )
        if assumed := total["assumed"]:
            told += f" (of which {assumed:,} request{'s' * (assumed != 1)} estimated)"
    return f"{told}, {unscored:.1%} abstained, {total['fallback'] / slots:.1%} fallback", unscored


def _reasons(usages: Sequence[CriticUsage]) -> str:
    """Name the reasons for abstaining, the most frequent first."""
    counts = sum((Counter(usage.abstained) for usage in usages), Counter())
    return ", ".join(f"{count:,} {shown(why, 60)}" for why, count in counts.most_common(3))


def _table(board: Board, width: int) -> Table:
    rows = rows_of(board)
    measures = columns(rows)
    if width < WIDE + MARKET_MAKER * (len(measures) > len(TABLE)):
        measures = TABLE if width >= WIDE else TABLE[:6]
    mechanism = rows[0].entry.first.mechanism.name
    caption = "IQM over seeds; test split; welfare: 0 is grid-only, 1 the optimum"
    ranked = [row.rank is not None for row in rows]
    caption += " [95 % interval]" if any(ranked) else ""
    caption += "" if all(ranked) else f"; fewer than {MIN_RUNS} seeds: no interval, no rank"
    table = Table(
        title=board.title if mechanism in board.title else f"{board.title} · {mechanism}",
        caption=caption,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("rank", justify="right")
    table.add_column("entry", max_width=LABEL, overflow="fold")
    table.add_column("seeds", justify="right")
    table.add_column("welfare", no_wrap=True)
    for measure in measures[1:]:
        unit = " %" if measure.unit == "percent" else ""
        words = (measure.title + unit).split(" ", 1)
        table.add_column("\n".join(words), justify="right", min_width=max(map(len, words)))
    for row in rows:
        intervals = [row.interval(measure) for measure in measures]
        cells = [
            written(interval and interval.estimate, measure)
            for interval, measure in zip(intervals, measures, strict=True)
        ]
        welfare = intervals[0]
        if welfare is not None and math.isfinite(welfare.low):
            cells[0] += f" [{welfare.low:.3f}, {welfare.high:.3f}]"
        rank = "–" if row.rank is None else str(row.rank)
        table.add_row(rank, Text(row.entry.label), str(len(row.entry.runs)), *cells)
    return table
