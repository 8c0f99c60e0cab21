"""`ledger.jsonl`: what was removed and what was verified, one line each, never changed."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from peerwatt.errors import PeerWattError
from peerwatt.runs.result import Finite, Hash, Line, Record, Version
from peerwatt.submissions.guards import (
    ENTRY_LEVEL,
    LAYOUT,
    LEDGER_FILE,
    parse_lines,
    read_bytes,
    refuse,
    shown,
)


def _past(text: str) -> str:
    if datetime.date.fromisoformat(text).isoformat() > today():
        raise ValueError("is in the future")
    return text


Day = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(_past)]
"""A day that the calendar has, and that has come."""
EntryPath = Annotated[
    str, Field(pattern=f"^{'/'.join(level.folders for level in LAYOUT[:ENTRY_LEVEL])}$")
]


class Removed(Record):
    """An entry was taken out, and why."""

    kind: Literal["removed"] = "removed"
    entry_id: Hash
    path: EntryPath
    reason: Annotated[Line, Field(min_length=1, max_length=500)]
    date: Day


class Verified(Record):
    """An entry was replayed, and how close it came."""

    kind: Literal["verified"] = "verified"
    entry_id: Hash
    verdict: Literal["exact", "within tolerance"]
    largest_difference: Finite = Field(ge=0, description="largest |replayed - recorded| / scale")
    peerwatt: Version
    platform: Line
    date: Day


_LINE: TypeAdapter[Removed | Verified] = TypeAdapter(
    Annotated[Removed | Verified, Field(discriminator="kind")]
)


@dataclass(frozen=True)
class Ledger:
    """The lines of a ledger by what they tell of."""

    removed: dict[str, Removed] = field(default_factory=dict)
    verified: dict[str, Verified] = field(default_factory=dict)
    """The last verification of each entry."""
    lines: list[Removed | Verified] = field(default_factory=list)
    """All, as they stand there."""


def read_ledger(root: Path) -> Ledger:
    """Read the ledger of a results root; one that is missing is empty.

    Raises:
        PeerWattError: a line is not what the ledger's commands write.
    """
    file = root / LEDGER_FILE
    ledger = Ledger()
    if not file.is_symlink() and not file.exists():
        return ledger
    for number, content in enumerate(parse_lines(read_bytes(file), file), 1):
        try:
            line = _LINE.validate_python(content, strict=True)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(shown(str(part), 40) for part in problem["loc"][1:])
            text = shown(problem["msg"].removeprefix("Value error, "), 200)
            mend = "restore it: only `peerwatt submit` writes the ledger"
            refuse(file, f"line {number}", f"{place}: {text}", mend)
        ledger.lines.append(line)
        if isinstance(line, Removed):
            ledger.removed[line.entry_id] = line
        else:
            ledger.verified[line.entry_id] = line
    return ledger


def append(root: Path, line: Removed | Verified) -> None:
    """Write `line` at the end of the ledger of `root`.

    Raises:
        PeerWattError: it cannot be written.
    """
    file = root / LEDGER_FILE
    text = json.dumps(line.model_dump(mode="json"), ensure_ascii=False, allow_nan=False)
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(text + "\n")
    except OSError as error:
        raise PeerWattError(f"{file}: cannot be written ({error.strerror}).") from None


def today() -> str:
    """Return the date of today, UTC."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
