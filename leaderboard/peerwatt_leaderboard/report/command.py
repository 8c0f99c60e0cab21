"""The command `peerwatt report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from peerwatt.runs.entries import read_boards
from peerwatt_leaderboard.report.page import write_report


def report(
    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")],
    out: Path = Path("report"),
) -> None:
    """Report on all runs below a folder: report.html, report.md and their figures.

    Per task and over tasks: interquartile means with intervals, performance profiles,
    probabilities of improvement, sample efficiency, and the front of welfare and fairness; at the
    end, what failed or is missing.

    Args:
        results: folder of runs; every result.json below it is read.
        out: folder of the report; one that is there is replaced, and a folder that holds anything
            else is refused.
    """
    boards = read_boards(results)
    page = write_report(boards, out, results)
    runs = sum(len(entry.runs) for board in boards for entry in board.entries)
    print(f"{runs} run{'' if runs == 1 else 's'}")
    print(f"report: {page.as_uri()}")
    print(f"        {page.with_suffix('.md')}")
