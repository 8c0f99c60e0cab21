"""`peerwatt speed`: is this installation slower than another? Ratios, measured in one run."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from peerwatt.errors import PeerWattError
from peerwatt.runs.speed import MEASURED, Comparison, compare

EXIT = {"no worse": 0, "regression": 1, "undecided": 3}


@dataclasses.dataclass(frozen=True)
class SpeedOptions:
    """Compare the speed of this installation with that of another one, in turns.

    Measured are market stepping and IPPO training, in agent-steps per second of CPU time. A round
    takes about ten seconds. Exit code 0: no worse, 1: regression, 3: undecided, 2: bad input.
    """

    against: str
    """The other installation's `peerwatt`, such as old/bin/peerwatt: the base."""
    rounds: int = 10
    """Pairs of measurements, after one that does not count."""
    margin: float = 0.1
    """Slowdown that would not matter, as a share."""
    task: str = "pilot-v1"
    """Task that both play."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print all numbers as JSON instead of a table."""


def run(arguments: list[str]) -> None:
    """Print the ratios and the verdict, and end with its exit code."""
    if arguments[:1] == ["probe"]:  # what each round of a comparison starts
        from peerwatt.runs.speed_probe import probe

        if len(arguments) != 2:
            raise PeerWattError("`peerwatt speed probe` takes the name of one task.")
        print(probe(arguments[1]))
        return
    options = tyro.cli(SpeedOptions, prog="peerwatt speed", args=arguments)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("rounds", total=options.rounds)
        found = compare(
            options.against,
            options.task,
            rounds=options.rounds,
            margin=options.margin,
            told=lambda done: progress.update(bar, completed=done),
        )
    if options.json:
        verdict = {"outcome": found.outcome, "sentence": found.sentence}
        print(json.dumps({**dataclasses.asdict(found), **verdict}, indent=1))
    else:
        show(found)
    sys.exit(EXIT[found.outcome])


def show(found: Comparison) -> None:
    """Print the table and the verdict."""
    console = Console() if sys.stdout.isatty() else Console(width=100)
    table = Table(
        title=f"{found.new_version} here against {found.base_version}, {found.task}, "
        f"{found.rounds} rounds",
        box=box.SIMPLE_HEAD,
    )
    for name in ("agent-steps per CPU-second", "base", "new", "new / base", "95 % bounds", ""):
        table.add_column(name, justify="left" if name.startswith("agent") else "right")
    for ratio in found.ratios:
        table.add_row(
            MEASURED[ratio.key],
            f"{ratio.base / 1000:,.0f} k",
            f"{ratio.new / 1000:,.0f} k",
            f"{ratio.ratio:.3f}",
            f"≥ {ratio.low:.3f}, ≤ {ratio.high:.3f}",
            ratio.outcome,
        )
    console.print(table)
    console.print(f"{found.outcome}: {found.sentence}", highlight=False)
