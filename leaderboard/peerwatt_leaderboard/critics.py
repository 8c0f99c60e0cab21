"""Reading the records of benchmarked critics, checking them, and grouping them by suite.

Whatever a record says is a stranger's word: it is bounded before it is parsed, validated strictly,
and its estimates are computed again from its rows. What is not as it should be is left out and
told; none takes the page down.
"""

from __future__ import annotations

import json
import os
import stat
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from peerwatt.criticbench import influence, measures
from peerwatt.criticbench.record import (
    FOLDER,
    LIMITS,
    MAX_RECORD_BYTES,
    POOLED,
    CriticRecord,
    Estimate,
    SuiteRecord,
    bench_hash,
    file_name,
)
from peerwatt.criticbench.resampling import quantile, rate
from peerwatt.criticbench.suite import load_suite, suite_names
from peerwatt.errors import PeerWattError, shown
from peerwatt.submissions.guards import MAX_SEEDS, parse_object, refuse, strictly
from peerwatt_leaderboard.critic_columns import asked

MOST_RECORDS = 200
"""Records that one page shows; what is beyond is left out, and told."""
MOST_SLOTS, MOST_REPEATS = 2_000, 20
"""More would take minutes and gigabytes to compute with, for every pair is compared."""
_MEND = "remove it, or repeat the benchmark with --again"


@dataclass(frozen=True)
class CriticEntry:
    """One critic on one suite."""

    label: str
    """Unique among the critics of the suite: the name, the model, and more if needed."""
    record: CriticRecord
    """Its estimates are those of its rows."""
    raw: bytes
    """The file as it was found."""

    @property
    def asks(self) -> bool:
        """Whether a model answers, not a formula."""
        return asked(self.record) or bool(self.record.critic.options.get("model"))


@dataclass(frozen=True)
class CriticBoard:
    """All critics that compare: those on one suite."""

    suite: SuiteRecord
    title: str
    entries: tuple[CriticEntry, ...]
    common: Mapping[str, Estimate]
    """Bench hash -> MAE over what all critics scored but those that scored nothing; empty if all of
    them scored everything, or there is only one."""
    known: bool
    """Whether this PeerWatt generates the same suite, so that its closed forms were compared."""


def read_critics(results: Path) -> tuple[list[CriticBoard], list[str]]:
    """Read all records in `results`/critics, and return a board per suite and what was left out.

    The second part has a sentence for each record that is not as it should be.
    """
    files = sorted((results / FOLDER).glob("*.json"))
    problems = []
    if len(files) > MOST_RECORDS:
        problems.append(
            f"{results / FOLDER}: holds {len(files):,} records, of which {MOST_RECORDS} are shown; "
            "move the others to another folder."
        )
    found: dict[tuple[str, str], list[tuple[Path, bytes, CriticRecord]]] = defaultdict(list)
    for file in files[:MOST_RECORDS]:
        try:
            raw, record = _read(file)
            _check(file, record)
            of_suite = found[record.suite.name, record.suite.content_hash]
            if of_suite:
                _check_same_suite(file, record, *of_suite[0][::2])
            of_suite.append((file, raw, _recomputed(record)))
        except PeerWattError as error:
            problems.append(shown(str(error), 1_500))
    boards = []
    names = Counter(name for name, _ in found)
    for (name, content_hash), members in sorted(found.items()):
        records = [record for *_, record in members]
        entries = [
            CriticEntry(label, record, raw)
            for label, (_, raw, record) in zip(labels(records), members, strict=True)
        ]
        title = name if names[name] == 1 else f"{name} ({content_hash[:8]})"
        boards.append(
            CriticBoard(
                records[0].suite, title, tuple(entries), _common(entries), _generated(records[0])
            )
        )
    return boards, problems


def _read(file: Path) -> tuple[bytes, CriticRecord]:
    """Read one record, following no link and waiting for no pipe; return its bytes, too."""
    if file.is_symlink():
        refuse(file, "", "is a symbolic link", "put a plain file there")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(os.open(file, flags), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                refuse(file, "", "is no plain file", "take it out")
            raw = opened.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        refuse(file, "", f"cannot be read ({error.strerror})", "put a plain file there")
    if len(raw) > MAX_RECORD_BYTES:
        refuse(file, "", f"has more than {MAX_RECORD_BYTES:,} bytes", _MEND)
    parse_object(raw, file)
    return raw, strictly(CriticRecord, raw, file, _MEND)


def _check(file: Path, record: CriticRecord) -> None:
    """Refuse what contradicts itself."""
    suite, rows = record.suite, record.rows
    if len(rows) > MOST_SLOTS or record.repeats > MOST_REPEATS:
        problem = f"{len(rows):,} slots and {record.repeats:,} repeats are more than a page takes"
        refuse(file, "rows", f"{problem} ({MOST_SLOTS:,} and {MOST_REPEATS})", _MEND)
    if not record.label.startswith(record.critic.name):
        refuse(file, "label", "does not begin with the name of the critic", _MEND)
    expected = bench_hash(suite, record.critic, record.repeats, record.seed)
    if record.bench_hash != expected:
        refuse(file, "bench_hash", "is not that of suite, critic, repeats and seed", _MEND)
    if file.name != (due := file_name(record.critic.name, expected)):
        # A copy under another name would otherwise stand beside, or in place of, the genuine one.
        refuse(
            file, "", f"is the record whose file is named {due}", "give it that name, or remove it"
        )
    parts = Counter(row.part for row in rows)
    if suite.slots != len(rows) or suite.parts != parts:
        refuse(file, "rows", f"{len(rows):,} rows are not the slots and parts of the suite", _MEND)
    for number, row in enumerate(rows):
        if len(row.repeats) not in (0, record.repeats - 1):
            problem = f"{len(row.repeats)} further answers for {record.repeats} repeats"
            refuse(file, f"rows.{number}.repeats", problem, _MEND)
    try:
        datetime.fromisoformat(record.created_utc)
    except ValueError:
        refuse(file, "created_utc", f"{record.created_utc!r} is no date and time", _MEND)
    counts = record.operations
    if not (
        counts.not_repaired <= counts.first_invalid <= counts.first_replies
        and counts.refused <= counts.first_replies
        and counts.first_replies <= counts.replies <= counts.calls
    ):
        refuse(
            file,
            "operations",
            "tells of more replies than calls, or more faults than replies",
            _MEND,
        )
    for found in record.influence:
        for arm in (found.none, found.rule, found.critic):
            if not 1 <= len(arm.seeds) <= MAX_SEEDS or any(
                len(values) != len(arm.seeds) for values in arm.values.values()
            ):
                problem = f"{len(arm.seeds)} seeds are none or too many, or not those of the values"
                refuse(file, "influence", problem, _MEND)
    if _generated(record):
        known = load_suite(suite.name)
        places = [(row.part, row.cluster, row.step) for row in rows]
        truth = measures.array([row.truth for row in rows])
        same = np.isclose(truth, known.truth, rtol=0.0, atol=1e-9, equal_nan=True)
        if places != list(known.places) or not same.all():
            refuse(file, "rows", "are not the slots and closed forms of that suite", _MEND)


def _generated(record: CriticRecord) -> bool:
    """Return whether this PeerWatt generates the very suite of `record`."""
    if record.suite.name not in suite_names():
        return False
    try:
        return load_suite(record.suite.name).content_hash == record.suite.content_hash
    except PeerWattError:  # the task or the trader that it records is switched off
        return False


def _recomputed(record: CriticRecord) -> CriticRecord:
    """Return `record` with every estimate computed from what it rests on.

    What is counted by the benchmark stays the record's word: requests, tokens, dollars, seconds,
    and the scores that were compared for text that an attacker can reach.
    """
    record = measures.recomputed(record)
    operations, calls = record.operations, record.operations.calls
    dollars = operations.dollars if calls else None
    timed = {
        name: latency.model_copy(
            update={"p50": quantile(latency.seconds, 0.5), "p95": quantile(latency.seconds, 0.95)}
        )
        for name, latency in (("cold", operations.cold), ("warm", operations.warm))
    }
    counted = {
        "failed_rate": rate(calls - operations.replies, calls),
        "invalid_rate": rate(operations.first_invalid, operations.first_replies),
        "invalid_after_repair": rate(operations.not_repaired, operations.first_replies),
        "refusal_rate": rate(operations.refused, operations.first_replies),
        "dollars_per_1000_calls": None if dollars is None else 1000.0 * dollars / calls,
    }
    return record.model_copy(
        update={
            "operations": operations.model_copy(update=timed | counted),
            "influence": [influence.recomputed(found) for found in record.influence],
        }
    )


def _common(entries: Sequence[CriticEntry]) -> dict[str, Estimate]:
    """Return the errors on what all critics scored, where critics scored different slots."""
    scored = {
        entry.record.bench_hash: entry.record.rows
        for entry in entries
        if entry.record.validity.scores[POOLED].answered
    }
    whole = all(
        pooled.answered in (0, pooled.slots)
        for entry in entries
        for pooled in [entry.record.validity.scores[POOLED]]
    )
    return {} if whole or len(scored) < 2 else measures.common_errors(scored)


def _check_same_suite(file: Path, record: CriticRecord, other: Path, first: CriticRecord) -> None:
    """Refuse a record that tells another truth than an earlier one on the same suite."""
    for number, (here, there) in enumerate(zip(record.rows, first.rows, strict=False)):
        same = (here.part, here.cluster, here.step, here.truth)
        if same != (there.part, there.cluster, there.step, there.truth):
            problem = f"tells another slot or closed form than {other.name} on the same suite"
            refuse(file, f"rows.{number}", problem, _MEND)


def option(record: CriticRecord, name: str) -> str:
    """Return an option of the critic as text; "" where it has none of that name."""
    value = record.critic.options.get(name, "")
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def labels(records: Sequence[CriticRecord]) -> list[str]:
    """Name each critic of a suite: with model and prompt, and unlike all others."""
    names = []
    for record in records:
        model = option(record, "model").rpartition("/")[2]
        parts = record.critic.name, model, option(record, "prompt") if model else ""
        names.append(" ".join(filter(None, parts)))
    hints: list[Callable[[CriticRecord], Any]] = [
        lambda r: option(r, "model"),
        _distinguishing(records),
        _host,
        lambda r: r.critic.distribution,
        lambda r: r.critic.version,
        lambda r: f"{r.repeats} repeats",
        lambda r: f"seed {r.seed}",
        lambda r: f"#{r.bench_hash[:8]}",
    ]
    for hint in hints:
        told = [hint(record) for record in records]
        members: dict[str, set[str]] = defaultdict(set)
        for name, text in zip(names, told, strict=True):
            members[name].add(text)
        names = [
            f"{name} {text}".strip() if len(members[name]) > 1 else name
            for name, text in zip(names, told, strict=True)
        ]
    unique: list[str] = []
    for name in names:  # equal to eight digits of the hash: count them
        number, candidate = 1, name
        while candidate in unique:
            number += 1
            candidate = f"{name} ({number})"
        unique.append(candidate)
    return unique


def _host(record: CriticRecord) -> str:
    """Return where the model is served; "" if that is not told."""
    try:
        return urlsplit(option(record, "api_base")).netloc
    except ValueError:
        return ""


def _distinguishing(records: Sequence[CriticRecord]) -> Callable[[CriticRecord], str]:
    """Return what tells the options by which critics of one name differ from each other."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        for key in record.critic.options:
            values[record.critic.name, key].add(option(record, key))

    def told(record: CriticRecord) -> str:
        differing = [
            f"{key} {option(record, key)}"
            for key in sorted(record.critic.options)
            if key not in {"model", "prompt", "api_base", *LIMITS}
            and len(values[record.critic.name, key]) > 1
        ]
        return textwrap.shorten(", ".join(differing), 60, placeholder=" …")

    return told
