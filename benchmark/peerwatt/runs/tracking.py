"""Telling sinks of runs that are finished, and remembering which runs were told."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from peerwatt.runs.files import write_whole

TOLD_FOLDER = ".synced"
HEAD = ("task", "mechanism", "algorithm", "critic", "shaping", "seed", "budget", "config_hash")
"""What of its record a run tells its sink before it begins."""

Row = dict[str, float | None]


def rows(folder: Path) -> Iterator[Row]:
    """Yield the reports in `folder` as a sink gets them: with `seconds`, where these are known.

    Raises:
        OSError: there is no `metrics.jsonl`, or it cannot be read.
        ValueError: a line is no JSON.
    """
    metrics = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    clock: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        clock = (folder / "clock.jsonl").read_text(encoding="utf-8").splitlines()
    for line, time in zip(metrics, chain(clock, repeat("{}")), strict=False):
        row, at = json.loads(line), json.loads(time)
        seconds = at.get("seconds") if at.get("agent_steps") == row.get("agent_steps") else None
        if seconds is not None:
            row = {"agent_steps": row["agent_steps"], "seconds": seconds, **row}
        yield row


def head(record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a sink is told of a finished run in `folder` before its rows."""
    return {
        **{key: record[key] for key in HEAD},
        "environment": record["environment"],
        "folder": str(folder),
        "files": str(folder),
        "resumed": record["agent_steps"],
        "attempt": _identity(record),
    }


def _identity(record: Mapping[str, Any]) -> str:
    """Return what tells a run from all others, its repetitions included."""
    parts = [record[key] for key in ("config_hash", "seed", "created_utc", "files")]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _destination(name: str, sink: Any) -> str:
    if callable(tell := getattr(sink, "destination", None)):
        return f"{name} {tell()}"
    options = {f.name: str(getattr(sink, f.name)) for f in dataclasses.fields(sink) if f.init}
    return f"{name} {json.dumps(options, sort_keys=True)}"


def _mark(results: Path, name: str, sink: Any, record: Mapping[str, Any]) -> Path:
    place = hashlib.sha256(_destination(name, sink).encode()).hexdigest()[:12]
    return results / TOLD_FOLDER / f"{name}-{place}" / f"{_identity(record)}.json"


def was_told(folder: Path, name: str, sink: Any, record: Mapping[str, Any]) -> bool:
    """Return whether the finished run in `folder` was brought where `sink` brings it."""
    return _mark(_results(folder), name, sink, record).exists()


def remember(folder: Path, name: str, sink: Any, record: Mapping[str, Any], *, live: bool) -> None:
    """Note that `sink` was told all of the run in `folder`, if the disk takes it.

    If it does not, the worst is that the run is told twice.
    """
    mark = _mark(_results(folder), name, sink, record)
    content = {
        "run": "/".join(folder.parts[-3:]),
        "destination": _destination(name, sink),
        "live": live,
        "told_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_whole(mark, (json.dumps(content, indent=1) + "\n").encode())


def _results(folder: Path) -> Path:
    """Return the folder of all results that the folder of a run lies in."""
    return folder.parents[2]
