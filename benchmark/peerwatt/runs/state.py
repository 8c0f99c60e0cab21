"""How far a run is, as whoever looks at its folders can tell; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from peerwatt.errors import PeerWattError
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.locks import holder
from peerwatt.runs.resume import Count, Seconds, read_checkpoint
from peerwatt.runs.store import CLOCK_FILE, RESULT_FILE, read_result, run_folder, work_folder
from peerwatt.runs.untrusted import opener
from peerwatt.runs.work import read_attempt, read_failure

Kind = Literal["done", "running", "failed", "stopped", "new"]
_TAIL_BYTES = 1000


class _Report(BaseModel):
    """A line of the clock."""

    agent_steps: Count
    seconds: Seconds


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
        with open(work / CLOCK_FILE, "rb", opener=opener) as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        row = _Report.model_validate_json(lines[-1])
    except (OSError, ValidationError, LookupError):
        return 0, 0.0
    return row.agent_steps, row.seconds


def _saved(work: Path) -> tuple[int, float]:
    """Return agent-steps and seconds of the checkpoint."""
    try:
        state = read_checkpoint(work)
    except PeerWattError:
        return 0, 0.0
    return (0, 0.0) if state is None else (state["agent_steps"], state["training"]["seconds"])
