"""What a plan will take: time from speeds measured in the results folder, and what critics cost."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import Forecast
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.criticism import slots_to_score
from peerwatt.runs.result import RunResult
from peerwatt.runs.store import RESULT_FILE, read_result, run_folder

ASSUMED_SPEED = 120_000
"""Agent-steps a second and core, where nothing was measured: what `ippo` does on a usual core."""
ASSUMED_REST = 1.0
"""Seconds that a run takes beside training, where nothing was measured."""
START_SECONDS = 5.0
"""What the first run of a worker takes longer: its process imports what it needs."""
SAMPLES = 4
"""Finished runs of an entry that are read for its speed."""


@dataclass(frozen=True)
class Estimate:
    """What a plan will take."""

    seconds: float
    """Wall-clock time with that many workers."""
    measured: int
    """Configurations whose speed was measured in the results folder."""
    assumed: int
    """Those for which it is assumed."""
    forecast: Forecast
    """What critics will cost at most, if nothing fails."""


def estimate(
    todo: Sequence[ResolvedRun], played: Sequence[int], results: Path, workers: int
) -> Estimate:
    """Estimate the time and cost of the runs `todo`, of which agent-steps are `played` already."""
    speeds: dict[str, Callable[[int], float] | None] = {}
    for run in todo:
        if run.config_hash not in speeds:
            speeds[run.config_hash] = _measured(run, results)
    seconds = []
    for run, steps in zip(todo, played, strict=True):
        left = max(0, run.budget - steps)
        known = speeds[run.config_hash]
        seconds.append(ASSUMED_REST + left / ASSUMED_SPEED if known is None else known(left))
    assumed = sum(known is None for known in speeds.values())
    return Estimate(
        seconds=_makespan(seconds, workers),
        measured=len(speeds) - assumed,
        assumed=assumed,
        forecast=_forecast(todo),
    )


def _makespan(seconds: Iterable[float], workers: int) -> float:
    """Return when the last of the runs ends, each begun as soon as a worker is free."""
    free = [START_SECONDS] * max(1, workers)
    for length in seconds:
        heapq.heapreplace(free, free[0] + length)
    return max(free) if any(free_at > START_SECONDS for free_at in free) else 0.0


def _measured(run: ResolvedRun, results: Path) -> Callable[[int], float] | None:
    """Return agent-steps -> seconds, by finished runs of this entry or one much like it."""
    own = run_folder(results, run).parent
    alike = f"{run.algorithm_record.name}--{run.critic_record.name}--*"
    for entries in ([own], sorted(own.parent.glob(alike))):
        found: list[RunResult] = []
        files = itertools.chain.from_iterable(
            sorted(entry.glob(f"seed-*/{RESULT_FILE}")) for entry in entries
        )
        for file in itertools.islice(files, SAMPLES):
            try:
                found.append(read_result(file))
            except PeerWattError:  # `finished` tells it
                continue
        if found:  # the fastest of them: some were the first of their worker
            pace = min(r.timings.training_wall / max(1, r.agent_steps) for r in found)
            pace = pace if any(r.agent_steps for r in found) else 0.0
            rest = min(r.timings.wall - r.timings.training_wall for r in found)
            return lambda left: rest + left * pace
    return None


def _forecast(todo: Sequence[ResolvedRun]) -> Forecast:
    """Add up what the critics foretell, seeds of an entry together: they share what is spent."""
    total = Forecast()
    slots: Counter[str] = Counter()
    for run in todo:
        slots[run.config_hash] += slots_to_score(run)
    for run in {run.config_hash: run for run in todo}.values():
        if callable(tell := getattr(run.critic, "forecast", None)):
            total += tell(slots[run.config_hash])
    return total
