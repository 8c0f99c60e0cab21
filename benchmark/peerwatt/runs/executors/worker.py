"""What every worker does with a job, wherever it is."""

from __future__ import annotations

import time

from peerwatt.runs.config import resolve
from peerwatt.runs.execute import Progress, execute
from peerwatt.runs.executors import Failure, Job, Orders, failure_of
from peerwatt.runs.provenance import own_code
from peerwatt.runs.stopping import Stop

TELL_SECONDS = 0.25
"""Least time between two messages on how far a run is."""


def work(job: Job, orders: Orders, progress: Progress, stop: Stop) -> Failure | None:
    """Execute one run; return what went wrong.

    Raises:
        RunStopped: `stop` was asked for.
    """
    if orders.code not in (None, own_code()):
        return Failure(
            "PeerWatt's own code was changed while the runs were made: start the same command "
            "again, so that all are made by the same.",
            bad_input=False,
        )
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


def sparing(progress: Progress) -> Progress:
    """Return what hands on to `progress` only a few times a second."""
    told = -TELL_SECONDS

    def tell(agent_steps: int, calls: int) -> None:
        nonlocal told
        if (now := time.monotonic()) >= told + TELL_SECONDS:
            told = now
            progress(agent_steps, calls)

    return tell
