"""The transcript of a critic's exchanges, and answers given again from one.

A transcript is a text file of JSON objects, one per line. The first describes the run; the others
have a `kind` and the `path` of the critic that wrote them ("" unless critics contain each other):

- `exchange`: one request and what came of it, written as soon as it is over.
- `answer`: what became of one question, in the order in which questions were put. These lines
  alone replay a run: the same questions in the same order get the same answers.

A run that was interrupted goes on with its transcript: answers that are there are given again until
there is none left, and what comes then is appended. So nothing stands in it twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, Any

from peerwatt.errors import PeerWattError, shown

TRANSCRIPT_FILE = "critic.jsonl"
TRANSCRIPT_VERSION = 1
RESULT_FILE = "result.json"
"""The record of a run, which lies beside its transcript."""
MOST_BYTES = 10_000_000
"""Longest line that is read."""


class Transcript:
    """Writes a transcript, line by line; the file appears with the first line.

    Attributes:
        file: where it is written.
        tail: what stood in it when it was opened to go on with; None if nothing did.
    """

    def __init__(self, file: Path, head: Mapping[str, Any], *, going_on: bool = False) -> None:
        """Prepare to write to `file` below `head`.

        Args:
            file: where to write; unless `going_on`, it must not be there yet.
            head: what is known of the run, for the first line.
            going_on: whether to append to `file` if it is there. Of a file that a killed process
                left, what follows the first damaged line is cut off.

        Raises:
            PeerWattError: `file` cannot be gone on with, or another process writes it.
        """
        self.file = file
        self.tail: Recording | None = None
        self._head = {"kind": "run", "version": TRANSCRIPT_VERSION, **head}
        self._lock = Lock()
        self._open: Any = None
        if going_on and file.exists():
            self._go_on()

    def _go_on(self) -> None:
        with self._told():
            self._open = self.file.open("a", encoding="utf-8")
            try:
                if not locked(self._open):
                    raise FileExistsError
                tail = Recording(self.file, interrupted=True)
                self._open.truncate(tail.length)
                if tail.head:
                    self.tail = tail
                else:
                    self._open.write(self._first())
                    self._open.flush()
            except BaseException:
                self._open.close()
                raise

    def _first(self) -> str:
        return json.dumps(self._head, allow_nan=False) + "\n"

    def write(self, kind: str, path: str, *contents: Mapping[str, Any]) -> None:
        """Append one line for each of `contents`, and hand them to the operating system at once.

        Raises:
            PeerWattError: the disk refuses, or another process writes the transcript.
        """
        lines = [
            json.dumps({"kind": kind, "path": path, **content}, allow_nan=False) + "\n"
            for content in contents
        ]
        with self._lock, self._told():
            if self._open is None:
                self._open = self.file.open("x", encoding="utf-8")
                locked(self._open)
                lines.insert(0, self._first())
            self._open.write("".join(lines))
            self._open.flush()

    def sync(self) -> None:
        """Have the disk take down what was written, so that it outlives a loss of power.

        Raises:
            PeerWattError: the disk refuses.
        """
        with self._lock, self._told():
            if self._open is not None:
                os.fsync(self._open.fileno())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what the disk refuses into one sentence."""
        try:
            yield
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
    """The answers of a transcript, given again in their order.

    Attributes:
        file: where they were read.
        head: the first line.
        length: bytes of the file that were taken; the rest is damaged.
        exchanges: of an interrupted run, what the lines of kind `exchange` say, by path and in
            order. Only the first of each path holds its messages, and none the reply.
    """

    def __init__(self, file: Path, *, interrupted: bool = False) -> None:
        """Read the transcript in `file`.

        Args:
            file: a whole transcript.
            interrupted: whether the run that wrote it may have been killed at any moment, and goes
                on: what follows the first damaged line is left out then.

        Raises:
            PeerWattError: it cannot be read, is no transcript, or not that of the record beside it.
        """
        self.file = file
        self.head: dict[str, Any] = {}
        self.length = 0
        self.exchanges: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._interrupted = interrupted
        self._answers: dict[str, deque[dict[str, Any]]] = defaultdict(deque)
        self._given: dict[str, int] = defaultdict(int)
        try:
            if file.exists() and not file.is_file():  # a pipe would be waited for
                raise PeerWattError(f"transcript {file}: is no file; name that of a run.")
            with file.open("rb") as lines:
                pieces = iter(lambda: lines.readline(MOST_BYTES + 1), b"")
                for number, line in enumerate(pieces, 1):
                    if interrupted and not _sound(line):
                        break
                    self._take(number, line)
                    self.length += len(line)
            if not interrupted:
                self._require_unchanged()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise PeerWattError(f"transcript {file}: cannot be read ({reason}).") from None
        if not self.head and not interrupted:
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

    def _take(self, number: int, content: bytes) -> None:
        if len(content) > MOST_BYTES:
            start = content[:1000].decode(errors="replace")
            raise PeerWattError(
                f"transcript {self.file}: line {number} is longer than {MOST_BYTES:,} bytes: "
                f"'{shown(start, 60)}'."
            )
        line = content.decode()
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
        elif kind == "exchange" and self._interrupted:
            exchanges = self.exchanges[str(record.get("path", ""))]
            record["reply"] = None if record.get("reply") is None else ""
            if exchanges:
                record.pop("messages", None)
            exchanges.append(record)
        elif kind is None:
            raise PeerWattError(
                f"transcript {self.file}: line {number} is no JSON object: '{shown(line, 60)}'."
            )

    def skip(self, path: str, answers: int) -> None:
        """Leave out the first `answers` answers that the critic at `path` got.

        Raises:
            PeerWattError: there are not so many.
        """
        if answers > len(self._answers[path]):
            raise PeerWattError(
                f"transcript {self.file}: holds {len(self._answers[path]):,} answers"
                + (f" to {path}" if path else "")
                + f", fewer than the {answers:,} that the checkpoint tells of; do the run anew "
                "with --again."
            )
        for _ in range(answers):
            self._answers[path].popleft()
        self._given[path] += answers

    def upcoming(self, path: str) -> Sequence[Mapping[str, Any]]:
        """Return the answers to the critic at `path` that have not been given."""
        return tuple(self._answers[path])

    def ended(self, path: str) -> bool:
        """Return whether no answer to the critic at `path` is left."""
        return not self._answers[path]

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


def _sound(line: bytes) -> bool:
    """Return whether `line` was written whole."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
