"""`peerwatt run`: train and evaluate one entry over seeds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from peerwatt.cli.options import Basics, check_seeds, parse, run_config
from peerwatt.cli.report import finish
from peerwatt.runs.runner import run_all

DESCRIPTION = """Train an algorithm on a task over several seeds and evaluate what it learned on
held-out scenarios. Every seed leaves a folder with result.json, metrics.jsonl and the policy.
Finished runs are not repeated. Name algorithm, critic, mechanism or sink before --help to see their
options. A plugin that is a single file is named by --plugin FILE."""


@dataclasses.dataclass(frozen=True)
class RunOptions(Basics):
    """Options of `peerwatt run`."""

    seeds: int = 5
    """Number of seeds."""
    first_seed: int = 0
    """First of the seeds."""
    results: Path = Path("runs")
    """Folder of the results."""
    workers: int | None = None
    """Parallel processes; by default one per core."""
    again: bool = False
    """Do finished runs again."""


def run(arguments: list[str]) -> None:
    """Parse the command line, run the seeds, print the entry's table."""
    basics, parsed = parse(RunOptions, arguments, "peerwatt run", DESCRIPTION)
    check_seeds(basics.seeds)
    seeds = range(basics.first_seed, basics.first_seed + basics.seeds)
    configs = [run_config(basics, parsed, seed) for seed in seeds]
    finish(run_all(configs, basics.results, workers=basics.workers, again=basics.again))
