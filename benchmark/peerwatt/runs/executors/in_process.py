"""One run after the other in this process: for debuggers, profilers and small plans."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from peerwatt.runs.executors import Began, Ended, Event, Job, Orders, Played
from peerwatt.runs.executors.worker import work
from peerwatt.runs.stopping import RunStopped, Stop, stopped_by_signals


@dataclass
class InProcessExecutor:
    """Executes jobs in the main thread. SIGINT and SIGTERM stop the run at its next checkpoint."""

    watch: Callable[[Event], None] | None = None
    """Takes how far a run is: while it goes on, nothing can be yielded."""

    def run(self, jobs: Sequence[Job], orders: Orders) -> Iterator[Event]:
        """See `Executor.run`.

        Raises:
            KeyboardInterrupt: a signal asked to stop, and the run has stopped.
        """
        stop = Stop()
        with stopped_by_signals(stop):
            for job in jobs:
                yield Began(job.index, f"process {os.getpid()}")

                def progress(agent_steps: int, calls: int, index: int = job.index) -> None:
                    if self.watch is not None:
                        self.watch(Played(index, agent_steps, calls))

                try:
                    failure = work(job, orders, progress, stop)
                except RunStopped:
                    raise KeyboardInterrupt from None
                yield Ended(job.index, failure)
                if stop.asked:
                    raise KeyboardInterrupt
