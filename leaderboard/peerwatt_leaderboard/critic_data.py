"""The data files of benchmarked critics beside the page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peerwatt.criticbench.record import POOLED, SCHEMA_VERSION, SCORES
from peerwatt_leaderboard.critic_columns import CONSTRUCTION, Column, conduct, quality
from peerwatt_leaderboard.critic_page import CriticSection, record_file
from peerwatt_leaderboard.critics import CriticEntry


def write_data(section: CriticSection, folder: Path) -> None:
    """Write the tables of a suite as CSV and JSON, and a copy of every record."""
    folder.mkdir(exist_ok=True)
    records = [entry.record for entry in section.entries]
    columns = (*quality(section.board.common), *conduct(records))
    table = {
        "schema_version": SCHEMA_VERSION,
        "suite": section.board.suite.model_dump(mode="json"),
        "measures": {
            c.key: {
                "title": c.title,
                "group": c.group,
                "unit": "share" if c.unit == "percent" else c.unit,
                "better": c.better,
                "meaning": c.meaning,
            }
            for c in columns
        },
        "aggregate": "over all slots and scores; nominal 95 % bootstrap interval over clusters",
        "by_construction": f"{CONSTRUCTION} on the page: what the critic is given cannot differ",
        "critics": [_exported(section, entry, columns) for entry in section.entries],
    }
    text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / f"{section.identifier}.json").write_text(text + "\n", encoding="utf-8")
    with (folder / f"{section.identifier}.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(_csv(section, columns))
    for entry in section.entries:
        (folder / record_file(section, entry)).write_bytes(entry.raw)


def _exported(
    section: CriticSection, entry: CriticEntry, columns: Sequence[Column]
) -> dict[str, Any]:
    """Return one critic as the data files tell it."""
    record = entry.record
    return {
        "label": entry.label,
        "critic": record.critic.model_dump(mode="json"),
        "repeats": record.repeats,
        "bench_hash": record.bench_hash,
        "values": {
            column.key: column.value(record).model_dump(mode="json")
            | ({"status": status} if (status := column.status(record)) else {})
            for column in columns
        },
        "scores": {
            key: {
                "validity": record.validity.scores[key].model_dump(mode="json"),
                "reliability": record.reliability.scores[key].model_dump(mode="json"),
                "calibration": record.calibration.scores[key].model_dump(mode="json"),
            }
            for key in (POOLED, *SCORES)
        },
        "influence": [item.model_dump(mode="json") for item in record.influence],
        "record": record_file(section, entry),
    }


def _csv(section: CriticSection, columns: Sequence[Column]) -> str:
    """Write the tables as CSV; no text in it begins as a spreadsheet's formula does."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = [column.key for column in columns]
    writer.writerow(
        ["critic", "options", "repeats", "bench_hash"]
        + [f"{name}{part}" for name in names for part in ("", "_low", "_high")]
    )
    for entry in section.entries:
        record = entry.record
        estimates = [column.value(record) for column in columns]
        writer.writerow(
            [
                record.critic.name,
                json.dumps(record.critic.options, ensure_ascii=False, sort_keys=True),
                record.repeats,
                record.bench_hash,
            ]
            + [value for e in estimates for value in (e.estimate, e.low, e.high)]
        )
    return buffer.getvalue()
