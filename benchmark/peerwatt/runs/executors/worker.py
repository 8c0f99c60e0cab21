"""What every worker does with a job, wherever it is."""

from __future__ import annotations

import time
import traceback

from peerwatt.errors import PeerWattError
from peerwatt.runs.config import resolve
from peerwatt.runs.execute import Progress, execute
from peerwatt.runs.executors import Failure, Job, Orders
from peerwatt.runs.stopping import Stop

TELL_SECONDS = 0.25
"""Least time between two messages on how far a run is."""


def work(job: Job, orders: Orders, progress: Progress, stop: Stop) -> Failure | None:
    """Execute one run; return what went wrong.

    Raises:
        RunStopped: `stop` was asked for.
    """
    try:
        execute(
            resolve(job.config),
            orders.results,
            sparing(progress),
            again=orders.again,
            checkpoint_seconds=orders.checkpoint_seconds,
            stop=stop,
        )
    except (Exception, SystemExit) as error:
        return failure_of(error)
    return None


def failure_of(error: BaseException) -> Failure:
    """Return what to tell of an exception that ended a run, in its `except` block."""
    if isinstance(error, PeerWattError):
        return Failure(str(error), bad_input=True)
    if isinstance(error, MemoryError):
        sentence = f"not enough memory ({error}): lower num_envs, sizes or --workers."
        return Failure(sentence, bad_input=True)
    return Failure(traceback.format_exc(), bad_input=False)


def sparing(progress: Progress) -> Progress:
    """Return what hands on to `progress` only a few times a second."""
    told = -TELL_SECONDS

    def tell(agent_steps: int, calls: int) -> None:
        nonlocal told
        if (now := time.monotonic()) >= told + TELL_SECONDS:
            told = now
            progress(agent_steps, calls)

    return tell
