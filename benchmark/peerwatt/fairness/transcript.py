"""The transcript of a critic's exchanges, and answers given again from one.

A transcript is a text file of JSON objects, one per line. The first describes the run; the others
have a `kind` and the `path` of the critic that wrote them ("" unless critics contain each other):

- `exchange`: one request and what came of it, written as soon as it is over.
- `answer`: what became of one question, in the order in which questions were put. These lines
  alone replay a run: the same questions in the same order get the same answers.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import IO, Any

from peerwatt.errors import PeerWattError, shown

TRANSCRIPT_FILE = "critic.jsonl"
TRANSCRIPT_VERSION = 1
RESULT_FILE = "result.json"
"""The record of a run, which lies beside its transcript."""
MOST_CHARACTERS = 10_000_000
"""Longest line that is read."""


class Transcript:
    """Writes a transcript, line by line; the file appears with the first line."""

    def __init__(self, file: Path, head: Mapping[str, Any]) -> None:
        """Prepare to write to `file`, which must not be there yet, below `head`."""
        self.file = file
        self._head = {"kind": "run", "version": TRANSCRIPT_VERSION, **head}
        self._lock = Lock()
        self._open: Any = None

    def write(self, kind: str, path: str, content: Mapping[str, Any]) -> None:
        """Append one line and hand it to the operating system.

        Raises:
            PeerWattError: the disk refuses, or another process writes the transcript.
        """
        line = json.dumps({"kind": kind, "path": path, **content}, allow_nan=False)
        with self._lock:
            try:
                if self._open is None:
                    self._open = self.file.open("x", encoding="utf-8")
                    locked(self._open)
                    self._open.write(json.dumps(self._head, allow_nan=False) + "\n")
                self._open.write(line + "\n")
                self._open.flush()
            except FileExistsError:
                raise PeerWattError(
                    f"transcript {self.file}: another process writes it; wait until it is done."
                ) from None
            except OSError as error:
                raise PeerWattError(
                    f"transcript {self.file}: cannot be written ({error.strerror}); what is "
                    "written is kept."
                ) from error

    def digest(self) -> str | None:
        """Return the SHA-256 of what was written; None if nothing was."""
        if self._open is None:
            return None
        with self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def close(self) -> None:
        """Close the file; nothing more may be written."""
        if self._open is not None:
            self._open.close()


def locked(file: IO[str]) -> bool:
    """Lock an open file for as long as it is open; False if another process has locked it.

    The lock ends with the process, however that ends. Where there are no locks, it does nothing.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True


class Recording:
    """The answers of a transcript, given again in their order."""

    def __init__(self, file: Path) -> None:
        """Read the transcript in `file`.

        Raises:
            PeerWattError: it cannot be read, is no transcript, or not that of the record beside it.
        """
        self.file = file
        self.head: dict[str, Any] = {}
        self._answers: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._given: dict[str, int] = defaultdict(int)
        try:
            if file.exists() and not file.is_file():  # a pipe would be waited for
                raise PeerWattError(f"transcript {file}: is no file; name that of a run.")
            with file.open(encoding="utf-8") as lines:
                pieces = iter(lambda: lines.readline(MOST_CHARACTERS + 1), "")
                for number, line in enumerate(pieces, 1):
                    self._take(number, line)
            self._require_unchanged()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise PeerWattError(f"transcript {file}: cannot be read ({reason}).") from None
        if not self.head:
            raise PeerWattError(
                f"transcript {file}: is empty; name the {TRANSCRIPT_FILE} of a run."
            )

    def _require_unchanged(self) -> None:
        """Refuse a transcript that is not the one of which the record beside it tells."""
        record = self.file.with_name(RESULT_FILE)
        if self.file.name != TRANSCRIPT_FILE or not record.is_file():
            return
        try:
            usage = json.loads(record.read_bytes())["critic_usage"]
            expected = usage["transcript"]
        except (ValueError, TypeError, LookupError, RecursionError):
            return  # a record that is none tells nothing
        with self.file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if expected is not None and expected != digest:
            raise PeerWattError(
                f"transcript {self.file}: is not the one that {RESULT_FILE} beside it tells of, "
                f"whose SHA-256 is {shown(str(expected), 64)}; name an unchanged transcript."
            )

    def _take(self, number: int, line: str) -> None:
        if len(line) > MOST_CHARACTERS:
            raise PeerWattError(
                f"transcript {self.file}: line {number} is longer than {MOST_CHARACTERS:,} "
                f"characters: '{shown(line, 60)}'."
            )
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        kind = record.get("kind") if isinstance(record, dict) else None
        if kind is None and number > 1 and not line.endswith("\n"):
            return  # the run was killed while it wrote
        if number == 1 and (kind != "run" or record.get("version") != TRANSCRIPT_VERSION):
            raise PeerWattError(
                f"transcript {self.file}: line 1 is not the head of a transcript of version "
                f"{TRANSCRIPT_VERSION}: '{shown(line, 60)}'."
            )
        if number == 1 and type(record.get("seed", 0)) is not int:
            raise PeerWattError(
                f"transcript {self.file}: line 1 gives the seed "
                f"'{shown(str(record['seed']), 20)}', which is no whole number."
            )
        if number == 1:
            self.head = record
        elif kind == "answer":
            self._answers[str(record.get("path", ""))].append(record)
        elif kind is None:
            raise PeerWattError(
                f"transcript {self.file}: line {number} is no JSON object: '{shown(line, 60)}'."
            )

    def answer(self, path: str, question: str) -> dict[str, Any]:
        """Return the next answer that the critic at `path` got, which must be to `question`.

        Raises:
            PeerWattError: another question was put then, or none: the run is not the recorded one.
        """
        self._given[path] += 1
        place = f"question {self._given[path]:,}" + (f" of {path}" if path else "")
        mend = "replay it with the task, algorithm, options, seed and version that made it"
        if not self._answers[path]:
            raise PeerWattError(f"transcript {self.file}: ends before {place} of this run; {mend}.")
        record = self._answers[path].popleft()
        if record.get("question") != question:
            raise PeerWattError(
                f"transcript {self.file}: {place} of this run is not the recorded one; {mend}."
            )
        return record

    def left(self) -> int:
        """Return how many answers have not been given."""
        return sum(map(len, self._answers.values()))
