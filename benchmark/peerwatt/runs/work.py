"""The folder of an unfinished run: how it is begun, and how it becomes that of the finished one.

Everything here but `read_attempt` is for the process that holds the lock of the run.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import itertools
import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peerwatt.errors import PeerWattError
from peerwatt.fairness.transcript import TRANSCRIPT_FILE, locked
from peerwatt.runs.checkpoint import CHECKPOINT_FILE
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.files import sync_folder, write_whole
from peerwatt.runs.result import RunResult
from peerwatt.runs.store import (
    CLOCK_FILE,
    METRICS_FILE,
    RESULT_FILE,
    clear_drafts,
    read_result,
    run_folder,
    work_folder,
)
from peerwatt.runs.untrusted import opener, read_small, require_plain

ATTEMPT_FILE = "attempt.json"
FAILURE_FILE = "failure.json"
WORK_FILES = (ATTEMPT_FILE, CHECKPOINT_FILE, METRICS_FILE, CLOCK_FILE, TRANSCRIPT_FILE)
"""Files of a work folder that a run needs to go on from its checkpoint."""
_UNFINISHED = (CHECKPOINT_FILE, FAILURE_FILE, ATTEMPT_FILE)
"""Files that a finished run has no more."""


class Attempt(BaseModel):
    """One attempt at a run: it may be interrupted and gone on with often."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{0,32}$")]
    again: bool
    """Whether it does a run anew on purpose; until it is finished, the run is not."""
    config_hash: str
    started: str
    begun: Annotated[int, Field(ge=0, le=1_000_000)]
    """How often a process has begun to work at it."""


class Failed(BaseModel):
    """Why the last process that worked at an attempt gave up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """See `Failure.text`."""
    bad_input: bool
    when: str

    @property
    def sentence(self) -> str:
        """What there is room for in a line."""
        return self.text.partition("\n")[0]


def now() -> str:
    """Return the time of day as records state it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_attempt(work: Path) -> Attempt | None:
    """Return the attempt that the folder `work` is of; None if there is none to go on with."""
    try:
        return Attempt.model_validate_json(read_small(work / ATTEMPT_FILE))
    except (PeerWattError, ValidationError):
        return None


def begin(run: ResolvedRun, results: Path, again: bool) -> Attempt:
    """Begin to work at `run`; see `prepare`. Return the attempt, with this beginning counted."""
    attempt, work = prepare(run, results, again), work_folder(results, run)
    attempt = attempt.model_copy(update={"begun": attempt.begun + 1})
    _write_attempt(work, attempt)
    (work / FAILURE_FILE).unlink(missing_ok=True)
    return attempt


def prepare(run: ResolvedRun, results: Path, again: bool) -> Attempt:
    """Make the work folder of `run`, and return the attempt that will be begun or gone on with.

    Raises:
        PeerWattError: the transcript of an earlier attempt is still being written, or the work
            folder leads elsewhere.
        OSError: the disk refuses.
    """
    folder, work = run_folder(results, run), work_folder(results, run)
    require_plain(work)
    clear_drafts(folder)
    set_aside(folder, _earlier_transcript(folder))
    attempt = read_attempt(work)
    if attempt is None or attempt.config_hash != run.config_hash or (again and not attempt.again):
        set_aside(folder, work / TRANSCRIPT_FILE)
        if work.exists():
            shutil.rmtree(work)
        attempt = Attempt(
            id=uuid.uuid4().hex, again=again, config_hash=run.config_hash, started=now(), begun=0
        )
        work.mkdir(parents=True)
        _write_attempt(work, attempt)
    return attempt


def _write_attempt(work: Path, attempt: Attempt) -> None:
    write_whole(work / ATTEMPT_FILE, (attempt.model_dump_json() + "\n").encode())


def forget(folder: Path, work: Path) -> None:
    """Let the attempt in `work` start from nothing; its transcript is kept beside `folder`."""
    (work / CHECKPOINT_FILE).unlink(missing_ok=True)  # first: it states what the others hold
    set_aside(folder, work / TRANSCRIPT_FILE)
    for name in (METRICS_FILE, CLOCK_FILE):
        (work / name).unlink(missing_ok=True)


def publish(run: ResolvedRun, results: Path) -> bool:
    """Let the work folder of `run` take its final place if it holds a whole, valid result.

    Whatever was killed on the way before is brought to an end. A damaged folder that has the place
    is kept under another name.

    Raises:
        OSError: the disk refuses; the next call goes on.
    """
    folder, work = run_folder(results, run), work_folder(results, run)
    old = folder.with_name(f".{folder.name}.old")
    whole = not work.is_symlink() and whole_result(run, work) is not None
    if whole:
        for left in (*work.glob(".*.tmp"), *(work / name for name in _UNFINISHED)):
            left.unlink(missing_ok=True)
        if folder.exists():
            if whole_result(run, folder) is None:
                _set_damaged_aside(folder)
            else:
                if old.exists():
                    shutil.rmtree(old)
                os.replace(folder, old)
        os.replace(work, folder)
        sync_folder(folder.parent)
    elif old.exists() and not folder.exists():
        os.replace(old, folder)
    if old.exists():
        shutil.rmtree(old, ignore_errors=True)
    return whole


def whole_result(run: ResolvedRun, folder: Path) -> RunResult | None:
    """Return the result of `run` in `folder` if it is valid and all its files are as it says."""
    try:
        result = read_result(folder / RESULT_FILE)
        digests = [_digest(folder / name) for name in result.files]
    except (PeerWattError, OSError):
        return None
    same = (result.config_hash, result.seed) == (run.config_hash, run.config.seed)
    return result if same and digests == [*result.files.values()] else None


def _digest(file: Path) -> str:
    with open(file, "rb", opener=opener) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _set_damaged_aside(folder: Path) -> None:
    names = (folder.with_name(f".{folder.name}.damaged-{n}") for n in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    os.replace(folder, kept)
    logging.getLogger(__name__).warning(
        "%s held no whole result of its run, which was made anew; what was there is %s.",
        folder,
        kept.name,
    )


def record_failure(work: Path, text: str, bad_input: bool) -> None:
    """Write down why the run failed; where the disk refuses even that, nothing more is done."""
    failed = Failed(text=text, bad_input=bad_input, when=now())
    with contextlib.suppress(OSError):
        write_whole(work / FAILURE_FILE, (failed.model_dump_json() + "\n").encode())


def read_failure(work: Path) -> Failed | None:
    """Return why the run in `work` failed; None if it did not."""
    try:
        return Failed.model_validate_json(read_small(work / FAILURE_FILE))
    except (PeerWattError, ValidationError):
        return None


def _earlier_transcript(folder: Path, mark: str = "") -> Path:
    """Return where a transcript lies that belongs to no folder of a run."""
    stem, _, ending = TRANSCRIPT_FILE.partition(".")
    return folder.with_name(f"{folder.name}.{stem}{mark}.{ending}")


def set_aside(folder: Path, transcript: Path) -> None:
    """Keep `transcript`, which an attempt left that is not gone on with, beside `folder`.

    Raises:
        PeerWattError: a process still writes it.
    """
    if not transcript.exists():
        return
    with open(transcript, "a", encoding="utf-8", opener=opener) as file:
        if not locked(file):
            raise PeerWattError(
                f"{folder} is being made by another process: wait until it is done, or stop it."
            )
    names = (_earlier_transcript(folder, f".interrupted-{n}") for n in itertools.count(1))
    transcript.rename(next(name for name in names if not name.exists()))
