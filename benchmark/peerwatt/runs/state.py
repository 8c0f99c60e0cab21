"""How far a run is, as whoever looks at its folders can tell; nothing is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peerwatt.errors import PeerWattError
from peerwatt.runs.checkpoint import CHECKPOINT_FILE, unpack
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.locks import holder
from peerwatt.runs.store import CLOCK_FILE, RESULT_FILE, read_result, run_folder, work_folder
from peerwatt.runs.work import read_attempt, read_failure

Kind = Literal["done", "running", "failed", "stopped", "new"]
_TAIL_BYTES = 1000


@dataclass(frozen=True)
class RunState:
    """How far a run is."""

    kind: Kind
    """`stopped`: it was interrupted, and will go on, from its beginning if nothing was saved."""
    agent_steps: int = 0
    """Played and, unless it is running, saved."""
    seconds: float = 0.0
    """That these took."""
    failure: str | None = None
    """Why it failed, in a sentence."""
    where: str | None = None
    """Which process is at it."""


def run_state(run: ResolvedRun, results: Path) -> RunState:
    """Return how far `run` is in the folder `results`, which may be read-only."""
    folder, work = run_folder(results, run), work_folder(results, run)
    where = holder(results, run)
    steps, seconds = _last_report(work)
    if where is not None:
        return RunState("running", steps, seconds, where=where)
    attempt = read_attempt(work)
    for place in (work, folder) if attempt is None or not attempt.again else (work,):
        try:
            result = read_result(place / RESULT_FILE)
        except PeerWattError:
            continue
        if (result.config_hash, result.seed) == (run.config_hash, run.config.seed):
            return RunState("done", result.agent_steps, result.timings.training_wall)
    if attempt is None:
        return RunState("new")
    steps, seconds = _saved(work)
    failed = read_failure(work)
    if failed is not None:
        return RunState("failed", steps, seconds, failure=failed.sentence)
    return RunState("stopped", steps, seconds)


def _last_report(work: Path) -> tuple[int, float]:
    """Return agent-steps and seconds of the last whole line of the clock."""
    try:
        with (work / CLOCK_FILE).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        row = json.loads(lines[-1])
        return int(row["agent_steps"]), float(row["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0, 0.0


def _saved(work: Path) -> tuple[int, float]:
    """Return agent-steps and seconds of the checkpoint."""
    try:
        state = unpack((work / CHECKPOINT_FILE).read_bytes())
        return int(state["agent_steps"]), float(state["training"]["seconds"])
    except (OSError, PeerWattError, LookupError, TypeError):
        return 0, 0.0
