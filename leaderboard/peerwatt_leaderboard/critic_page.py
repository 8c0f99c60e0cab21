"""What the page tells of benchmarked critics: tables, charts and details."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from peerwatt.criticbench.measures import repeats_tell_nothing, slots_of, verdict
from peerwatt.criticbench.record import (
    LIMITS,
    POOLED,
    SCORES,
    CriticRecord,
    Estimate,
    Influence,
    ScoreKey,
)
from peerwatt.errors import PeerWattError
from peerwatt.plugins.texts import parse_text
from peerwatt.runs.labels import short_count
from peerwatt.runs.summary import MEASURES, Measure
from peerwatt_leaderboard import critic_charts
from peerwatt_leaderboard.charts import mark
from peerwatt_leaderboard.critic_charts import Bar, Look
from peerwatt_leaderboard.critic_columns import (
    TITLES,
    VARIANTS,
    Column,
    asked,
    cell,
    conduct,
    quality,
    seconds,
    written,
)
from peerwatt_leaderboard.critics import CriticBoard, CriticEntry, option

_INFLUENCED = ("welfare", "ftg", "fbs", "fpp", "ftb", "mean_saving", "worst_off", "losers")
"""Measures whose differences are shown, where they were recorded."""


@dataclass(frozen=True)
class CriticSection:
    """What the template needs of one suite."""

    board: CriticBoard
    identifier: str
    looks: Mapping[str, Look]
    """Label of a critic -> how it is drawn and where it is told."""

    @property
    def entries(self) -> list[CriticEntry]:
        """The critics, the least wrong first."""
        return sorted(self.board.entries, key=_order)


def sections(boards: Sequence[CriticBoard], address: Callable[[str], str]) -> list[CriticSection]:
    """Give every suite and critic an address and a look, the same in all pictures of the page.

    Args:
        boards: the suites.
        address: makes a name unique on the page and safe.
    """
    asking = {entry.label: entry.asks for board in boards for entry in board.entries}
    styles = critic_charts.styles_of(asking)
    found = []
    for board in boards:
        identifier = address(f"critics-{board.title}")
        looks = {
            entry.label: Look(
                entry.label, address(f"{identifier}-{entry.label}"), styles[entry.label]
            )
            for entry in board.entries
        }
        found.append(CriticSection(board, identifier, looks))
    return found


def _order(entry: CriticEntry) -> tuple[bool, float, str]:
    """Order critics by their error; those without one come last."""
    error = entry.record.validity.scores[POOLED].mae.estimate
    return error is None, error or 0.0, entry.label


def context(section: CriticSection) -> dict[str, Any]:
    """Return what the template shows of one suite."""
    entries = section.entries
    records = [entry.record for entry in entries]
    suite = section.board.suite
    tables = [
        ("right", "Are the scores right?", quality(section.board.common)),
        (
            "moved",
            "Are they the same another time, what moves them, and what do they take?",
            conduct(records),
        ),
    ]
    return {
        "id": section.identifier,
        "title": section.board.title,
        "suite": suite,
        "known": section.board.known,
        "parts": ", ".join(f"{count:,} {part}" for part, count in sorted(suite.parts.items())),
        "repeats": sorted({record.repeats for record in records}),
        "tables": [
            {
                "id": f"{section.identifier}-{key}",
                "title": title,
                "columns": columns,
                "groups": _groups(columns, slots_of(records)),
                "edges": _edges(columns),
                "rows": [
                    _row(section, entry) | {"cells": [cell(c, entry.record) for c in columns]}
                    for entry in entries
                ],
            }
            for key, title, columns in tables
        ],
        "scores": [
            {
                "title": TITLES[key],
                "panels": [
                    {
                        "look": section.looks[entry.label],
                        "name": critic_charts.short(entry.label, 22),
                        "mark": Markup(mark(section.looks[entry.label].style)),
                        "chart": Markup(
                            critic_charts.against_truth(
                                section.looks[entry.label],
                                _pairs(entry.record, key),
                                entry.record.calibration.scores[key].bins,
                                TITLES[key],
                            )
                        ),
                    }
                    for entry in entries
                ],
            }
            for key in (POOLED, *SCORES)
        ],
        "verdicts": [
            (
                section.looks[entry.label],
                Markup(mark(section.looks[entry.label].style)),
                verdict(entry.record),
            )
            for entry in entries
        ],
        "same_questions": [entry.label for entry in entries if repeats_tell_nothing(entry.record)],
        "series": _series(section, entries),
        "lift": _lift(section, entries),
        "latency": Markup(
            critic_charts.latencies(
                [
                    (
                        section.looks[entry.label],
                        entry.record.operations.cold.p50.estimate,
                        entry.record.operations.cold.p95.estimate,
                        _cost(entry.record),
                    )
                    for entry in entries
                ]
            )
        ),
        "influence": _influence(section, entries),
        "entries": [_details(section, entry) for entry in entries],
    }


def _row(section: CriticSection, entry: CriticEntry) -> dict[str, Any]:
    """Return what begins the row of a critic in every table."""
    look, record = section.looks[entry.label], entry.record
    return {
        "look": look,
        "mark": Markup(mark(look.style)),
        "name": record.critic.name,
        "suffix": _suffix(record),
        "more": entry.label.removeprefix(record.critic.name).strip() or _suffix(record),
        "model": option(record, "model"),
        "prompt": option(record, "prompt"),
    }


def _suffix(record: CriticRecord) -> str:
    """Return the options that the label of a record tells beside model and prompt."""
    try:
        _, told = parse_text("critic", record.label)
    except PeerWattError:  # the label was too long, and cut
        return ""
    names = [name for name in told if name in record.critic.options]
    return ", ".join(
        f"{name} {option(record, name)}"
        for name in names
        if name not in {"model", "prompt", "api_base", *LIMITS}
    )


_RESTS = {
    "Validity": "validity",
    "Reliability": "repeats",
    "Invariance": "variants",
    "Robustness": "notes",
    "Operations": "timing",
}
"""Group of columns -> on which slots it rests: of robustness the hypothetical note, of operations
the latency."""


def _groups(columns: Sequence[Column], slots: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Return the titles over neighbouring columns with their widths and slots."""
    told = {"Robustness": "notes on {} slots", "Operations": "latency on {} slots"}
    return [
        (group, width, told.get(group, "{} slots").format(slots[_RESTS[group]]))
        for group, width in Counter(column.group for column in columns).items()
    ]


def _edges(columns: Sequence[Column]) -> set[int]:
    """Return the numbers (from 1) of the columns that begin a group."""
    return {
        number
        for number, column in enumerate(columns, 1)
        if number == 1 or columns[number - 2].group != column.group
    }


def _pairs(record: CriticRecord, key: ScoreKey) -> list[tuple[float, float]]:
    """Return (truth, score) wherever both are known, of one score or of all."""
    wanted = [index for index, name in enumerate(SCORES) if key in (POOLED, name)]
    return [
        (truth, score)
        for row in record.rows
        for index in wanted
        if (truth := row.truth[index]) is not None and (score := row.score[index]) is not None
    ]


def _kind(cluster: str) -> str:
    """Return the kind of a series: "grid-share" of "grid-share-3"."""
    return re.sub(r"-\d+$", "", cluster)


def _series(section: CriticSection, entries: Sequence[CriticEntry]) -> list[dict[str, Any]]:
    """Draw each kind of controlled series by the score that it moves most."""
    first = entries[0].record
    kinds = sorted({_kind(row.cluster) for row in first.rows if row.step is not None})
    charts = []
    for kind in kinds:
        indices = [
            number
            for number, row in enumerate(first.rows)
            if row.step is not None and _kind(row.cluster) == kind
        ]
        steps = sorted({first.rows[i].step or 0 for i in indices})
        if len(steps) < 2:
            continue
        truths = [_means(first, indices, steps, score, truth=True) for score in range(len(SCORES))]
        moved = [max(known) - min(known) if (known := _known(t)) else 0.0 for t in truths]
        score = moved.index(max(moved))
        lines = [
            (section.looks[e.label], _means(e.record, indices, steps, score, truth=False))
            for e in entries
        ]
        title = kind.replace("-", " ").replace("_", " ")
        chart = critic_charts.series(title, TITLES[SCORES[score]], steps, truths[score], lines)
        count = len({first.rows[i].cluster for i in indices})
        shown = {"title": title, "score": TITLES[SCORES[score]], "chart": Markup(chart)}
        charts.append(shown | {"count": count})
    return charts


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _means(
    record: CriticRecord, indices: Sequence[int], steps: Sequence[int], score: int, *, truth: bool
) -> list[float | None]:
    """Return the mean closed form, or score, at each step over the series of a kind."""
    values: dict[int, list[float]] = defaultdict(list)
    for index in indices:
        row = record.rows[index]
        value = (row.truth if truth else row.score)[score]
        if value is not None and row.step is not None:
            values[row.step].append(value)
    return [sum(values[step]) / len(values[step]) if values[step] else None for step in steps]


def _lift(section: CriticSection, entries: Sequence[CriticEntry]) -> Markup:
    """Draw what hostile and harmless texts would do if they stood in the prompt."""
    rows = []
    for entry in entries:
        robustness, look = entry.record.robustness, section.looks[entry.label]
        if robustness.notes == "by-construction":
            rows.append(Bar(look, None, "0 by construction: it reads no text"))
        elif robustness.notes == "not-applicable":
            rows.append(Bar(look, None, "not tried: makes no sense for it"))
        elif robustness.lift.estimate is None:
            rows.append(Bar(look, None, "undefined: it answered nothing"))
        else:
            marks = [
                payload.lift.estimate
                for payload in robustness.payloads
                if payload.wants != "nothing" and payload.lift.estimate is not None
            ]
            told = (
                f"lift {interval_text(robustness.lift)}, "
                f"benign drift {interval_text(robustness.drift)}"
            )
            rows.append(Bar(look, robustness.lift, told, tuple(marks), robustness.drift))
    title = "Injection lift and benign drift of a hypothetical note in the prompt"
    return Markup(critic_charts.bars(title, "Change of the scores →", rows))


def interval_text(estimate: Estimate, *, signed: bool = False, unit: Any = "error") -> str:
    """Write an estimate with its interval, if it has one."""
    text = written(estimate.estimate, unit, signed=signed)
    if estimate.low is None or estimate.high is None or estimate.estimate is None:
        return text
    low, high = (written(bound, unit, signed=signed) for bound in (estimate.low, estimate.high))
    return f"{text} [{low}, {high}]"


def _cost(record: CriticRecord) -> str:
    """Write what a thousand calls cost."""
    if not record.operations.calls:
        return "cached" if asked(record) else "no calls"
    dollars = record.operations.dollars_per_1000_calls
    return "unknown" if dollars is None else f"${written(dollars, 'dollars')}"


def record_file(section: CriticSection, entry: CriticEntry) -> str:
    """Return the name of the copy of a record below the folder `data`."""
    return f"{section.looks[entry.label].identifier}.json"


# --- influence -------------------------------------------------------------------------------


def _influence(section: CriticSection, entries: Sequence[CriticEntry]) -> list[dict[str, Any]]:
    """Return a table per training set-up: differences of each critic against none."""
    found: dict[tuple[Any, ...], list[tuple[CriticEntry, Influence]]] = defaultdict(list)
    for entry in entries:
        for influence in entry.record.influence:
            key = (
                influence.task,
                influence.task_hash,
                influence.algorithm,
                influence.mechanism,
                influence.budget,
                influence.none.config_hash,
            )
            found[key].append((entry, influence))
    tables = []
    for number, members in enumerate((found[key] for key in sorted(found)), 1):
        first = members[0][1]
        measures = [
            measure
            for measure in MEASURES
            if measure.key in _INFLUENCED
            and any(measure.key in influence.against_none for _, influence in members)
        ]
        tables.append(
            {
                "id": f"{section.identifier}-influence-{number}",
                "task": first.task,
                "algorithm": first.algorithm,
                "mechanism": first.mechanism,
                "budget": short_count(first.budget),
                "seeds": sorted({len(influence.none.seeds) for _, influence in members}),
                "measures": measures,
                "none": [_level(first.none.iqm.get(measure.key), measure) for measure in measures],
                "rows": [
                    _row(section, entry)
                    | {
                        "seeds": len(influence.critic.seeds),
                        "cells": [
                            _difference(influence.against_none.get(measure.key), measure)
                            for measure in measures
                        ],
                    }
                    for entry, influence in members
                ],
            }
        )
    return tables


def _level(estimate: Estimate | None, measure: Measure) -> str:
    value = None if estimate is None else estimate.estimate
    return "–" if value is None else f"{value:.{measure.digits}f}".replace("-", "−")


def _difference(estimate: Estimate | None, measure: Measure) -> dict[str, Any]:
    """Return a difference with its interval, and whether that leaves 0 on the wrong side."""
    if estimate is None or estimate.estimate is None:
        return {"text": "–", "sort": "", "low": None, "high": None, "bad": False}
    texts = [
        None if value is None else f"{value:+.{measure.digits}f}".replace("-", "−")
        for value in (estimate.estimate, estimate.low, estimate.high)
    ]
    worse = {"high": estimate.high, "low": estimate.low}.get(measure.better)
    bad = worse is not None and (worse < 0.0 if measure.better == "high" else worse > 0.0)
    return {
        "text": texts[0],
        "sort": repr(estimate.estimate),
        "low": texts[1],
        "high": texts[2],
        "bad": bad,
    }


# --- details ---------------------------------------------------------------------------------


def _details(section: CriticSection, entry: CriticEntry) -> dict[str, Any]:
    """Return where the numbers of one critic come from, and those that no table has."""
    record, look = entry.record, section.looks[entry.label]
    operations = record.operations
    models = sorted({name for usage in operations.usage.values() for name in usage.models})
    return {
        "look": look,
        "mark": Markup(mark(look.style)),
        "label": entry.label,
        "record": record,
        "href": f"data/{record_file(section, entry)}",
        "dirty": record.environment.git_dirty,
        "options": json.dumps(record.critic.options, indent=2, ensure_ascii=False, sort_keys=True),
        "cost": _cost(record),
        "asked": asked(record),
        "models": models,
        "tokens": [
            None if value is None else f"{value:,.0f}"
            for value in (
                operations.prompt_tokens_per_call,
                operations.completion_tokens_per_call,
            )
        ],
        "times": [
            (name, seconds_of(latency.p50), seconds_of(latency.p95))
            for name, latency in (
                ("cold", operations.cold),
                ("warm (once more, from the cache)", operations.warm),
            )
        ],
        "titles": [TITLES[key] for key in (POOLED, *SCORES)],
        "measures": _by_score(record),
        "parts": [
            (part, interval_text(v.mae), interval_text(v.bias, signed=True), percent(v.coverage))
            for part, v in sorted(record.validity.parts.items())
        ],
        "series": _series_details(record),
        "variants": [
            {
                "name": VARIANTS.get(name, (name.replace("-", " "),))[0],
                "status": variant.status,
                "reason": variant.reason,
                "change": interval_text(variant.change[POOLED])
                if POOLED in variant.change
                else "–",
                "largest": written(variant.largest, "error"),
                "once": variant.abstained_once,
            }
            for name, variant in sorted(record.invariance.items())
        ],
        "reachable": record.robustness.reachable,
        "payloads": [
            {
                "name": payload.payload,
                "wants": payload.wants,
                "lift": interval_text(payload.lift, signed=payload.wants != "nothing"),
                "hijacked": percent(payload.hijacked),
            }
            for payload in record.robustness.payloads
        ],
        "hijacked": percent(record.robustness.hijacked),
        "rates": [
            (title, percent(estimate))
            for title, estimate in (
                ("without a reply", operations.failed_rate),
                ("invalid at first", operations.invalid_rate),
                ("invalid after repair", operations.invalid_after_repair),
                ("refused", operations.refusal_rate),
            )
        ],
        "cache": written(operations.cache_hit_rate, "percent"),
        "told": sorted({told for usage in operations.usage.values() for told in usage.told}),
    }


def _by_score(record: CriticRecord) -> list[tuple[str, list[str]]]:
    """Return the measures of each score as text: a title, and the texts of all four and of each."""
    validity, reliability = record.validity.scores, record.reliability.scores
    calibration = record.calibration.scores
    found: tuple[tuple[str, Callable[[ScoreKey], str]], ...] = (
        ("MAE", lambda key: interval_text(validity[key].mae)),
        ("Bias", lambda key: interval_text(validity[key].bias, signed=True)),
        ("Answered", lambda key: percent(validity[key].coverage)),
        ("Spearman ρ", lambda key: interval_text(validity[key].spearman, unit="score")),
        ("Kendall τ‑b", lambda key: interval_text(validity[key].kendall, unit="score")),
        ("Kappa", lambda key: interval_text(validity[key].kappa, unit="score")),
        ("Distinct scores", lambda key: percent(validity[key].distinct)),
        ("Distinct closed forms", lambda key: percent(validity[key].distinct_truth)),
        ("Test-retest SD", lambda key: interval_text(reliability[key].sd)),
        ("ICC", lambda key: interval_text(reliability[key].icc, unit="score")),
        ("Flips", lambda key: percent(reliability[key].flips)),
        ("Other level of 0 to 5 when repeated", lambda key: percent(reliability[key].bin_changes)),
        ("Calibration slope", lambda key: interval_text(calibration[key].slope, unit="score")),
        (
            "Calibration intercept",
            lambda key: interval_text(calibration[key].intercept, unit="score", signed=True),
        ),
        ("Calibration error (ECE)", lambda key: interval_text(calibration[key].ece)),
    )
    keys: tuple[ScoreKey, ...] = ("pooled", *SCORES)
    return [(title, [text(key) for key in keys]) for title, text in found]


def _series_details(record: CriticRecord) -> list[tuple[str, str, int, int, int]]:
    """Sum the steps of the series of a kind: kind, score, steps, wrong way, not seen."""
    sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for item in record.validity.series:
        total = sums[_kind(item.series), TITLES[item.score]]
        for index, value in enumerate((item.steps, item.violations, item.flat)):
            total[index] += value
    return [
        (kind.replace("-", " "), score, *counts)  # type: ignore[misc]
        for (kind, score), counts in sorted(sums.items())
        if counts[0]
    ]


def percent(estimate: Estimate) -> str:
    """Write a share as per cent."""
    text = written(estimate.estimate, "percent")
    return text if text == "–" else f"{text} %"


def seconds_of(estimate: Estimate) -> str:
    """Write an estimated duration."""
    return "–" if estimate.estimate is None else seconds(estimate.estimate)
