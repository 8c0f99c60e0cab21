"""Ends what a Ray cluster of our own leaves, also where the command was killed: a small process.

Two of Ray's processes outlive their parent for minutes where it is killed. So this script, started
beside the cluster, waits until the command closes its standard input, or is gone, which closes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SECONDS = 10.0
"""How long processes are looked for: those that end may still begin others."""


def users(folder: Path) -> Iterator[int]:
    """Yield the ids of processes that have a file in `folder` open, such as their log (Linux)."""
    for process in Path("/proc").glob("[0-9]*"):
        # Of other users, or just gone.
        with contextlib.suppress(OSError):
            if any(Path(os.readlink(file)).is_relative_to(folder) for file in process.glob("fd/*")):
                yield int(process.name)


def sweep(folder: Path, spared: int) -> None:
    """Kill the processes that use `folder`, except `spared`, and remove it."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        left = [process for process in users(folder) if process not in (spared, os.getpid())]
        if not left:
            break
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.stdin.read()
    sweep(Path(sys.argv[1]), spared=int(sys.argv[2]))
