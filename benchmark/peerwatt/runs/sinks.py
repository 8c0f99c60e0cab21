"""Sinks: where the numbers of a run go beside its folder. They observe: no run waits for one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Protocol

from peerwatt.errors import shown, told
from peerwatt.runs import sink_process, tracking

MOST_ROWS = 1_000
"""Rows that wait for a sink; what comes while so many wait is dropped, and counted."""
PATIENCE = 30.0
"""Seconds that a finished run waits for its sink, in all."""
PATIENCE_FAILED = 5.0
"""The same for a run that failed or was stopped, which somebody wants to end."""


class Sink(Protocol):
    """Receives the events of one run, in a process of its own.

    A dataclass whose fields are its options. The run makes one from its options before anything
    begins: if that fails, the command ends there. Another one is made in a process that lives
    beside the run, and is told the events. Whatever it does there, the run neither fails nor waits:
    if it raises, it is told nothing more; if it is slow, rows are dropped; and if it is not done
    30 s after the run, its process is killed. The record of the run notes each of these.

    It may have a method `destination() -> str`, which says where it brings a run: `peerwatt sync`
    brings no run to the same destination twice. Without one, its name and options say it. It may
    have a method `outcome() -> str`: one line for the end of a command, such as where files are.
    """

    def start(self, run: Mapping[str, Any]) -> None:
        """Take in that a run begins.

        Args:
            run: the head of its record: `task`, `algorithm`, `critic`, `mechanism`, `shaping`,
                `seed`, `budget`, `config_hash` and `environment` as in `result.json`; `folder`, the
                path that the finished run will have; `files`, the folder that has its files until
                then, with the policy when `finish` is called; `resumed`, the agent-steps that it
                goes on from, 0 if it begins: what was reported until then is told again; and
                `attempt`, a text that no other attempt at a run has.
        """
        ...

    def log(self, row: Mapping[str, float | None]) -> None:
        """Take in one report of the algorithm: a row of `metrics.jsonl`, and `seconds`.

        `seconds` counts from the beginning of the training. None stands where a value is undefined.
        """
        ...

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Take in the record of the finished run, as in `result.json`; None if it has none.

        It has none if it failed, or was stopped or killed, and may be gone on with.
        """
        ...


class QueuedSink:
    """Hands events to a sink in a process of its own, over a bounded queue.

    Attributes:
        notes: what went wrong, a line each; complete when `finish` has returned.
    """

    def __init__(
        self,
        name: str,
        sink: Sink | None,
        *,
        patience: float = PATIENCE,
        most_rows: int = MOST_ROWS,
    ) -> None:
        """Take in what to tell; nothing is started before the run is.

        Args:
            name: by which notes name the sink.
            sink: the sink with its options, a dataclass; None for no sink at all.
            patience: seconds that `finish` waits at most.
            most_rows: rows that may wait.
        """
        self.notes: list[str] = []
        self._name = name
        self._sink = sink
        self._patience = patience
        self._most_rows = most_rows
        self._waiting: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._event = "start"  # what the sink is busy with
        self._over = False  # it is told nothing more
        self._rows = self._dropped = self._taken = self._kept = 0
        self._folder: Path | None = None

    def start(self, run: Mapping[str, Any]) -> None:
        """See `Sink.start`. If the run is `resumed`, its kept rows are told next."""
        if self._sink is None:
            return
        options = {f.name: getattr(self._sink, f.name) for f in _options(self._sink)}
        try:
            self._put("make", (type(self._sink), options))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self._left_out(f"failed in start and was left out from there: {told(error)}")
            return
        self._put("start", dict(run))
        self._folder = Path(run["folder"]) if "folder" in run else None
        if run.get("resumed") and "files" in run:
            try:
                for row in tracking.rows(Path(run["files"])):
                    self._kept += 1
                    self._put("log", row)
            except (OSError, ValueError) as error:
                self._note(f"was not told the rows before {run['resumed']:,}: {told(error)}")
        self._thread = threading.Thread(target=self._deliver, daemon=True)
        self._thread.start()

    def log(self, row: Mapping[str, float | None]) -> None:
        """See `Sink.log`. Never waits: a row for which there is no room is dropped."""
        if self._thread is None or self._over:
            return
        self._rows += 1
        if self._missed - max(0, self._kept - self._taken) > self._most_rows:
            self._dropped += 1
        else:
            self._put("log", dict(row))

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """See `Sink.finish`. Waits for the sink, but not for ever."""
        if self._thread is None:
            return
        self._put("finish", result)
        if result is None:
            # It ends by itself, at the latest some seconds after this process does.
            self._thread.join(min(self._patience, PATIENCE_FAILED))
            return
        self._thread.join(self._patience)
        if self._thread.is_alive():
            if not self._over:
                missed = f": {self._missed:,} rows were not told" if self._missed else ""
                self._left_out(
                    f"was still busy in {self._event} {self._patience:g} s after the run, and was "
                    f"stopped{missed}"
                )
            self._kill()
            self._thread.join(PATIENCE_FAILED)
        if self._dropped:
            self._note(
                f"was too slow: {self._dropped:,} of {self._kept + self._rows:,} rows were "
                "dropped; `peerwatt sync` tells them later"
            )
        if not self.notes and self._folder is not None and self._sink is not None:
            tracking.remember(self._folder, self._name, self._sink, result, live=True)

    @property
    def _missed(self) -> int:
        """Rows that the sink has not taken, but for those dropped."""
        return self._kept + self._rows - self._dropped - self._taken

    def _put(self, event: str, content: object) -> None:
        self._waiting.put((event, pickle.dumps((event, content))))

    def _deliver(self) -> None:
        """Start the process, tell it one event after the other, and wait for its end."""
        try:
            connection = self._begin()
        except OSError as error:
            self._left_out(f"failed in start and was left out from there: {told(error)}")
            return
        with connection:
            event = ""
            while event != "finish" and not self._over:
                event, message = self._waiting.get()
                self._event = "start" if event == "make" else event
                try:
                    connection.send_bytes(message)
                    problem = connection.recv()
                except (OSError, EOFError):
                    problem = "its process ended"
                if problem is not None and not self._over:
                    self._left_out(
                        f"failed in {self._event} and was left out from there: {problem}"
                    )
                self._taken += event == "log" and problem is None
            if not self._over:
                self._event = "its exit"
            if self._process is not None:
                self._process.wait()

    def _begin(self) -> Connection:
        ours, theirs = Pipe()
        with theirs:
            descriptor = theirs.fileno()
            # A script, not a fork or a module of a package: nothing of the run is in its memory.
            # A session of its own: Ctrl-C is for the run, which then tells the sink.
            self._process = subprocess.Popen(
                [
                    *(sys.executable, sink_process.__file__),
                    *(str(descriptor), str(sink_process.GRACE)),
                    *sys.path,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[descriptor],
                start_new_session=True,
            )
        return ours

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _left_out(self, what: str) -> None:
        self._over = True
        self._note(what)

    def _note(self, what: str) -> None:
        self.notes.append(shown(f"sink {self._name!r} {what}", 900))


def _options(sink: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(sink) if field.init]


def tell(
    folder: Path, name: str, sink: Sink, record: Mapping[str, Any], patience: float = PATIENCE
) -> list[str]:
    """Tell `sink` all of a finished run, and remember that; return what went wrong, a line each.

    Args:
        folder: folder of the run.
        name: name of the sink.
        sink: the sink with its options.
        record: what `result.json` in `folder` holds.
        patience: seconds after which the sink is given up.
    """
    queued = QueuedSink(name, sink, patience=patience)
    queued.start(tracking.head(record, folder))
    queued.finish(record)
    return queued.notes
