"""`peerwatt compare`: the difference between two entries, with intervals."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from peerwatt.errors import PeerWattError
from peerwatt.evaluation.statistics import (
    MIN_RUNS,
    bootstrap_difference,
    iqm,
    probability_of_improvement,
)
from peerwatt.runs.entries import Entry, read_boards
from peerwatt.runs.labels import Asked, labels_of
from peerwatt.runs.summary import MARKET, TABLE, WELFARE, run_values, written


@dataclasses.dataclass(frozen=True)
class CompareOptions:
    """Compare two entries of a task: IQM of the second less IQM of the first, per measure.

    Seeds are resampled independently in each entry; both met the same test scenarios.
    """

    base: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BASE")]
    """Folder of the first entry (with its seed folders)."""
    other: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OTHER")]
    """Folder of the second entry."""


def _entry(folder: Path) -> Entry:
    entries = [entry for board in read_boards(folder) for entry in board.entries]
    if len(entries) != 1:
        raise PeerWattError(
            f"{folder} holds {len(entries)} entries: name the folder of one, such as "
            "runs/pilot-v1/zi-c--none--cda--0123abcd."
        )
    return entries[0]


def run(arguments: list[str]) -> None:
    """Print one row per measure, and the probability that the second has the higher welfare."""
    options = tyro.cli(CompareOptions, prog="peerwatt compare", args=arguments)
    base, other = _entry(options.base), _entry(options.other)
    task = base.first.task
    if task != other.first.task:
        raise PeerWattError(
            f"{options.base} is on {task.name} {task.content_hash[:8]}, {options.other} on "
            f"{other.first.task.name} {other.first.task.content_hash[:8]}: they do not compare."
        )
    console = Console() if sys.stdout.isatty() else Console(width=100)
    mechanisms = [entry.first.mechanism for entry in (base, other)]
    if mechanisms[0] == mechanisms[1] and base.first.config_hash != other.first.config_hash:
        labels = labels_of([Asked.of(base.first), Asked.of(other.first)])
    else:
        labels = [base.label, other.label]
    names = [
        f"{label}{f' under {m.name}' if mechanisms[0] != mechanisms[1] else ''}"
        f" ({len(e.runs)} seeds)"
        for e, label, m in zip((base, other), labels, mechanisms, strict=True)
    ]
    table = Table(title=escape(f"{task.name}: {names[1]} less {names[0]}"), box=box.SIMPLE_HEAD)
    for name in ("measure", "first", "second", "difference", "95 % interval", ""):
        table.add_column(name, justify="left" if name == "measure" else "right")
    values = [[run_values(result) for result in entry.results] for entry in (base, other)]
    balanced = not any(run[MARKET.key] for entry in values for run in entry)
    for measure in TABLE if balanced else (*TABLE, MARKET):
        first, second = (
            [value for run in entry if (value := run[measure.key]) is not None] for entry in values
        )
        if not first or not second:
            table.add_row(measure.title, "–", "–", "–", "–", "")
            continue
        difference = bootstrap_difference(second, first, np.random.default_rng(0))
        low, high = difference.low, difference.high
        interval = f"[{written(low, measure, signed=True)}, {written(high, measure, signed=True)}]"
        verdict = "higher" if low > 0 else "lower" if high < 0 else "not told apart"
        if not math.isfinite(low):
            interval, verdict = "–", f"fewer than {MIN_RUNS} seeds"
        table.add_row(
            measure.title + (" %" if measure.unit == "percent" else ""),
            *(written(iqm(x), measure) for x in (first, second)),
            written(difference.estimate, measure, signed=True),
            interval,
            verdict,
        )
    console.print(table)
    welfare = [[x for run in entry if (x := run[WELFARE.key]) is not None] for entry in values]
    if not all(welfare):
        return
    chance = probability_of_improvement(welfare[1], welfare[0])
    bounds = f" [{chance.low:.2f}, {chance.high:.2f}]" if math.isfinite(chance.low) else ""
    print(f"probability that {names[1]} has the higher welfare: {chance.estimate:.2f}{bounds}")
