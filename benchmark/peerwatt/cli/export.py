"""`peerwatt export`: results as files for other tools."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.export import Format, export
from peerwatt.runs.tables import Level


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Write all results below a folder to one file: a tidy table, or the JSON of marl-eval.

    The numbers are those of the leaderboard, recomputed from the per-episode records.
    """

    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """Folder of runs; every result.json below it is read."""
    format: Format
    """csv and json need nothing else, parquet needs peerwatt[tables]; marl-eval is the nested JSON
    that id-marl-eval reads."""
    out: Path
    """File to write; one that is there is replaced."""
    level: Level | None = None
    """A row per run (the default), per test episode, or per point of the learning curve."""


def run(arguments: list[str]) -> None:
    """Write the file, and say how much is in it."""
    options = tyro.cli(ExportOptions, prog="peerwatt export", args=arguments)
    if options.format == "marl-eval" and options.level is not None:
        raise PeerWattError("--level is for tables: the JSON of marl-eval has all its levels.")
    rows, notes = export(options.results, options.format, options.out, options.level or "run")
    for note in notes:
        print(f"peerwatt: warning: {shown(note, 1000)}", file=sys.stderr)
    unit = "run" if options.format == "marl-eval" else "row"
    print(f"{options.out}: {rows:,} {unit}{'' if rows == 1 else 's'}")
