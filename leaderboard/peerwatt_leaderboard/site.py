"""The page and the data files beside it, written in one piece or not at all."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from peerwatt.evaluation.metrics import METRICS
from peerwatt.evaluation.statistics import MIN_RUNS
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.entries import Board, Entry
from peerwatt.runs.labels import short_count
from peerwatt.runs.result import SCHEMA_VERSION, PluginRecord, RunResult, full_name
from peerwatt.runs.summary import (
    FAIRNESS,
    FEASIBLE,
    GINI,
    MARKET,
    MEASURES,
    SCORES,
    TABLE,
    WELFARE,
    Measure,
    Row,
    columns,
    rows_of,
    written,
)
from peerwatt_leaderboard import charts, critic_data, critic_page
from peerwatt_leaderboard.critic_page import CriticSection
from peerwatt_leaderboard.critics import CriticBoard
from peerwatt_leaderboard.folder import replaced_at_once
from peerwatt_leaderboard.published import Published
from peerwatt_leaderboard.usage import usage_of

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """What the template needs of one task."""

    board: Board
    identifier: str
    rows: list[Row]
    identifiers: Mapping[str, str]
    """Label of an entry -> its address on the page."""


def write_site(
    boards: Sequence[Board],
    out: Path,
    source: Path | None = None,
    published: Published | None = None,
    critics: Sequence[CriticBoard] = (),
) -> Path:
    """Write the page for `boards` and `critics` into folder `out` and return the page.

    It is built in a folder beside `out` that takes its place at the end, so that a failure leaves
    the old page as it was. A folder that holds any file but those of such a page is refused.
    """
    out = out.resolve()
    taken = Counter[str]()
    sections = _sections(boards, taken)
    of_critics = critic_page.sections(critics, lambda name: unique(slug(name), taken))
    published = published or Published()
    with replaced_at_once(out, source) as staging:
        (staging / "index.html").write_text(
            render(sections, published, of_critics), encoding="utf-8"
        )
        for section in sections:
            _write_data(section, staging / "data", published)
        for suite in of_critics:
            critic_data.write_data(suite, staging / "data")
    return out / "index.html"


def render(
    sections: Sequence[Section], published: Published, critics: Sequence[CriticSection] = ()
) -> str:
    """Render the page: one HTML file with its style, its script and its charts inside.

    Everything from records passes through the template's escaping or ElementTree's. Style and
    script are constants of this package, and the content policy allows them by their hash.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": _duration, "count": short_count, "generic": _generic}
    environment.filters["thousands"] = lambda count: f"{count:,}"
    style = (HERE / "assets" / "page.css").read_text(encoding="utf-8")
    script = (HERE / "assets" / "page.js").read_text(encoding="utf-8")
    styles = charts.styles_of([section.rows for section in sections])
    results = [made for section in sections for row in section.rows for made in row.entry.results]
    records = [entry.record for suite in critics for entry in suite.board.entries]
    newest = max(
        [*(result.created_utc for result in results), *(r.created_utc for r in records)],
        default="",
        key=datetime.fromisoformat,
    )
    return environment.get_template("index.html").render(
        style=Markup(style),
        style_hash=digest(style),
        script=Markup(script),
        script_hash=digest(script),
        newest=newest[:10],
        sections=[_section_context(section, styles, published) for section in sections],
        critics=[critic_page.context(section) for section in critics],
        only_critics=bool(critics) and not sections,
        published=published,
        columns=(*TABLE, MARKET),
        scores=SCORES,
        further=(GINI, FEASIBLE),
        fairness=FAIRNESS,
        min_runs=MIN_RUNS,
    )


def digest(text: str) -> str:
    """Return the hash by which a content policy allows an inline style or script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _sections(boards: Sequence[Board], taken: Counter[str]) -> list[Section]:
    """Compute the rows of all boards, and give every task and entry an address."""
    sections = []
    for board in boards:
        identifier = unique(slug(board.title), taken)
        rows = rows_of(board)
        identifiers = {
            row.entry.label: unique(f"{identifier}-{slug(row.entry.label)}", taken) for row in rows
        }
        sections.append(Section(board, identifier, rows, identifiers))
    return sections


def slug(text: str) -> str:
    """Reduce a name to what is safe in a file name and in an address."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"


def unique(name: str, taken: Counter[str]) -> str:
    """Return `name`, with a number behind it if it is taken."""
    candidate, number = name, 1
    while taken[candidate]:
        number += 1
        candidate = f"{name}-{number}"
    taken[candidate] += 1
    return candidate


def _section_context(
    section: Section, styles: Mapping[str, charts.Style], published: Published
) -> dict[str, Any]:
    """Return what the template shows of one task."""
    rows, first = section.rows, section.rows[0].entry.first
    low, high = charts.welfare_range(rows)
    groups = Counter(first.households)
    curves = charts.curves(rows, styles, section.identifiers)
    return {
        "id": section.identifier,
        "title": section.board.title,
        "task": section.board.task,
        "episodes": first.test.episodes,
        "groups": ", ".join(f"{count} {name}" for name, count in groups.items()),
        "lead": _lead(rows),
        "mechanism": _mechanism(section.board.mechanism),
        "columns": columns(rows),
        "unranked": any(row.rank is None for row in rows),
        "rows": [_row_context(row, section, styles, low, high, published) for row in rows],
        "scatters": [
            Markup(charts.scatter(rows, measure, styles, section.identifiers))
            for measure in FAIRNESS
        ],
        "undefined": [
            [
                row.entry.label
                for row in rows
                if row.interval(measure) is None and not charts.is_grid_only(row)
            ]
            for measure in FAIRNESS
        ],
        "curves": None if curves is None else Markup(curves),
    }


def _row_context(
    row: Row,
    section: Section,
    styles: Mapping[str, charts.Style],
    low: float,
    high: float,
    published: Published,
) -> dict[str, Any]:
    """Return what the template shows of one entry."""
    rows, identifier = section.rows, section.identifiers[row.entry.label]
    entry, style = row.entry, charts.style_of(row, styles)
    welfare = row.interval(WELFARE)
    shared = sum(other.rank == row.rank for other in rows) > 1 if row.rank else False
    speeds = [
        speed
        for result in entry.results
        if (speed := result.timings.agent_steps_per_second) is not None
    ]
    return {
        "id": identifier,
        "label": entry.label,
        "rank": row.rank,
        "shared": shared,
        "first": entry.first,
        "scripted": entry.scripted,
        "suffix": _suffix(entry),
        "mark": Markup(charts.mark(style)),
        "bar": Markup(charts.bar(welfare, low, high, style)) if welfare else "",
        "submission": _submission(entry, published),
        "mechanism": _mechanism(entry.first.mechanism),
        "cells": [_cell(row, measure) for measure in columns(rows)],
        "further": [_cell(row, measure) for measure in (GINI, FEASIBLE)],
        "usage": usage_of(entry.results),
        "others": [(name, METRICS[name], value) for name, value in row.others.items()],
        "runs": [
            {
                "result": run.result,
                "href": f"data/{_run_file(identifier, run.result)}",
                "welfare": written(row.summaries["welfare"].seeds[index], WELFARE),
            }
            for index, run in enumerate(entry.runs)
        ],
        "wall": statistics.median(result.timings.wall for result in entry.results),
        "speed": statistics.median(speeds) if speeds else None,
        "dirty": any(result.environment.git_dirty for result in entry.results),
        "commits": _distinct(result.environment.git_commit for result in entry.results),
        "machines": _distinct(
            f"{result.environment.processor} · {result.environment.platform}"
            for result in entry.results
        ),
        "pythons": _distinct(result.environment.python for result in entry.results),
        "packages": _distinct(
            ", ".join(f"{name} {version}" for name, version in result.environment.packages.items())
            for result in entry.results
        ),
        "command": entry.first.command,
        "options": [
            (title, json.dumps(options, indent=2, ensure_ascii=False, sort_keys=True))
            for title, options in (
                (f"{entry.first.algorithm.name} options", entry.first.algorithm.options),
                (f"{entry.first.critic.name} critic options", entry.first.critic.options),
                ("shaping", entry.first.shaping if entry.first.critic.name != "none" else {}),
            )
            if options
        ],
    }


def _mechanism(record: PluginRecord) -> str:
    """Name a mechanism with whose it is, if a stranger's, and its options."""
    name = record.name if record.distribution == PROJECT else full_name(record)
    options = ", ".join(f"{key} {value}" for key, value in sorted(record.options.items()))
    return f"{name} ({options})" if options else name


def _submission(entry: Entry, published: Published) -> dict[str, Any] | None:
    """Return what was submitted with an entry, and whether it was re-checked."""
    record = published.record_of(entry)
    if record is None:
        return None
    seal = published.verified.get(record.entry_id)
    disclosed = [name.replace("_", " ") for name, value in record.disclosure if value]
    return {
        "entry_id": record.entry_id,
        "submitter": record.submitter,
        "code_url": record.code_url,
        "licence": record.licence,
        "disclosed": disclosed,
        "supersedes": record.supersedes,
        "seal": seal,
        "state": "reproduced" if seal else "not re-checked",
        "told": "its policies were not replayed by the maintainers"
        if seal is None
        else f"replayed on {seal.date} with PeerWatt {seal.peerwatt} on {seal.platform}: "
        + ("exact" if seal.verdict == "exact" else "within the stated tolerance"),
    }


def _cell(row: Row, measure: Measure) -> dict[str, Any]:
    """Return one number of a row: as text, with its interval, and as the key to sort by."""
    key = measure.key
    interval, signed = row.interval(measure), key in ("operator", "market_surplus")
    bounded = interval is not None and interval.low < interval.high  # not so where NaN
    equal = interval is not None and interval.low == interval.high
    return {
        "measure": measure,
        "sort": "" if interval is None else repr(interval.estimate),
        "text": written(interval.estimate if interval else None, measure, signed=signed),
        "low": written(interval.low, measure, signed=signed) if interval and bounded else None,
        "high": written(interval.high, measure, signed=signed) if interval and bounded else None,
        "equal": equal,
        "bad": interval is not None
        and (
            (key == "losers" and interval.estimate > 0.0)
            or (key in ("worst_off", "mean_saving", "welfare") and interval.estimate < 0.0)
        ),
    }


def _suffix(entry: Entry) -> str:
    """Return what the label says beyond algorithm and critic."""
    algorithm, critic = entry.first.algorithm.name, entry.first.critic.name
    plain = algorithm if critic == "none" else f"{algorithm} + {critic}"
    return entry.label.removeprefix(plain).strip()


def _lead(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Say in a sentence or two who leads: parts of (text, style)."""
    leaders = [row for row in rows if row.rank == 1]
    if not leaders or len(rows) < 2:
        return []
    parts: list[tuple[str, str]] = []
    for index, row in enumerate(leaders):
        if index:
            parts.append((" and " if index == len(leaders) - 1 else ", ", ""))
        interval = row.interval(WELFARE)
        assert interval is not None  # what has a rank has a welfare
        parts.append((row.entry.label, "strong"))
        parts.append((f" ({charts.interval_text(interval, WELFARE)})", ""))
    verb = "leads" if len(leaders) == 1 else "lead"
    among = " the ranked entries" if any(row.rank is None for row in rows) else ""
    tie = " and cannot be told apart" if len(leaders) > 1 else ""
    parts.append((f" {verb}{among}{tie}.", ""))
    scripted = [row for row in rows if row.entry.scripted and row.interval(WELFARE)]
    if scripted and not any(row.entry.scripted for row in leaders):
        best = scripted[0]
        interval = best.interval(WELFARE)
        assert interval is not None
        parts.append((" The best scripted trader, ", ""))
        parts.append((best.entry.label, "strong"))
        parts.append((f", reaches {written(interval.estimate, WELFARE)}.", ""))
    return parts


def _distinct(values: Any) -> list[str]:
    """Return the distinct known values, in order."""
    return list(dict.fromkeys(value for value in values if value))


def _duration(seconds: float) -> str:
    """Write a duration: 372 as "6 min 12 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _generic(value: float | None) -> str:
    """Write a number whose unit is not known here."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4g}".replace("-", "−")


def _run_file(identifier: str, result: RunResult) -> str:
    """Return the name of the copy of a result below the folder `data`."""
    return f"{identifier}/seed-{result.seed:03d}.json"


def _write_data(section: Section, folder: Path, published: Published) -> None:
    """Write the table of a task as CSV and JSON, and a copy of every result."""
    folder.mkdir(exist_ok=True)
    records = [
        _record(row, section.identifiers[row.entry.label], published) for row in section.rows
    ]
    task = section.board.task
    table = {
        "schema_version": SCHEMA_VERSION,
        "task": task.model_dump(),
        "mechanism": section.board.mechanism.model_dump(mode="json"),
        "measures": {
            m.key: {"title": m.title, "unit": m.unit, "better": m.better, "meaning": m.meaning}
            for m in MEASURES
        },
        "aggregate": "interquartile mean over seeds, nominal 95 % expanded percentile bootstrap "
        f"interval from {MIN_RUNS} seeds on",
        "entries": records,
    }
    text = json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False)
    (folder / f"{section.identifier}.json").write_text(text + "\n", encoding="utf-8")
    with (folder / f"{section.identifier}.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(_csv(records))
    for row in section.rows:
        for run in row.entry.runs:
            copy = folder / _run_file(section.identifiers[row.entry.label], run.result)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(run.raw)


def _record(row: Row, identifier: str, published: Published) -> dict[str, Any]:
    """Return one entry as the data files tell it."""
    first = row.entry.first
    submitted = published.record_of(row.entry)
    seal = published.verified.get(submitted.entry_id) if submitted else None
    return {
        "rank": row.rank,
        "label": row.entry.label,
        "algorithm": first.algorithm.name,
        "algorithm_version": f"{first.algorithm.distribution} {first.algorithm.version}",
        "critic": first.critic.name,
        "mechanism": first.mechanism.name,
        "scripted": row.entry.scripted,
        "budget": first.budget,
        "seeds": [result.seed for result in row.entry.results],
        "config_hash": first.config_hash,
        "submission": submitted and submitted.model_dump(mode="json", exclude={"runs"}),
        "verified": seal and seal.model_dump(mode="json"),
        "values": {
            key: {
                "estimate": summary.interval and _finite(summary.interval.estimate),
                "low": summary.interval and _finite(summary.interval.low),
                "high": summary.interval and _finite(summary.interval.high),
                "seeds": list(summary.seeds),
            }
            for key, summary in row.summaries.items()
        },
        "runs": [_run_file(identifier, result) for result in row.entry.results],
    }


def _finite(value: float) -> float | None:
    """Return `value`, or nothing where it is not a number."""
    return value if math.isfinite(value) else None


def _csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Write the table as CSV; the schema lets no name begin as a spreadsheet's formula does."""
    plain = ("rank", "algorithm", "critic", "mechanism", "budget", "config_hash")
    names = [measure.key for measure in MEASURES]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        [*plain, "seeds", *(f"{name}{part}" for name in names for part in ("", "_low", "_high"))]
    )
    for record in records:
        numbers = [
            record["values"][name][part] for name in names for part in ("estimate", "low", "high")
        ]
        texts = [record[name] for name in plain]
        writer.writerow([*texts, len(record["seeds"]), *numbers])
    return buffer.getvalue()
