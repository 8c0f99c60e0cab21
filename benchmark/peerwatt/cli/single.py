"""`python -m peerwatt_algorithms.NAME`: one run of one algorithm, its options without prefix."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from peerwatt.cli.main import guarded, take_plugin_flags
from peerwatt.cli.options import agent_steps, options_of
from peerwatt.cli.planning import Execution, carry_out
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import find
from peerwatt.runs.config import DEFAULT_BUDGET, DEFAULT_VALIDATIONS, RunConfig
from peerwatt.runs.plan import Plan


@dataclasses.dataclass(frozen=True)
class SingleOptions:
    """Options of one run."""

    task: str
    """Name of a task, or path of a card (.toml)."""
    critic: str = "none"
    """Name of the critic that shapes the reward in training, with its default options."""
    mechanism: str | None = None
    """Market mechanism instead of the task's own, with its default options."""
    seed: int = 0
    """Seed of the run."""
    budget: str = str(DEFAULT_BUDGET)
    """Agent-steps to train for, such as 2M."""
    validations: int = DEFAULT_VALIDATIONS
    """Evaluations on the validation split along the way."""
    results: Path = Path("runs")
    """Folder of the results."""
    again: bool = False
    """Do the run again if it is finished."""


def main(algorithm: str) -> None:
    """Run `algorithm` once with the options of the command line."""
    guarded(lambda: _run(algorithm, take_plugin_flags(sys.argv[1:])))


def _run(algorithm: str, arguments: list[str]) -> None:
    factory = find("algorithm", algorithm).spec.load()
    combined = dataclasses.make_dataclass(
        "Arguments",
        [
            ("run", Annotated[SingleOptions, tyro.conf.OmitArgPrefixes]),
            (
                "algorithm",
                Annotated[factory, tyro.conf.OmitArgPrefixes],
                dataclasses.field(default_factory=factory),
            ),
            ("shaping", Shaping, dataclasses.field(default_factory=Shaping)),
        ],
    )
    prog = f"python -m {factory.__module__}"
    parsed: Any = tyro.cli(combined, prog=prog, description=factory.__doc__, args=arguments)
    options = parsed.run
    config = RunConfig(
        task=options.task,
        algorithm=algorithm,
        critic=options.critic,
        mechanism=options.mechanism,
        seed=options.seed,
        budget=agent_steps(options.budget),
        validations=options.validations,
        algorithm_options=options_of(parsed.algorithm),
        shaping=parsed.shaping,
    )
    plan = Plan(f"{options.task} {algorithm}", (config,))
    carry_out([plan], options.results, Execution(executor="in-process"), again=options.again)
