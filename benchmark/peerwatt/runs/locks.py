"""Who is at a run: a lock for each, which ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.stopping import RunStopped, Stop
from peerwatt.runs.store import alive, run_folder
from peerwatt.runs.untrusted import opener, read_small

LOCKS_FOLDER = ".locks"
LOCK_SECONDS = 30.0
"""How long a lock is waited for: an orphan of a killed command may be about to end."""
POLL_SECONDS = 0.1


class BeingMade(PeerWattError):
    """Another process is at the run."""


def lock_file(results: Path, run: ResolvedRun) -> Path:
    """Return the file whose lock says that somebody is at `run`; it stays when that ends."""
    folder = run_folder(results, run)
    # Digested: together these names may be longer than a file's name may be.
    digest = hashlib.sha256(folder.relative_to(results).as_posix().encode()).hexdigest()
    return results / LOCKS_FOLDER / f"{digest[:32]}.lock"


_HELD: set[IO[str]] = set()
"""Files whose locks this process holds."""


def _let_go() -> None:
    """Close the locks in a child that a run forks: else they would outlive a run that is killed."""
    for stream in _HELD:
        with contextlib.suppress(OSError):
            stream.close()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def held(
    results: Path, run: ResolvedRun, seconds: float | None = None, stop: Stop | None = None
) -> Iterator[None]:
    """Keep `run` to this process within the block.

    Args:
        results: folder of all results.
        run: the run.
        seconds: how long to wait for another process; by default `LOCK_SECONDS`.
        stop: ends the waiting.

    Raises:
        BeingMade: another process has it still.
        PeerWattError: the folder cannot be written.
        RunStopped: `stop` was asked for.
    """
    file = lock_file(results, run)
    deadline = time.monotonic() + (LOCK_SECONDS if seconds is None else seconds)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = open(file, "a+", encoding="utf-8", opener=opener)  # noqa: SIM115
    except OSError as error:
        raise PeerWattError(
            f"cannot write results to {results}: {error.strerror}; name another folder with "
            "--results."
        ) from None
    with stream:
        while not _locked(stream, shared=False):
            if stop is not None and stop.asked:
                raise RunStopped
            if time.monotonic() >= deadline:
                raise BeingMade(
                    f"{run_folder(results, run)} is being made by another process "
                    f"({_owner(file)}): wait until it is done, or stop it."
                )
            time.sleep(POLL_SECONDS)
        with contextlib.suppress(OSError):  # a full disk: who holds the lock is only told
            stream.truncate(0)
            place = run_folder(results, run).relative_to(results).as_posix()
            content = {"pid": os.getpid(), "host": platform.node(), "run": place}
            stream.write(json.dumps(content))
            stream.flush()
        _HELD.add(stream)
        try:
            yield
        finally:
            _HELD.discard(stream)


def holder(results: Path, run: ResolvedRun) -> str | None:
    """Return which process is at `run`, None if none is; `results` may be read-only."""
    file = lock_file(results, run)
    try:
        owner = _owner(file)
        with open(file, encoding="utf-8", opener=opener) as stream:
            return None if _locked(stream, shared=True) else owner
    except OSError:
        return None


def _owner(file: Path) -> str:
    try:
        content = json.loads(read_small(file))
        pid, host = int(content["pid"]), content["host"]
        gone = host == platform.node() and not alive(pid)
        more = " (which is gone, but a process that it began holds the lock)" if gone else ""
        return shown(f"process {pid} on {host}", 100) + more
    except (PeerWattError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return "which has not told its number"


def _locked(stream: IO[str], *, shared: bool) -> bool:
    """Lock an open file for as long as it is open; False if another has locked it."""
    try:
        import fcntl

        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError) as error:
        if not shared:
            _warn_without_locks(str(error))
    return True


@cache
def _warn_without_locks(reason: str) -> None:
    logging.getLogger(__name__).warning(
        "the folder of the results has no file locks (%s): see to it that no two commands are at "
        "the same runs.",
        reason,
    )
