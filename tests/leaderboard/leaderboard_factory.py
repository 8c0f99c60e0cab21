"""Made-up results for the tests of the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peerwatt.fairness.session import CriticUsage
from peerwatt.runs.result import (
    CurvePoint,
    Environment,
    EpisodeMetrics,
    PluginRecord,
    RunResult,
    TaskRecord,
    Timings,
    configuration_hash,
)

HASH = "3f" * 32


def make_result(
    algorithm: str = "ippo",
    critic: str = "none",
    seed: int = 0,
    *,
    task: str = "pilot-v1",
    content_hash: str = HASH,
    mechanism: str = "cda",
    mechanism_options: dict[str, Any] | None = None,
    distribution: str = "peerwatt",
    version: str = "0.1.0",
    budget: int = 1_000_000,
    cost: list[float] | None = None,
    grid_cost: list[float] | None = None,
    oracle_cost: list[float] | None = None,
    savings: list[list[float]] | None = None,
    grid_bills: list[list[float]] | None = None,
    metrics: dict[str, list[float | None]] | None = None,
    curve: list[tuple[int, float]] | None = None,
    households: list[str] | None = None,
    options: dict[str, Any] | None = None,
    command: str = "peerwatt run",
    git_dirty: bool | None = False,
    agent_steps: int | None = None,
    critic_usage: CriticUsage | None = None,
) -> RunResult:
    """Return a valid result; two episodes of two households unless told otherwise."""
    grid_cost = [10.0, 20.0] if grid_cost is None else grid_cost
    cost = [9.0, 17.0] if cost is None else cost
    oracle_cost = [8.0, 14.0] if oracle_cost is None else oracle_cost
    households = ["prosumer", "consumer"] if households is None else households
    n = len(households)
    if savings is None:
        savings = [[(g - c) / n] * n for g, c in zip(grid_cost, cost, strict=True)]
    if grid_bills is None:
        grid_bills = [[g / n] * n for g in grid_cost]
    if metrics is None:
        metrics = {
            "ftg": [0.5, 1.0],
            "fbs": [0.8, 0.8],
            "fpp": [0.9, 0.7],
            "ftb": [None, 0.4],
            "feasible_kwh": [3.0, 1.0],
            "operator_revenue": list(cost),
            "operator_revenue_grid": list(grid_cost),
            "volume_kwh": [1.5, 1.0],
        }
    configuration: dict[str, Any] = {
        "task": TaskRecord(name=task, content_hash=content_hash, households=n, slots=48),
        "mechanism": PluginRecord(
            name=mechanism,
            distribution="peerwatt",
            version="0.1.0",
            options=mechanism_options or {},
        ),
        "algorithm": PluginRecord(
            name=algorithm, distribution=distribution, version=version, options=options or {}
        ),
        "critic": PluginRecord(name=critic, distribution="peerwatt", version="0.1.0"),
        "shaping": {},
        "budget": budget,
        "validations": 10,
    }
    return RunResult(
        **configuration,
        config_hash=configuration_hash(**configuration),
        seed=seed,
        agent_steps=budget if agent_steps is None else agent_steps,
        households=households,
        test=EpisodeMetrics(
            episodes=len(grid_cost),
            cost=cost,
            grid_cost=grid_cost,
            oracle_cost=oracle_cost,
            savings=savings,
            grid_bills=grid_bills,
            metrics=metrics,
        ),
        curve=[CurvePoint(agent_steps=step, welfare=welfare) for step, welfare in curve or []],
        timings=Timings(
            wall=372.0,
            cpu=360.0,
            training_wall=350.0,
            evaluation_wall=22.0,
            agent_steps_per_second=91_000.0 if budget else None,
        ),
        environment=Environment(
            python="3.11.9",
            platform="Linux-6.1-x86_64",
            processor="Example CPU @ 2.1 GHz, 2 cores",
            packages={"numpy": "2.1.0", "torch": "2.8.0"},
            git_commit="0123456789abcdef0123456789abcdef01234567",
            git_dirty=git_dirty,
        ),
        command=command,
        critic_usage=critic_usage,
        created_utc="2025-11-22T12:00:00Z",
    )


def write_result(folder: Path, result: RunResult) -> Path:
    """Write a result where the runner would, and return the file."""
    entry = f"{result.algorithm.name}--{result.critic.name}--{result.mechanism.name}"
    safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in entry)
    run = folder / result.task.name / safe / result.config_hash[:8] / f"seed-{result.seed:03d}"
    run.mkdir(parents=True, exist_ok=True)
    path = run / "result.json"
    path.write_text(result.model_dump_json(indent=1))
    return path
