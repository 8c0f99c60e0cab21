"""Runs that failed, and whether the machine or the code is to blame."""

from __future__ import annotations

import re
from pathlib import Path

from peerwatt.errors import shown
from peerwatt.runs.work import read_failure

_MACHINE = re.compile(
    r"not enough memory|(\w+\.)*(MemoryError|TimeoutError|Connection\w*Error|BrokenPipeError)\b"
    r"|(cannot write |OSError: ).*(No space left on device|Read-only file system|quota exceeded)"
    r"|its worker process died.*(SIGKILL|SIGTERM)|its worker was lost"
)
"""How a failure begins that says nothing about the code: memory, disk or network gave out."""


def failures(results: Path, entry: Path) -> dict[int, str]:
    """Return seed -> error of each failed run in the folder `entry` of `results`."""
    failed = {}
    for work in sorted((results / entry).glob(".seed-*.work")):
        digits = work.name.removeprefix(".seed-").removesuffix(".work")
        failure = read_failure(work)
        if failure is not None and digits.isdigit():
            sentence = shown(failure.sentence, 300) or "no reason is known"
            failed[int(digits)] = sentence if sentence.endswith(".") else f"{sentence}."
    return failed


def by_the_code(text: str) -> bool:
    """Return whether an error is none of the machine's."""
    return _MACHINE.match(text) is None
