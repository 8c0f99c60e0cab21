"""What a benchmark of one critic has done so far, so that it can be stopped and resumed.

A text file of JSON objects, one per line, each written as soon as it is known. What a critic told
of its calls is kept of every attempt at a phase, those that were interrupted included: so the
record counts what its answers cost, whoever was killed in between.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import CriticUsage, summed
from peerwatt.fairness.transcript import locked

USAGE: TypeAdapter[CriticUsage] = TypeAdapter(CriticUsage)


class Journal:
    """The journal of one critic; only one process may have it open."""

    def __init__(self, file: Path, *, again: bool = False) -> None:
        """Open or create `file`; `again` keeps what was paid and forgets what was scored.

        Raises:
            PeerWattError: another process has it open, or the disk refuses.
        """
        self.lines: list[dict[str, Any]] = []
        self._file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._open = file.open("a+", encoding="utf-8")
            if not locked(self._open):
                self._open.close()
                raise PeerWattError(
                    f"{file.parent}: another process benchmarks this critic; wait until it is done."
                )
            self._open.seek(0)
            text = self._open.read()
            if text and not text.endswith("\n"):
                self._open.write("\n")  # the last line was torn
        except OSError as error:
            raise PeerWattError(
                f"cannot write {file}: {error.strerror}; name another folder with --results."
            ) from None
        for line in text.splitlines():
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if isinstance(content, dict):
                self.lines.append(content)
        if again:
            self.write({"phase": "", "forget": True})

    def write(self, content: dict[str, Any]) -> None:
        """Append one line and hand it to the operating system."""
        try:
            self._open.write(json.dumps(content, allow_nan=False) + "\n")
            self._open.flush()
        except OSError as error:
            raise PeerWattError(
                f"cannot write {self._file}: {error.strerror}; what is done is kept."
            ) from None
        self.lines.append(content)

    def close(self) -> None:
        """Let others have it."""
        self._open.close()

    def done(self, phase: str) -> dict[str, Any] | None:
        """Return the line that ended `phase`; None if it is still to be done."""
        for line in reversed(self.lines):
            if line.get("forget"):
                return None
            if line.get("phase") == phase and line.get("done"):
                return line
        return None

    def attempts(self, phase: str) -> int:
        """Return how often `phase` was begun."""
        return max((line.get("attempt", 0) for line in self._of(phase)), default=0)

    def usage(self, phase: str) -> CriticUsage | None:
        """Return what all attempts at `phase` came to; None if the critic tells nothing."""
        return total(list(self._usages(phase).values()))

    def calls(self, phase: str) -> dict[int, int]:
        """Return attempt at `phase` -> requests that it told of."""
        return {attempt: usage.calls for attempt, usage in self._usages(phase).items()}

    def timed(self, phase: str) -> dict[int, float]:
        """Return slot -> seconds of what was timed in attempts at `phase` that were cut short."""
        found: dict[int, float] = {}
        for line in self.lines:
            if line.get("forget"):
                found = {}
            elif line.get("phase") == phase and "slot" in line:
                found[line["slot"]] = line["seconds"]
        return found

    def _usages(self, phase: str) -> dict[int, CriticUsage]:
        """Return attempt -> what it told last."""
        last = {line["attempt"]: line["usage"] for line in self._of(phase) if line.get("usage")}
        return {attempt: USAGE.validate_python(usage) for attempt, usage in last.items()}

    def _of(self, phase: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("phase") == phase]


def total(usages: Sequence[CriticUsage]) -> CriticUsage | None:
    """Return the sum of several usages, the last of which tells how it ended; None of none."""
    if not usages:
        return None
    last = usages[-1]
    return dataclasses.replace(
        summed(usages), capped=last.capped, transcript=last.transcript, held_out=last.held_out
    )
