"""Names of runs and of their numbers, as trackers know them: namespaces divided by slashes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

STEP = "global_step"
"""Agent-steps, the axis of every chart."""
FAIRNESS = frozenset(("ftg", "fbs", "fpp", "ftb", "price_qoe", "losers"))
"""Metrics of an evaluation that speak of fairness; the others speak of the market."""
_LOSSES = re.compile(
    r"(^|_)(loss|losses|entropy|kl|clipped|clip_?frac(tion)?|explained_variance|grad(ient)?_norm)$"
)


def tracked_name(column: str) -> str:
    """Return what a column of `metrics.jsonl` is called in a tracker.

    `eval/welfare`, `fairness/*` and `market/*` are evaluations on the validation split, `critic/*`
    what the critic gave, `losses/*` what the algorithm minimises or watches; `charts/*` the rest.
    """
    if column == "agent_steps":
        return STEP
    if column.startswith("validation_"):
        metric = column.removeprefix("validation_")
        space = "fairness" if metric in FAIRNESS else "eval" if metric == "welfare" else "market"
        return f"{space}/{metric}"
    if _LOSSES.search(column):
        return f"losses/{column}"
    if column.startswith("critic_"):
        return f"critic/{column.removeprefix('critic_')}"
    return f"charts/{column}"


def tracked(row: Mapping[str, float | None]) -> dict[str, float]:
    """Return a report under the names of a tracker, without what is undefined.

    `charts/SPS` is added: agent-steps per second since the training began.
    """
    values = {tracked_name(name): value for name, value in row.items() if value is not None}
    if row.get("seconds") and row.get("agent_steps") is not None:
        values["charts/SPS"] = values[STEP] / values["charts/seconds"]
    return values


def group_of(run: Mapping[str, Any]) -> str:
    """Return the name that runs of one algorithm on one task share."""
    return f"{run['task']['name']}/{run['algorithm']['name']}"


def entry_of(run: Mapping[str, Any]) -> str:
    """Return the name that the seeds of one entry share, that of its folder."""
    parts = [run[part]["name"] for part in ("algorithm", "critic", "mechanism")]
    return "--".join((*parts, run["config_hash"][:8]))


def seed_of(run: Mapping[str, Any]) -> str:
    """Return the name of a seed, that of its folder."""
    return f"seed-{run['seed']:03d}"
