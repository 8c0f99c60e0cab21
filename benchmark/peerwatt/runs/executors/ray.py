"""Ray: runs on several machines, gathered in the results folder of the command."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerwatt.errors import PeerWattError, shown, told
from peerwatt.plugins.discovery import ONLY, STRICT, WITHOUT
from peerwatt.plugins.loader import find
from peerwatt.runs.config import ResolvedRun, resolve
from peerwatt.runs.execute import finished
from peerwatt.runs.executors import (
    Began,
    Ended,
    Event,
    Failure,
    Job,
    Lost,
    Orders,
    Played,
    failure_of,
)
from peerwatt.runs.executors.gathering import (
    Luggage,
    Mailbox,
    News,
    Outcome,
    carry_out,
    packed,
    plugin_files,
    problem_with,
    unpack_work,
)
from peerwatt.runs.executors.ray_cluster import alive, check_nodes, cluster
from peerwatt.runs.locks import BeingMade, held
from peerwatt.runs.provenance import VARIABLES, environment
from peerwatt.runs.sinks import tell
from peerwatt.runs.store import read_result, run_folder, work_folder
from peerwatt.runs.work import WORK_FILES, begin, publish, read_attempt, record_failure

POLL_SECONDS = 0.25
STOP_SECONDS = 10.0
"""Time that runs have to save a checkpoint and to end when they are told to."""
PENDING_SECONDS = 60.0
"""How long a run waits for a place in the cluster until a warning says so."""
ANSWER_SECONDS = 60.0
"""How long the cluster may leave a call unanswered."""
LOCK_SECONDS = 2.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayExecutor:
    """Executes jobs in a Ray cluster; `Orders.workers` of them at once, if it has room for them.

    A worker, or a whole node, that is lost takes only its own runs with it: they are tried again
    elsewhere from their last checkpoints, which lie in the results folder of this machine.
    """

    address: str | None = None
    """HOST:PORT of the cluster's head, or "auto"; None: a cluster of this machine alone."""
    cpus: float = 1.0
    """What each run asks for; it uses one."""
    memory_gb: float | None = None
    """Likewise, in 10^9 bytes."""

    def __post_init__(self) -> None:
        for option, value in (("--run-cpus", self.cpus), ("--run-memory", self.memory_gb)):
            if value is not None and not 0 < value < math.inf:
                raise PeerWattError(f"{option} {value} must be more than 0.")
        if self.cpus > 1 and self.cpus % 1:
            raise PeerWattError(f"--run-cpus {self.cpus} must be whole if it is more than 1.")

    def run(self, jobs: Sequence[Job], orders: Orders) -> Iterator[Event]:
        """See `Executor.run`.

        Raises:
            PeerWattError: likewise; or Ray is not installed, the cluster cannot be joined, has no
                room for a run, or differs from this machine in what is installed.
        """
        runs = {job.index: _untold(job) for job in jobs}
        for run in runs.values():
            _refuse(run)
        with (
            _Telling(jobs) as telling,
            cluster(self.address, math.ceil(orders.workers * self.cpus)) as ray,
        ):
            driver = _Driver(self, ray, runs, orders, telling)
            with contextlib.closing(driver.events([job.index for job in jobs])) as events:
                yield from events


def _untold(job: Job) -> ResolvedRun:
    """Return the run of `job` without its sink, which is told by the command and not on a node."""
    return resolve(dataclasses.replace(job.config, sink=None, sink_options=()))


def _refuse(run: ResolvedRun) -> None:
    """Refuse a critic that asks a model, be it as a part of another."""
    forecast = getattr(run.critic, "forecast", None)
    asks = find("critic", run.config.critic).spec.asks
    if asks or (forecast and forecast(run.budget // run.task.community.size).calls):
        raise PeerWattError(
            f"critic {run.critic_record.name!r} asks a model, and what it may spend and what it "
            "has been answered is kept in one folder: leave out --executor ray."
        )


class _Telling:
    """Tells sinks of finished runs, one after the other, in a thread."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._sinks = {job.index: (job.config.sink, resolve(job.config).sink) for job in jobs}
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # What is not told when the command is interrupted, `peerwatt sync` tells.
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)

    def tell(self, index: int, folder: Path) -> None:
        """Have the sink of a run told what is in `folder`, some time."""
        name, sink = self._sinks[index]
        if name is not None:
            self._thread.submit(self._tell, name, sink, folder)

    def _tell(self, name: str, sink: Any, folder: Path) -> None:
        for problem in tell(folder, name, sink, read_result(folder).model_dump(mode="json")):
            _logger.warning("%s: %s", folder, problem)


@dataclass
class _Place:
    """A run that is under way, or waits in the cluster's queue."""

    index: int
    attempt: int
    resources: contextlib.ExitStack
    """Holds the lock of the run."""
    since: float
    began: bool = False


class _Driver:
    """The command's side of one call of `RayExecutor.run`."""

    def __init__(
        self,
        asked: RayExecutor,
        ray: Any,
        runs: dict[int, ResolvedRun],
        orders: Orders,
        telling: _Telling,
    ) -> None:
        self._ray, self._runs, self._orders, self._telling = ray, runs, orders, telling
        self._cpus, self._memory = asked.cpus, round((asked.memory_gb or 0.0) * 1e9)
        self._plugins = plugin_files()
        names = (ONLY, WITHOUT, STRICT, *VARIABLES)
        self._variables = _ONE_THREAD | {n: os.environ[n] for n in names if n in os.environ}
        self._places: dict[Any, _Place] = {}  # by the reference of the task
        self._attempts: Counter[int] = Counter()
        self._warned = 0.0
        self._look_at_nodes()
        self._mailbox = self._open_mailbox()
        self._task = ray.remote(_attempt).options(
            num_cpus=self._cpus,
            memory=self._memory or None,
            max_retries=0,
            runtime_env={"env_vars": self._variables},
            scheduling_strategy="SPREAD",
        )

    def _look_at_nodes(self) -> None:
        """Check that there is room for the runs, and that every node is like this machine."""
        here = environment()
        versions = {"Python": here.python, "ray": self._ray.__version__, **here.packages}
        different = {_without_seed(run): run for run in self._runs.values()}
        test = functools.partial(
            problem_with,
            [(pickle.dumps(run.config), run.config_hash) for run in different.values()],
            self._plugins,
            str(Path.cwd()),
        )
        versions["PeerWatt's code"] = str(here.code)
        check_nodes(self._ray, self._cpus, self._memory, self._variables, versions, test)

    def _open_mailbox(self) -> Any:
        """Return an actor that takes news on this machine, for other nodes may be lost."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = self._ray.get_runtime_context().get_node_id()
        return (
            self._ray.remote(Mailbox)
            .options(
                num_cpus=0,
                runtime_env={"env_vars": self._variables},
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            )
            .remote()
        )

    def events(self, indices: Sequence[int]) -> Generator[Event, None, None]:
        """Execute the runs and yield what happens; stop them politely when closed."""
        waiting = deque(indices)
        try:
            while waiting or self._places:
                while waiting and len(self._places) < self._orders.workers:
                    yield from self._begin(waiting.popleft())
                if not self._places:
                    continue
                ready, _ = self._ray.wait(list(self._places), timeout=POLL_SECONDS)
                yield from self._take_news()
                for reference in ready:
                    for event in self._end(reference):
                        if isinstance(event, Lost):
                            waiting.appendleft(event.index)
                        yield event
                self._look_after_pending()
        finally:
            try:
                self._stop()
            finally:
                for place in self._places.values():
                    place.resources.close()

    def _begin(self, index: int) -> Iterator[Event]:
        """Hand a run to the cluster, unless it is done already or somebody else is at it."""
        run, results, again = self._runs[index], self._orders.results, self._orders.again
        work = work_folder(results, run)
        with contextlib.ExitStack() as resources:
            try:
                resources.enter_context(held(results, run, LOCK_SECONDS))
                first = not self._attempts[index]
                earlier = read_attempt(work)
                published = publish(run, results)
                if published and not (first and again and earlier and not earlier.again):
                    yield Ended(index, None)
                    return
                if not again and finished(run, results):
                    yield Ended(index, None)
                    return
                attempt = begin(run, results, again)
                files = packed(work, WORK_FILES)
            except (PeerWattError, OSError) as error:
                yield Ended(index, self._failed(run, error))
                return
            # The worker counts itself as the one that begins.
            attempt = attempt.model_copy(update={"begun": attempt.begun - 1})
            files["attempt.json"] = attempt.model_dump_json().encode()
            self._attempts[index] += 1
            luggage = Luggage(
                index=index,
                attempt=self._attempts[index],
                config=pickle.dumps(run.config),
                config_hash=run.config_hash,
                again=again,
                checkpoint_seconds=self._orders.checkpoint_seconds,
                work=files,
                plugins=self._plugins,
                cwd=str(Path.cwd()),
            )
            self._call(self._mailbox.expect.remote(index, luggage.attempt))
            reference = self._task.remote(luggage, self._mailbox)
            self._places[reference] = _Place(
                index, luggage.attempt, resources.pop_all(), time.monotonic()
            )

    def _failed(self, run: ResolvedRun, error: Exception) -> Failure:
        """Return, and write down, why a run failed on this machine."""
        failure = failure_of(error)
        if not isinstance(error, PeerWattError):
            failure = Failure(f"cannot write: {told(error)}.", bad_input=False)
        if not isinstance(error, BeingMade):
            work = work_folder(self._orders.results, run)
            record_failure(work, failure.text, bad_input=failure.bad_input)
        return failure

    def _take_news(self) -> Iterator[Event]:
        """Write the checkpoints that have come in, and yield how far runs are."""
        places = {(place.index, place.attempt): place for place in self._places.values()}
        news: list[News] = self._call(self._mailbox.take.remote())
        for item in news:
            place = places.get((item.index, item.attempt))
            if place is None:
                continue
            if not place.began:
                place.began = True
                yield Began(item.index, item.where)
            if item.work:
                self._keep(item.index, item.work)
            if item.agent_steps:
                yield Played(item.index, item.agent_steps, item.calls)

    def _keep(self, index: int, files: dict[str, bytes]) -> None:
        """Write a checkpoint; where the disk refuses, the one before stays."""
        try:
            unpack_work(work_folder(self._orders.results, self._runs[index]), files)
        except OSError as error:
            _logger.warning("a checkpoint of a run could not be written: %s.", told(error))

    def _end(self, reference: Any) -> Iterator[Event]:
        """Take in that the task at `reference` has ended, however it did."""
        place = self._places.pop(reference)
        index, run = place.index, self._runs[place.index]
        work = work_folder(self._orders.results, run)
        with place.resources:
            try:
                outcome: Outcome = self._ray.get(reference, timeout=ANSWER_SECONDS)
            except self._ray.exceptions.RayTaskError as error:
                failure = Failure(f"{error}", bad_input=False)
                record_failure(work, failure.text, bad_input=False)
                yield Ended(index, failure)
                return
            except self._ray.exceptions.RayError as error:
                yield self._lost(index, _why(error))
                return
            if outcome.stopped:
                self._keep(index, outcome.files)
                yield self._lost(index, "its node was told to stop it")
            elif outcome.failure is not None:
                record_failure(work, outcome.failure.text, outcome.failure.bad_input)
                yield Ended(index, outcome.failure)
            else:
                yield Ended(index, self._gather(index, outcome.files))

    def _gather(self, index: int, files: dict[str, bytes]) -> Failure | None:
        """Write a finished run; its folder appears when everything in it is there."""
        run = self._runs[index]
        try:
            unpack_work(work_folder(self._orders.results, run), files)
            if not publish(run, self._orders.results):
                raise PeerWattError(f"{run.label}: what came back from its node is not whole.")
        except (PeerWattError, OSError) as error:
            return self._failed(run, error)
        self._telling.tell(index, run_folder(self._orders.results, run))
        return None

    def _lost(self, index: int, why: str) -> Event:
        times = self._attempts[index]
        if times <= self._orders.retries:
            return Lost(index, why)
        often = "" if times == 1 else f" {times} times, at last"
        sentence = (
            f"its worker was lost{often} ({why}); `peerwatt resume` goes on from its last "
            "checkpoint."
        )
        return Ended(index, Failure(sentence, bad_input=False, lost=True))

    def _look_after_pending(self) -> None:
        """Warn if the cluster has no room for any run, and give up if it will never have any."""
        if any(place.began for place in self._places.values()):
            return  # the others wait for these
        now = time.monotonic()
        oldest = min((place.since for place in self._places.values()), default=now)
        if now - max(oldest, self._warned) < PENDING_SECONDS:
            return
        self._warned = now
        if not any(
            node.cpus >= self._cpus and node.memory >= self._memory for node in alive(self._ray)
        ):
            raise PeerWattError(
                "no node of the Ray cluster that could take a run is left: what is done is kept, "
                "and `peerwatt resume` goes on when there are nodes again."
            )
        _logger.warning(
            "runs have waited for %.0f s for a place in the Ray cluster, which others may use.",
            now - oldest,
        )

    def _stop(self) -> None:
        """Let the runs under way save a checkpoint and end; take in what they leave."""
        for reference, place in list(self._places.items()):
            if not place.began:
                self._ray.cancel(reference, force=True)
                self._places.pop(reference).resources.close()
        if not self._places:
            return
        until = time.monotonic() + STOP_SECONDS
        with contextlib.suppress(self._ray.exceptions.RayError, PeerWattError):
            self._call(self._mailbox.stop.remote())
            while self._places and (left := until - time.monotonic()) > 0:
                ready, _ = self._ray.wait(list(self._places), timeout=min(left, POLL_SECONDS))
                for _event in self._take_news():
                    pass
                for reference in ready:
                    for _event in self._end(reference):
                        pass
            for reference in self._places:
                self._ray.cancel(reference, force=True)

    def _call(self, reference: Any) -> Any:
        """Return what the mailbox answers.

        Raises:
            PeerWattError: nothing.
        """
        try:
            return self._ray.get(reference, timeout=ANSWER_SECONDS)
        except self._ray.exceptions.RayError as error:
            raise PeerWattError(
                f"the Ray cluster does not answer any more ({told(error, 200)}): what is done is "
                "kept, and `peerwatt resume` goes on."
            ) from None


def _without_seed(run: ResolvedRun) -> tuple[str, str]:
    return run.config_hash, repr(dataclasses.replace(run.config, seed=0))


def _why(error: Exception) -> str:
    """Return why a worker was lost, in a few words; Ray's are many."""
    name = type(error).__name__
    known = {
        "WorkerCrashedError": "its process died",
        "NodeDiedError": "its node is gone",
        "LocalRayletDiedError": "its node is gone",
        "OutOfMemoryError": "its node ran out of memory",
        "GetTimeoutError": "its result did not come",
    }
    if name in known:
        return known[name]
    lost = "Object" in name or "Owner" in name
    return "its node is gone with the result" if lost else shown(told(error), 150)


def _attempt(luggage: Luggage, mailbox: Any) -> Outcome:
    """Execute one attempt at a run: what a worker on a node does."""
    import ray

    def tell(news: News) -> str:
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                answer: str = ray.get(mailbox.tell.remote(news), timeout=ANSWER_SECONDS)
                return answer
            except ray.exceptions.ActorUnavailableError:  # the network, perhaps
                if time.monotonic() > until:
                    raise
                time.sleep(POLL_SECONDS)

    where = f"{ray.util.get_node_ip_address()}, process {os.getpid()}"
    return carry_out(luggage, where, tell)
