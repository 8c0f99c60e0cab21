"""`python -m peerwatt_algorithms.NAME`: one run of one algorithm, its options without prefix."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from peerwatt.cli.options import agent_steps, options_of
from peerwatt.cli.report import finish
from peerwatt.errors import PeerWattError
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import find
from peerwatt.runs.config import DEFAULT_BUDGET, RunConfig
from peerwatt.runs.runner import run_all


@dataclasses.dataclass(frozen=True)
class SingleOptions:
    """Options of one run."""

    task: str
    """Name of a task, or path of a card (.toml)."""
    critic: str = "none"
    """Name of the critic that shapes the reward in training."""
    seed: int = 0
    """Seed of the run."""
    budget: str = str(DEFAULT_BUDGET)
    """Agent-steps to train for, such as 2M."""
    results: Path = Path("runs")
    """Folder of the results."""
    again: bool = False
    """Do the run again if it is finished."""


def main(algorithm: str) -> None:
    """Run `algorithm` once with the options of the command line."""
    try:
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
        parsed: Any = tyro.cli(combined, description=factory.__doc__)
        options = parsed.run
        config = RunConfig(
            task=options.task,
            algorithm=algorithm,
            critic=options.critic,
            seed=options.seed,
            budget=agent_steps(options.budget),
            algorithm_options=options_of(parsed.algorithm),
            shaping=parsed.shaping,
        )
        finish(run_all([config], options.results, workers=1, again=options.again))
    except PeerWattError as error:
        print(f"{algorithm}: {error}", file=sys.stderr)
        sys.exit(2)
