"""`peerwatt evaluate`: play a finished run's policy again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from peerwatt.errors import PeerWattError
from peerwatt.evaluation import METRICS, Evaluation, Evaluator
from peerwatt.plugins.loader import find, load_task
from peerwatt.runs.execute import episode_record
from peerwatt.runs.result import RunResult
from peerwatt.runs.store import read_result


@dataclasses.dataclass(frozen=True)
class EvaluateOptions:
    """Play the policy of a finished run again on the test scenarios of its task."""

    run: Annotated[Path, tyro.conf.Positional]
    """Folder of the run, with result.json and the policy."""
    task: str | None = None
    """Task card (.toml), where the run was made on one that is not registered."""
    json: bool = False
    """Print the episodes as JSON instead of a table."""


def run(arguments: list[str]) -> None:
    """Re-evaluate, print the metrics, and say whether they equal the record."""
    options = tyro.cli(EvaluateOptions, prog="peerwatt evaluate", args=arguments)
    result = read_result(options.run)
    task = load_task(options.task or result.task.name)
    if task.content_hash != result.task.content_hash:
        raise PeerWattError(
            f"{options.run} was made on {result.task.name} {result.task.content_hash[:8]}, but "
            f"this {task.name} is {task.content_hash[:8]}: the two do not compare."
        )
    spec = find("algorithm", result.algorithm.name).spec
    policy = spec.load_policy().load(options.run)
    evaluation = Evaluator(task, "test", mechanism=result.mechanism)(policy, result.seed)
    if options.json:
        print(episode_record(evaluation).model_dump_json(indent=1))
        return
    _print(result, evaluation)


def _print(result: RunResult, evaluation: Evaluation) -> None:
    console = Console()
    table = Table(title=f"{result.task.name}, {result.algorithm.name}, seed {result.seed}, test")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("meaning")
    table.add_row("welfare", f"{evaluation.welfare:.4f}", "0 is grid-only, 1 the optimum")
    for name, meaning in METRICS.items():
        if name in ("ftg", "fbs", "fpp", "ftb"):
            value = evaluation.score(name)
        else:
            known = [v for v in evaluation.metrics[name].tolist() if v == v]
            value = sum(known) / len(known) if known else float("nan")
        table.add_row(name, f"{value:.4f}", meaning)
    console.print(table)
    now = json.loads(episode_record(evaluation).model_dump_json())
    same = now == json.loads(result.test.model_dump_json())
    console.print(
        "reproduced: equal to the record in every episode"
        if same
        else "[bold red]differs from the record[/] (another platform or version?)"
    )
