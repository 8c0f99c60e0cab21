"""Results as files that other tools read: Parquet, CSV, JSON, and the JSON of marl-eval."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Literal, get_args

from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.runs.entries import read_boards
from peerwatt.runs.files import write_whole
from peerwatt.runs.marl_eval import marl_eval
from peerwatt.runs.result import SCHEMA_VERSION
from peerwatt.runs.tables import Level, Table, frame, module_of_tables, read_table

Format = Literal["parquet", "csv", "json", "marl-eval"]


def load_results(folder: str | Path, level: Level = "run") -> Any:
    """Return every result below `folder` as a tidy pandas DataFrame; see `runs.tables.COLUMNS`.

    Raises:
        PeerWattError: pandas is not installed, the level is unknown, or there are no results or a
            wrong one.
    """
    module_of_tables("pandas")
    return frame(read_table(Path(folder), level))


def export(folder: Path, form: Format, out: Path, level: Level = "run") -> tuple[int, list[str]]:
    """Write every result below `folder` to the file `out`, whole or not at all.

    Returns:
        The number of rows (of runs with marl-eval), and a sentence for each thing to be known.

    Raises:
        PeerWattError: an unknown format or level, no results, a wrong one, a missing module, or a
            file that cannot be written.
    """
    if form not in get_args(Format):
        raise unknown_name("format", form, get_args(Format))
    notes: list[str] = []
    if form == "marl-eval":
        nested, notes = marl_eval(read_boards(folder))
        rows = sum(
            len(runs)
            for tasks in nested.values()
            for algorithms in tasks.values()
            for runs in algorithms.values()
        )
        content = json.dumps(nested, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        data = content.encode()
    else:
        table = read_table(folder, level)
        rows = len(table.rows)
        writers = {"csv": _csv, "json": _json, "parquet": _parquet}
        data = writers[form](table)
    _write(out, data)
    return rows, notes


def _csv(table: Table) -> bytes:
    """Write a header and the rows; floats keep all digits, what is undefined is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [c.name for c in table.columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return buffer.getvalue().encode()


def _json(table: Table) -> bytes:
    """Write the columns with their units, and the rows; what is undefined is null."""
    told = {
        "schema_version": SCHEMA_VERSION,
        "level": table.level,
        "columns": [
            {"name": c.name, "kind": c.kind, "unit": c.unit, "meaning": c.meaning}
            for c in table.columns
        ],
        "rows": table.rows,
    }
    return (json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parquet(table: Table) -> bytes:
    """Write the DataFrame; units and meanings go along in its metadata."""
    module_of_tables("pandas")
    module_of_tables("pyarrow")
    data: bytes = frame(table).to_parquet(None, engine="pyarrow", index=False)
    return data


def _write(out: Path, data: bytes) -> None:
    """Put `data` at `out`, whole or not at all."""
    if out.is_dir():
        raise PeerWattError(f"{out}: is a folder; name a file with --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, data)
    except OSError as error:
        raise PeerWattError(
            f"cannot write {out}: {error.strerror or error}; name another file with --out."
        ) from error
