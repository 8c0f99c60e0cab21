"""Sinks: where the numbers of a run go beside its folder. They observe, and never fail a run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Sink(Protocol):
    """Receives the events of one run, in the process that executes it.

    A dataclass whose fields are its options. Every run gets an instance of its own. What it is
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
        if self._sink is not None:
            self._call("start", self._sink.start, run)

    def log(self, row: Mapping[str, float | None]) -> None:
        """See `Sink.log`."""
        if self._sink is not None:
            self._call("log", self._sink.log, row)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """See `Sink.finish`."""
        if self._sink is not None:
            self._call("finish", self._sink.finish, result)

    def _call(self, event: str, function: Callable[[Any], None], content: object) -> None:
        try:
            function(copy.deepcopy(content))
        except (Exception, SystemExit) as error:
            self._sink = None
            text = " ".join(f"{type(error).__name__}: {error}".split())
            printable = "".join(c if c.isprintable() else "?" for c in text)
            self.notes.append(
                f"sink {self._name!r} failed in {event} and was left out from there: {printable}"[
                    :1000
                ]
            )
