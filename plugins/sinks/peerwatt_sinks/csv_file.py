"""Rows of a run as a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class CsvSink:
    """Writes one CSV file per run, named after the run, when the run ends or fails.

    The columns are all names that were ever logged, in the order in which they first appeared.
    """

    folder: Path = Path("csv")
    """Folder of the files."""
    _rows: list[dict[str, float | None]] = field(default_factory=list, init=False)
    _name: str = field(default="run", init=False)

    def start(self, run: Mapping[str, Any]) -> None:
        """Name the file after task, algorithm, critic, configuration and seed."""
        parts = (run["task"]["name"], run["algorithm"]["name"], run["critic"]["name"])
        self._name = "--".join((*parts, run["config_hash"][:8], f"seed-{run['seed']:03d}"))

    def log(self, row: Mapping[str, float | None]) -> None:
        """Keep a row."""
        self._rows.append(dict(row))

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Write what was logged, also of a run that failed."""
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self._name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)
