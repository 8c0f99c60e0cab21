"""`peerwatt bench`: run a suite of entries."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from peerwatt.cli.options import agent_steps, check_seeds
from peerwatt.cli.report import finish
from peerwatt.runs.runner import run_all
from peerwatt.runs.suites import load_suite, suite_names


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """Run a suite of entries; finished runs are not repeated, so it can be stopped and resumed."""

    suite: Annotated[str, tyro.conf.Positional] = "quick"
    """Name of a suite, or a TOML file of your own."""
    seeds: int | None = None
    """Number of seeds instead of the suite's."""
    budget: str | None = None
    """Agent-steps per run instead of the suite's, such as 4M."""
    results: Path = Path("runs")
    """Folder of the results."""
    workers: int | None = None
    """Parallel processes; by default one per core."""
    again: bool = False
    """Do finished runs again."""


def run(arguments: list[str]) -> None:
    """Run the suite and print its table."""
    suites = "; ".join(f"{name}: {load_suite(name).summary}" for name in suite_names())
    options = tyro.cli(
        BenchOptions,
        prog="peerwatt bench",
        args=arguments,
        description=f"{BenchOptions.__doc__} Suites: {suites}.",
    )
    suite = load_suite(options.suite)
    if options.seeds is not None:
        check_seeds(options.seeds)
    budget = None if options.budget is None else agent_steps(options.budget)
    configs = suite.configs(options.seeds, budget)
    finish(run_all(configs, options.results, workers=options.workers, again=options.again))
