"""`peerwatt run`: train and evaluate one entry over seeds, or all entries of a suite."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from peerwatt.cli.options import Basics, agent_steps, check_seeds, options_of, parse, run_config
from peerwatt.cli.planning import EXIT_CODES, Execution, carry_out
from peerwatt.runs.plan import Plan
from peerwatt.runs.suites import load_suite, suite_configs, suite_names

DESCRIPTION = f"""Train an algorithm on a task over several seeds and evaluate what it learned on
held-out scenarios. Every seed leaves a folder with result.json, metrics.jsonl and the policy.
Finished runs are not repeated, and interrupted ones go on from their last checkpoint. Name
algorithm, critic, mechanism or where to track before --help to see their options. A plugin that is
a single file is named by --plugin FILE. `peerwatt run --suite NAME` runs all entries of a suite
instead; `peerwatt run --suite quick --help` shows its options. {EXIT_CODES}"""


@dataclasses.dataclass(frozen=True)
class RunOptions(Execution, Basics):
    """Options of `peerwatt run`."""

    suite: str | None = None
    """Name of a suite, or a TOML file of your own, instead of a task, an algorithm and so on."""
    seeds: int = 5
    """Number of seeds."""
    first_seed: int = 0
    """First of the seeds."""
    results: Path = Path("runs")
    """Folder of the results."""
    again: bool = False
    """Do finished runs again."""


@dataclasses.dataclass(frozen=True)
class SuiteOptions(Execution):
    """Run all entries of a suite. Finished runs are not repeated, and interrupted ones go on."""

    suite: str = "quick"
    """Name of a suite, or a TOML file of your own."""
    seeds: int | None = None
    """Number of seeds instead of the suite's."""
    first_seed: int = 0
    """First of the seeds."""
    budget: str | None = None
    """Agent-steps per run instead of the suite's, such as 4M."""
    track: str | None = None
    """Where the numbers of the runs go as well, such as csv or wandb."""
    results: Path = Path("runs")
    """Folder of the results."""
    again: bool = False
    """Do finished runs again."""


def run(arguments: list[str]) -> None:
    """Show the plan, run it, print the table of its entries."""
    if any(word == "--suite" or word.startswith("--suite=") for word in arguments):
        _run_suite(arguments)
        return
    basics, parsed = parse(RunOptions, arguments, "peerwatt run", DESCRIPTION)
    check_seeds(basics.seeds)
    seeds = range(basics.first_seed, basics.first_seed + basics.seeds)
    configs = [run_config(basics, parsed, seed) for seed in seeds]
    plan = Plan(f"{basics.task} {basics.algorithm}", tuple(configs))
    carry_out([plan], basics.results, basics, again=basics.again)


def _run_suite(arguments: list[str]) -> None:
    suites = "; ".join(f"{name}: {load_suite(name).summary}" for name in suite_names())
    about = f"{SuiteOptions.__doc__} Suites: {suites}. {EXIT_CODES}"
    options, parsed = parse(SuiteOptions, arguments, "peerwatt run", about, roles=("sink",))
    if options.seeds is not None:
        check_seeds(options.seeds)
    budget = None if options.budget is None else agent_steps(options.budget)
    tracked = options_of(getattr(parsed, "sink_options", None))
    configs = [
        dataclasses.replace(config, sink=options.track, sink_options=tracked)
        for config in suite_configs(options.suite, options.seeds, budget, options.first_seed)
    ]
    plan = Plan(options.suite, tuple(configs))
    carry_out([plan], options.results, options, again=options.again)
