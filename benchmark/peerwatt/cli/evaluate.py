"""`peerwatt evaluate`: play a finished run's policy again."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from peerwatt.community import Task
from peerwatt.env import VectorMarket
from peerwatt.errors import PeerWattError
from peerwatt.evaluation import METRICS, Evaluation, Evaluator, Policy
from peerwatt.plugins.loader import find, load_mechanism, load_task, registry
from peerwatt.runs.execute import episode_record
from peerwatt.runs.result import RunResult, full_name
from peerwatt.runs.store import RESULT_FILE, read_result


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Play the policy of a finished run again on the test scenarios of its task.

    The exit code is 1 if the episodes differ from the record.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, with result.json and the policy."""
    task: str | None = None
    """Task card (.toml), where the run was made on one that is not registered."""
    json: bool = False
    """Print the episodes as JSON instead of a table."""


def run(arguments: list[str]) -> None:
    """Re-evaluate, print the metrics, and say whether they equal the record."""
    options = tyro.cli(EvaluateOptions, prog="peerwatt evaluate", args=arguments)
    folder = options.run.parent if options.run.name == RESULT_FILE else options.run
    result = read_result(folder)
    if options.task is None and result.task.name not in registry()["task"]:
        raise PeerWattError(
            f"{folder} was made on {result.task.name!r}, which is not registered: install the "
            "plugin that brings it, or name its card with --task."
        )
    task = load_task(options.task or result.task.name)
    if task.content_hash != result.task.content_hash:
        raise PeerWattError(
            f"{folder} was made on {result.task.name} {result.task.content_hash[:8]}, but "
            f"this {task.name} is {task.content_hash[:8]}: the two do not compare."
        )
    spec = find("algorithm", full_name(result.algorithm)).spec
    policy: Policy = spec.load_policy().load(folder)
    _check_fit(policy, task, folder)
    mechanism = load_mechanism(full_name(result.mechanism), result.mechanism.options)
    evaluation = Evaluator(task, "test", mechanism=mechanism)(policy, result.seed)
    now = json.loads(episode_record(evaluation).model_dump_json())
    same = now == json.loads(result.test.model_dump_json())
    if options.json:
        print(json.dumps(now, indent=1))
    else:
        _print(result, evaluation)
        print(
            "reproduced: equal to the record in every episode"
            if same
            else "DIFFERS from the record (another platform or version?)"
        )
    if not same:
        sys.exit(1)


def _check_fit(policy: Policy, task: Task, folder: Path) -> None:
    """Refuse a policy that was made for other spaces than those of `task`."""
    market = VectorMarket(task)
    try:
        actions = policy.act(market.reset(), market.action_mask, np.random.default_rng(0))
        market.step(actions)
    except Exception as error:
        raise PeerWattError(f"the policy in {folder} does not play {task.name}: {error}") from error


def _print(result: RunResult, evaluation: Evaluation) -> None:
    title = f"{result.task.name}, {result.algorithm.name}, seed {result.seed}, test split"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("meaning")
    table.add_row("welfare", _written(evaluation.welfare), "0 is grid-only, 1 the optimum")
    for name, meaning in METRICS.items():
        if name in ("ftg", "fbs", "fpp", "ftb"):
            value = evaluation.score(name)
        else:
            known = evaluation.metrics[name][np.isfinite(evaluation.metrics[name])]
            value = float(known.mean()) if known.size else float("nan")
        table.add_row(name, _written(value), meaning)
    Console().print(table)


def _written(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"
