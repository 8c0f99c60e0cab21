"""Executors: where the runs of a plan are executed. All give the same results, byte for byte.

An executor is told jobs and orders and yields events. It records nothing: runs write their own
folders (`peerwatt.runs.execute`), and the runner shows and counts what the events tell.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from peerwatt.errors import PeerWattError, shown, told
from peerwatt.runs.config import RunConfig
from peerwatt.runs.locks import BeingMade

CHECKPOINT_SECONDS = 60.0
"""Usual time between two checkpoints of a run."""


@dataclass(frozen=True)
class Job:
    """One run to execute."""

    index: int
    """By which events name it."""
    config: RunConfig
    label: str


@dataclass(frozen=True)
class Orders:
    """What holds for all jobs."""

    results: Path
    workers: int
    """How many runs at once."""
    again: bool = False
    """Do finished runs anew, and forget checkpoints."""
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Least time between two checkpoints of a run; 0: whenever the algorithm offers one."""
    retries: int = 1
    """How often a run is tried again whose worker died; it goes on from its checkpoint."""
    code: str | None = None
    """Digest of PeerWatt's own code that the command began with; a worker of other code refuses."""


@dataclass(frozen=True)
class Failure:
    """Why a run failed."""

    text: str
    """The sentence of a `PeerWattError`, or one that tells the error and a traceback below it."""
    bad_input: bool
    """Another input is the mend; not so where the machine or another process is in the way."""
    lost: bool = False
    """The run failed for its worker died, again and again; nothing of it wrote that down."""

    @property
    def sentence(self) -> str:
        """What there is room for in a line."""
        return self.text.partition("\n")[0]


def failure_of(error: BaseException) -> Failure:
    """Return what to tell of an exception that ended a run, in its `except` block."""
    if isinstance(error, PeerWattError):
        outside = isinstance(error, BeingMade) or isinstance(error.__cause__, OSError)
        return Failure(shown(str(error), 4_000), bad_input=not outside)
    if isinstance(error, MemoryError):
        sentence = f"not enough memory ({error}): lower num_envs, sizes or --workers."
        return Failure(sentence, bad_input=False)
    return Failure(f"{told(error)}\n{traceback.format_exc()}", bad_input=False)


@dataclass(frozen=True, slots=True)
class Began:
    """A worker has begun a run, perhaps from a checkpoint."""

    index: int
    where: str
    """Which worker, for people: a process number or a node's address."""


@dataclass(frozen=True, slots=True)
class Played:
    """A run has come so far."""

    index: int
    agent_steps: int
    calls: int
    """Calls that its critic made."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of a run died; the run is tried again."""

    index: int
    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over; without a failure its folder is complete."""

    index: int
    failure: Failure | None


Event = Began | Played | Lost | Ended


class Executor(Protocol):
    """Executes jobs."""

    def run(self, jobs: Sequence[Job], orders: Orders) -> Iterator[Event]:
        """Yield events until every job has ended.

        Closing the iterator stops politely: runs save a checkpoint and end; whoever does not within
        some seconds is killed, which loses what came after the last checkpoint and nothing else.

        Raises:
            PeerWattError: jobs cannot be executed here at all.
        """
        ...
