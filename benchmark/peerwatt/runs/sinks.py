"""Sinks: where the numbers of a run go beside its folder. They observe, and never fail a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from peerwatt.errors import told


class Sink(Protocol):
    """Receives the events of one run, in the process that executes it.

    A dataclass whose fields are its options. Every run gets an instance of its own, made before
    anything runs: if making it fails, the command ends there. It never fails a run once it began:
    whatever a method raises is noted in the record, and the sink is told nothing more. What it is
    handed are copies: nothing it does to them changes the run.
    """

    def start(self, run: Mapping[str, Any]) -> None:
        """Take in that a run begins.

        Args:
            run: the head of its record: `task`, `algorithm`, `critic`, `mechanism`, `shaping`,
                `seed`, `budget`, `config_hash` as in `result.json`, and `folder`, the path that
                the finished run will have.
        """
        ...

    def log(self, row: Mapping[str, float | None]) -> None:
        """Take in one report of the algorithm, a row of `metrics.jsonl`; None where undefined."""
        ...

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Take in the record of the finished run, as in `result.json`; None if the run failed."""
        ...


class GuardedSink:
    """Hands events to a sink until it fails, then leaves it alone and remembers why."""

    def __init__(self, name: str, sink: Sink | None) -> None:
        self._name = name
        self._sink = sink
        self.notes: list[str] = []

    def start(self, run: Mapping[str, Any]) -> None:
        """See `Sink.start`."""
        self._tell("start", run)

    def log(self, row: Mapping[str, float | None]) -> None:
        """See `Sink.log`."""
        self._tell("log", row)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """See `Sink.finish`."""
        self._tell("finish", result)

    def _tell(self, event: Literal["start", "log", "finish"], content: object) -> None:
        if self._sink is None:
            return
        try:
            getattr(self._sink, event)(copy.deepcopy(content))
        except (Exception, SystemExit) as error:
            self._sink = None
            note = f"sink {self._name!r} failed in {event} and was left out from there: "
            self.notes.append((note + told(error))[:1000])
