"""Laws of sinks: they take what a run tells them, and the run does not notice.

They are held in a temporary folder that is the working directory meanwhile, and in this process,
where a failure can be told best; the law about runs goes through a process of the sink's own, as
runs do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from peerwatt.evaluation import Policy
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.store import METRICS_FILE, read_result
from peerwatt.runs.training import TrainingRun
from peerwatt.testing.communities import SIZES, write_card
from peerwatt.testing.frame import Check, Subject, during

_BUDGET = 200
_FOLDER = Path("runs") / "seed-000"
_FILES = Path("work")

Row = dict[str, float | None]


@dataclass(frozen=True)
class _Reporting:
    """Plays at random until its budget is spent, reports, and returns the trader `policy`."""

    trader: Any

    def train(self, run: TrainingRun) -> Policy:
        """Report the mean reward of every slot, and a number that is undefined."""
        env = run.envs(2)
        policy: Policy = self.trader.train(run)
        env.reset()
        while run.agent_steps + env.num_envs * env.num_agents <= run.budget:
            shape = (env.num_envs, env.num_agents, 3)
            step = env.step(run.generator.integers(0, env.action_nvec, shape))
            run.report(policy, reward=float(step.reward.mean()), undefined=np.nan)
        return policy


@dataclass
class _Recording:
    """Writes the events of a run to a file, as lines of JSON."""

    file: Path = Path("events.jsonl")

    def start(self, run: Any) -> None:
        self._write("start", run)

    def log(self, row: Any) -> None:
        self._write("log", row)

    def finish(self, result: Any) -> None:
        self._write("finish", result)

    def _write(self, event: str, content: Any) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps((event, content)) + "\n")


def _run(sink: Any) -> dict[str, Any]:
    """Execute a tiny run in the working directory; return what must not depend on `sink`."""
    with TemporaryDirectory() as temporary:
        card = write_card(Path(temporary), SIZES[1])
        config = RunConfig(task=str(card), algorithm="zi-c", validations=2)
        run = resolve(config)
        run = dataclasses.replace(
            run, algorithm=_Reporting(run.algorithm), budget=_BUDGET, sink=sink
        )
        folder = execute(run, Path(temporary) / "results")
        result = read_result(folder)
        rows = [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]
        files = {name: (folder / name).read_bytes() for name in result.files}
        names = sorted(path.name for path in folder.iterdir())
    return {
        "policy": files["policy.json"], "rows": rows, "metrics": result.test.model_dump_json(),
        "names": names, "notes": result.notes, "files": files,
    }  # fmt: skip


@cache
def _alone() -> dict[str, Any]:
    """Return what comes of a tiny run without a sink."""
    return _run(None)


@cache
def _events() -> tuple[tuple[str, str], ...]:
    """Return the events of a tiny run, their content as JSON."""
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "events.jsonl"
        _run(_Recording(file))
        events = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return tuple((event, json.dumps(content)) for event, content in events)


def _recorded(name: str) -> list[Any]:
    """Return the contents of all events called `name`, which the caller may change."""
    return [json.loads(content) for event, content in _events() if event == name]


def _head() -> dict[str, Any]:
    head: dict[str, Any] = _recorded("start")[0]
    return {**head, "folder": str(_FOLDER.absolute()), "files": str(_FILES.absolute())}


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """Make a temporary folder the working directory, with the files of a run in it."""
    _events()  # made in the directory where the caller is
    with TemporaryDirectory() as folder:
        # What is made up here goes to nobody's tracking server.
        apart = {"WANDB_MODE": "offline", "WANDB_DATA_DIR": folder, "WANDB_CACHE_DIR": folder}
        with contextlib.chdir(folder), patch.dict(os.environ, apart):
            _FILES.mkdir()
            for name, content in _alone()["files"].items():
                (_FILES / name).write_bytes(content)
            yield


def _tell(sink: Any, *events: tuple[str, Any]) -> None:
    for name, content in events:
        with during(f"in {name}"):
            getattr(sink, name)(content)


def _check_events(examined: Subject) -> None:
    for method in ("start", "log", "finish"):
        examined.require(
            callable(getattr(examined.spec.load(), method, None)),
            f"{examined.spec.factory} has no method {method!r}: see peerwatt.runs.sinks.Sink.",
        )
    with _elsewhere():
        _FOLDER.mkdir(parents=True)
        rows = [("log", row) for row in _recorded("log")]
        for row in ({"agent_steps": 4.0, "undefined": None}, {"only here": None}, {}):
            rows.append(("log", row))
        _tell(examined.make(), ("start", _head()), *rows, ("finish", _recorded("finish")[0]))


def _check_no_rows(examined: Subject) -> None:
    for result in (_recorded("finish")[0], None):
        with _elsewhere(), during("without a row, as of a run that fails at once"):
            _FOLDER.mkdir(parents=True)
            _tell(examined.make(), ("start", _head()), ("finish", result))


def _check_failed(examined: Subject) -> None:
    with _elsewhere(), during("of a run that failed"):
        _FOLDER.mkdir(parents=True)
        rows = [("log", row) for row in _recorded("log")]
        _tell(examined.make(), ("start", _head()), *rows, ("finish", None))


def _check_folder(examined: Subject) -> None:
    mend = "the folder of a run is only there when the run is complete"
    with _elsewhere():
        rows = [("log", row) for row in _recorded("log")]
        with during(f"{mend}, so write elsewhere"):
            _tell(examined.make(), ("start", _head()), *rows, ("finish", _recorded("finish")[0]))
        examined.require(
            not _FOLDER.exists(),
            f"it makes the folder of the run: {mend}, and replaces what is there, so write "
            "elsewhere.",
        )


def _check_same_run(examined: Subject) -> None:
    with _elsewhere():
        without, beside = _alone(), _run(examined.make())
    examined.require(
        not beside["notes"],
        f"it failed beside a run: {'; '.join(beside['notes'])}.",
    )
    for part, told in (
        ("policy", "policy"),
        ("rows", "rows of metrics"),
        ("metrics", "metrics of the test"),
        ("names", "files"),
    ):
        examined.require(
            without[part] == beside[part],
            f"a run with it has other {told} than the same run without: only observe, and touch "
            "nothing of the run's.",
        )


CHECKS = (
    Check("events", "It takes the events of a run in their order, gaps included.", _check_events),
    Check("no-rows", "It takes a run that reports nothing.", _check_no_rows, needs=("events",)),
    Check("failed-run", "It takes the end of a run that failed.", _check_failed, needs=("events",)),
    Check(
        "folder",
        "It needs no folder of the run, and makes none: there is none before the run is complete.",
        _check_folder,
        needs=("events",),
    ),
    Check(
        "same-run",
        "A run has the same policy, rows, metrics and files with it and without, and no notes.",
        _check_same_run,
        needs=("events", "no-rows", "failed-run", "folder"),
    ),
)
