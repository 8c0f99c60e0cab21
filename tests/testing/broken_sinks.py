"""Sinks that break one law each, beside a good one that they differ from in a line or two."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from registering import register

from peerwatt.plugins import SinkSpec, hookimpl

REGISTERED = []


def registered(law, says, **changes):
    return register(REGISTERED, SinkSpec, __name__, law, says, **changes)


@hookimpl
def peerwatt_sinks():
    return [spec for *_, spec in REGISTERED]


@registered("", "")
@dataclass
class Good:
    """Writes all rows to one file."""

    file: Path = Path("rows.json")
    rows: list[Any] = field(default_factory=list, init=False)

    def start(self, run):
        self.rows.append(run["seed"])

    def log(self, row):
        self.rows.append(row)

    def finish(self, result):
        self.file.write_text(json.dumps(self.rows))


@registered("options", "option 'address' has no default")
@dataclass
class Needy:
    address: str
    start = log = finish = Good.start


@registered("events", "has no method 'finish'")
@dataclass
class Endless:
    start = log = Good.start


@registered("events", "(in log): TypeError: float() argument")
@dataclass
class NumbersOnly(Good):
    def log(self, row):
        super().log({name: float(value) for name, value in row.items()})


@registered("events", "(in log): KeyError: 'reward'")
@dataclass
class FixedColumns(Good):
    def log(self, row):
        super().log(row["reward"])


@registered("no-rows", "(in finish, without a row, as of a run that fails at once): IndexError")
@dataclass
class NeedsARow(Good):
    def finish(self, result):
        self.rows[1]


@registered("failed-run", "(in finish, of a run that failed): TypeError")
@dataclass
class NeedsAResult(Good):
    def finish(self, result):
        if len(self.rows) > 1:
            result["test"]


@registered("folder", "(in start, the folder of a run is only there when the run is complete")
@dataclass
class NeedsTheFolder(Good):
    def start(self, run):
        (Path(run["folder"]) / "seed.txt").write_text(str(run["seed"]))


@registered("folder", "it makes the folder of the run")
@dataclass
class MakesTheFolder(Good):
    def start(self, run):
        Path(run["folder"]).mkdir(parents=True, exist_ok=True)


@registered("same-run", "it failed beside a run: sink '' failed in log")
@dataclass
class RefusesRealRuns(Good):
    files: str = field(default="", init=False)

    def start(self, run):
        self.files = run["files"]

    def log(self, row):
        if Path(self.files).name.startswith("."):
            raise OSError("the folder is hidden")


@registered("same-run", "a run with it has other files than the same run without")
@dataclass
class AddsAFile(Good):
    files: str = field(default="", init=False)

    def start(self, run):
        self.files = run["files"]

    def finish(self, result):
        (Path(self.files) / "extra.txt").write_text("x")
