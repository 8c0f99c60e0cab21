"""Local processes: spawned workers that live on, one run at a time each, one thread each."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import registry
from peerwatt.runs.executors import Began, Ended, Event, Failure, Job, Lost, Orders, Played
from peerwatt.runs.executors.variables import variables_set
from peerwatt.runs.executors.worker import work
from peerwatt.runs.provenance import own_code
from peerwatt.runs.stopping import RunStopped, Stop

STOP_SECONDS = 8.0
"""Time that workers have to end when they are told to; then they are killed."""
LOOK_SECONDS = 2.0
"""How often workers are looked at that say nothing: a child of theirs may hold their pipe open."""
MOST_STARTS = 3
"""Workers in a row that may end before they could take a job."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
"""Variables of workers: two threads on two cores only wait for each other."""
_READY = "ready"
_CONTEXT = multiprocessing.get_context("spawn")


class ProcessExecutor:
    """Executes jobs in `Orders.workers` processes of this machine.

    A worker that dies takes only its own run with it, which is tried again from its checkpoint.
    Workers are no daemons, so that what they run may have processes of its own.
    """

    def run(self, jobs: Sequence[Job], orders: Orders) -> Iterator[Event]:
        """See `Executor.run`."""
        waiting = deque(jobs)
        deaths: Counter[int] = Counter()
        failed_starts = 0
        workers: list[_Worker] = []
        try:
            while waiting or any(worker.job for worker in workers):
                busy = sum(worker.job is not None for worker in workers)
                wanted = min(orders.workers, busy + len(waiting))
                while len(workers) < wanted and failed_starts < MOST_STARTS:
                    workers.append(_Worker(orders))
                if not workers:
                    raise PeerWattError(
                        f"{failed_starts} worker processes in a row ended before they could begin "
                        "(what they printed tells why): a script that runs benchmarks needs "
                        "`if __name__ == '__main__':`; --executor in-process does without workers."
                    )
                _wait(workers)
                for worker in list(workers):
                    for message in worker.messages():
                        if message == _READY:
                            worker.ready, failed_starts = True, 0
                            continue
                        yield message
                        if isinstance(message, Ended):
                            worker.job = None
                    if worker.gone:
                        workers.remove(worker)
                        job, why = worker.job, worker.cause_of_death()
                        failed_starts += not worker.ready
                        if job is None:
                            continue
                        deaths[job.index] += 1
                        if deaths[job.index] <= orders.retries:
                            waiting.appendleft(job)
                            yield Lost(job.index, why)
                        else:
                            yield Ended(job.index, _died(why, deaths[job.index]))
                    elif worker.ready and worker.job is None and waiting:
                        worker.hand(waiting.popleft())
        finally:
            _end(workers)


class _Worker:
    """A worker process as its parent sees it."""

    def __init__(self, orders: Orders) -> None:
        self.connection, inside = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(target=_serve, args=(inside, orders))
        try:
            with variables_set(ONE_THREAD), _without_interrupts():
                self.process.start()
        except OSError as error:
            raise PeerWattError(
                f"cannot start a worker process ({error.strerror}): try fewer --workers."
            ) from error
        except KeyboardInterrupt:  # nobody knows of this worker yet
            self.process.kill()
            raise
        finally:
            inside.close()
        self.job: Job | None = None
        self.ready = False
        self.gone = False

    def hand(self, job: Job) -> None:
        """Have the worker execute `job`."""
        self.job = job
        with contextlib.suppress(OSError):  # it has just died, which is seen soon
            self.connection.send(job)

    def messages(self) -> Iterator[Any]:
        """Yield what the worker has sent; then tell in `gone` whether it is dead."""
        dead = self.process.exitcode is not None  # before the pipe is emptied, not after
        try:
            while self.connection.poll():
                yield self.connection.recv()
        except (EOFError, OSError):
            dead = True
        self.gone = dead

    def cause_of_death(self) -> str:
        """Wait for the end of a worker that is gone, and tell how it came about."""
        self.connection.close()
        self.process.join(STOP_SECONDS)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        if code == -signal.SIGKILL:
            return "killed by SIGKILL, as systems do when memory runs out"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}" if code else "asked to stop by SIGTERM"


def _died(why: str, times: int) -> Failure:
    often = "" if times == 1 else f" {times} times, at last"
    sentence = (
        f"its worker process died{often} ({why}); `peerwatt resume` goes on from its last "
        "checkpoint, perhaps with fewer --workers."
    )
    return Failure(sentence, bad_input=False, lost=True)


def _wait(workers: Sequence[_Worker]) -> None:
    handles: list[Any] = [worker.connection for worker in workers]
    wait([*handles, *(worker.process.sentinel for worker in workers)], LOOK_SECONDS)


def _end(workers: Sequence[_Worker]) -> None:
    """End the workers: idle ones by themselves, busy ones at their next checkpoint."""
    try:
        for worker in workers:
            if worker.job is not None:
                worker.process.terminate()
            with contextlib.suppress(OSError):
                worker.connection.send(None)
        until = time.monotonic() + STOP_SECONDS
        for worker in workers:
            worker.process.join(max(0.0, until - time.monotonic()))
    finally:  # whoever interrupts once more does not wait
        for worker in workers:
            worker.process.kill()
            worker.process.join()
            worker.connection.close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C, which a terminal sends to all: workers spawned within leave it to the parent.

    They inherit that from their first instruction on, before any handler could be set.
    """
    resource_tracker.ensure_running()  # else it starts within, and unblocks the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _serve(connection: Connection, orders: Orders) -> None:
    """Execute jobs until there are no more: what a worker process does."""
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    threading.Thread(target=_follow_parent, daemon=True).start()
    own_code()  # while it is what was just loaded
    registry()  # before a configuration with a plugin's own types is unpickled
    _tell(connection, _READY)
    while not stop.asked and (job := _next(connection)) is not None:
        _tell(connection, Began(job.index, f"process {os.getpid()}"))

        def progress(agent_steps: int, calls: int, index: int = job.index) -> None:
            _tell(connection, Played(index, agent_steps, calls))

        try:
            failure = work(job, orders, progress, stop)
        except RunStopped:
            return
        _tell(connection, Ended(job.index, failure))


def _next(connection: Connection) -> Job | None:
    try:
        job: Job | None = connection.recv()
    except (EOFError, OSError):
        return None
    return job


def _tell(connection: Connection, message: Event | str) -> None:
    try:
        connection.send(message)
    except OSError:  # the parent is gone
        os._exit(1)


def _follow_parent() -> None:
    """End this worker at once when the parent is gone: the last checkpoint is on the disk."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
