"""Sinks for tests. They live in another process, so they are importable and write to a file."""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from peerwatt.errors import PeerWattError

ERRORS = {
    "OSError": OSError("no\ndisk\x07"),
    "SystemExit": SystemExit(3),
    "PeerWattError": PeerWattError("bad"),
}


@dataclass
class Recording:
    """Writes each event as a line to `file`, and raises or hangs where it is told to."""

    file: Path = Path("events.jsonl")
    raises: str = ""
    """Event in which to raise `error`, a key of ERRORS."""
    error: str = "OSError"
    hangs: str = ""
    """Event in which to hang, or "exit"."""
    waits: Path | None = None
    """File that `start` waits for."""

    def tell(self, event, content):
        with self.file.open("a") as file:
            file.write(json.dumps([event, content]) + "\n")
        if event == self.raises:
            raise ERRORS[self.error]
        if event == self.hangs:
            time.sleep(3600)

    def start(self, run):
        self.tell("start", {**run, "pid": os.getpid(), "group": os.getpgid(0)})
        while self.waits is not None and not self.waits.exists():
            time.sleep(0.01)

    def log(self, row):
        self.tell("log", row)

    def finish(self, result):
        self.tell("finish", result)
        if self.hangs == "exit":
            threading.Thread(target=time.sleep, args=(3600,)).start()


@dataclass
class Dying(Recording):
    """Takes its process with it."""

    def log(self, row):
        os._exit(7)


@dataclass
class Deaf(Recording):
    """Has no method `log`."""

    log = property()


def events(file):
    """Return what a `Recording` has written."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
