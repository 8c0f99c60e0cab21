"""Tidy tables of results: one row per run, per episode or per point of a learning curve.

Every number is the one that the leaderboard shows: both call `peerwatt.runs.summary.run_values`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.evaluation.metrics import METRICS, welfare
from peerwatt.runs.entries import Entry, Run, read_boards
from peerwatt.runs.result import RunResult, full_name
from peerwatt.runs.summary import MEASURES, SCORES, SHOWN_RECORDS, WELFARE, run_values

Level = Literal["run", "episode", "curve"]
Value = str | int | float | bool | None

MEASURE_UNITS = {"scale": "share of the possible gain", "score": "0 to 1", "percent": "%"}


@dataclass(frozen=True)
class Column:
    """A column of a table: what kind of value, in which unit, and what it means."""

    name: str
    kind: Literal["text", "integer", "number", "flag"]
    unit: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """All rows of one level; a value is None where it is undefined or not known."""

    level: Level
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Value], ...]


def _unit(metric: str) -> str:
    """Return the unit of a recorded metric."""
    if metric.endswith("_kwh"):
        return "kWh"
    units = {"peak_import_kw": "kW", "battery_cycles": "cycles", "mean_price": "money per kWh"}
    money = metric.startswith("operator_revenue") or metric == "market_surplus"
    return "money" if money else units.get(metric, "share")


KEYS = (
    Column("task", "text", "", "name of the task"),
    Column("task_hash", "text", "", "SHA-256 of its card and data"),
    Column("mechanism", "text", "", "market mechanism"),
    Column("mechanism_options", "text", "", "its options, as JSON"),
    Column("entry", "text", "", "label of the entry, unique among those of the task"),
    Column("algorithm", "text", "", "algorithm, as distribution:name"),
    Column("critic", "text", "", "critic that shaped the training, as distribution:name"),
    Column("scripted", "flag", "", "whether the entry is allowed no training"),
    Column("config_hash", "text", "", "SHA-256 of the configuration, which all seeds share"),
    Column("seed", "integer", "", "seed of the run"),
)
"""What every level begins with; `config_hash` and `seed` identify a run."""

OTHERS = tuple(name for name in METRICS if name not in SHOWN_RECORDS)
"""Recorded metrics that are no measure of an entry; a run has their mean over its episodes."""

COLUMNS: dict[Level, tuple[Column, ...]] = {
    "run": (
        *KEYS,
        Column("algorithm_version", "text", "", "version of the algorithm"),
        Column("algorithm_options", "text", "", "its hyper-parameters, as JSON"),
        Column("critic_options", "text", "", "options of the critic, as JSON"),
        Column("shaping", "text", "", "weights and ramp of the shaping, as JSON"),
        Column("budget", "integer", "agent-steps", "training that was allowed"),
        Column("agent_steps", "integer", "agent-steps", "training that was done"),
        Column("episodes", "integer", "episodes", "test episodes that were played"),
        *(Column(m.key, "number", MEASURE_UNITS[m.unit], m.meaning) for m in MEASURES),
        *(Column(n, "number", _unit(n), f"mean over episodes: {METRICS[n]}") for n in OTHERS),
        Column("wall_seconds", "number", "s", "time that the run took"),
        Column("cpu_seconds", "number", "s", "processor time of it"),
        Column("training_seconds", "number", "s", "time spent in training"),
        Column("evaluation_seconds", "number", "s", "time spent in evaluation"),
        Column("agent_steps_per_second", "number", "1/s", "speed of training"),
        Column("critic_calls", "integer", "requests", "requests that the critic sent"),
        Column("critic_tokens", "integer", "tokens", "tokens of prompts and completions"),
        Column("critic_dollars", "number", "$", "what they cost; missing if a price is unknown"),
        Column("peerwatt", "text", "", "version of PeerWatt"),
        Column("git_commit", "text", "", "commit of the code, if known"),
        Column("git_dirty", "flag", "", "whether the code differed from it, if known"),
        Column("created_utc", "text", "", "when the run ended"),
        Column("folder", "text", "", "folder of the run, seen from that of the results"),
    ),
    "episode": (
        *KEYS,
        Column("episode", "integer", "", "number of the test episode; its scenario is the same "
               "for all entries of a task"),
        Column("cost", "number", "money", "what the community paid"),
        Column("grid_cost", "number", "money", "the same without trade, storage idle"),
        Column("oracle_cost", "number", "money", "the same at the perfect-foresight optimum"),
        Column("welfare", "number", MEASURE_UNITS["scale"], WELFARE.meaning),
        *(Column(n, "number", _unit(n), meaning) for n, meaning in METRICS.items()),
    ),
    "curve": (
        *KEYS,
        Column("agent_steps", "integer", "agent-steps", "training done at this validation"),
        Column("welfare", "number", MEASURE_UNITS["scale"], f"On validation. {WELFARE.meaning}"),
        *(Column(s.key, "number", "0 to 1", f"On validation. {s.meaning}") for s in SCORES),
    ),
}  # fmt: skip
"""Level -> columns, in order."""


def read_table(folder: Path, level: Level = "run") -> Table:
    """Read every result below `folder` into a table, by task, entry and seed.

    Raises:
        PeerWattError: the level is unknown, or there are no results or a wrong one.
    """
    if level not in COLUMNS:
        raise unknown_name("level", str(level), get_args(Level))
    rows: list[dict[str, Value]] = []
    for board in read_boards(folder):
        for entry in board.entries:
            for run in entry.runs:
                keys = _keys(entry, run.result)
                rows += [keys | row for row in _rows(run, folder, level)]
    return Table(level=level, columns=COLUMNS[level], rows=tuple(rows))


def frame(table: Table) -> Any:
    """Return `table` as a pandas DataFrame; `attrs["columns"]` tells units and meanings.

    Raises:
        PeerWattError: pandas is not installed.
    """
    pandas = module_of_tables("pandas")
    kinds = {"text": "object", "integer": "Int64", "number": "float64", "flag": "boolean"}
    columns = {
        column.name: pandas.Series(
            [row[column.name] for row in table.rows], dtype=kinds[column.kind]
        )
        for column in table.columns
    }
    made = pandas.DataFrame(columns)
    made.attrs["columns"] = {
        column.name: {"unit": column.unit, "meaning": column.meaning} for column in table.columns
    }
    return made


def module_of_tables(name: Literal["pandas", "pyarrow"]) -> Any:
    """Import a module of the extra `tables`.

    Raises:
        PeerWattError: it is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise PeerWattError(
            f"tables need the module {name!r}, which is not installed: "
            "pip install 'peerwatt[tables]'."
        ) from None


def _keys(entry: Entry, result: RunResult) -> dict[str, Value]:
    """Return what identifies a run."""
    return {
        "task": result.task.name,
        "task_hash": result.task.content_hash,
        "mechanism": full_name(result.mechanism),
        "mechanism_options": _json(result.mechanism.options),
        "entry": entry.label,
        "algorithm": full_name(result.algorithm),
        "critic": full_name(result.critic),
        "scripted": entry.scripted,
        "config_hash": result.config_hash,
        "seed": result.seed,
    }


def _rows(run: Run, folder: Path, level: Level) -> Iterator[dict[str, Value]]:
    """Return the rows of one run, without its keys."""
    result = run.result
    if level == "run":
        yield _run_row(run, folder)
    elif level == "episode":
        test = result.test
        for episode in range(test.episodes):
            costs = {
                name: values[episode]
                for name, values in (
                    ("cost", test.cost),
                    ("grid_cost", test.grid_cost),
                    ("oracle_cost", test.oracle_cost),
                )
            }
            recorded = {
                name: test.metrics[name][episode] if name in test.metrics else None
                for name in METRICS
            }
            share = welfare(*([cost] for cost in costs.values()))
            yield {"episode": episode, **costs, "welfare": share, **recorded}
    else:
        for point in result.curve:
            yield {
                "agent_steps": point.agent_steps,
                "welfare": point.welfare,
                **{score.key: point.scores.get(score.key) for score in SCORES},
            }


def _run_row(run: Run, folder: Path) -> dict[str, Value]:
    """Return the row of a run at level "run", without its keys."""
    result, timings, usage = run.result, run.result.timings, run.result.critic_usage
    commit = result.environment.git_commit
    return {
        "algorithm_version": result.algorithm.version,
        "algorithm_options": _json(result.algorithm.options),
        "critic_options": _json(result.critic.options),
        "shaping": _json(result.shaping),
        "budget": result.budget,
        "agent_steps": result.agent_steps,
        "episodes": result.test.episodes,
        **run_values(result),
        **{name: _mean(result.test.metrics.get(name, [])) for name in OTHERS},
        "wall_seconds": timings.wall,
        "cpu_seconds": timings.cpu,
        "training_seconds": timings.training_wall,
        "evaluation_seconds": timings.evaluation_wall,
        "agent_steps_per_second": timings.agent_steps_per_second,
        "critic_calls": usage.calls if usage else None,
        "critic_tokens": usage.prompt_tokens + usage.completion_tokens if usage else None,
        "critic_dollars": usage.dollars if usage else None,
        "peerwatt": result.environment.packages.get("peerwatt"),
        # Whatever else a stranger says there could pass for a formula in a spreadsheet.
        "git_commit": commit if commit and re.fullmatch("[0-9a-f]{7,64}", commit) else None,
        "git_dirty": result.environment.git_dirty,
        "created_utc": result.created_utc,
        "folder": run.path.parent.relative_to(folder).as_posix(),
    }


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


def _json(options: dict[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, ensure_ascii=False)
