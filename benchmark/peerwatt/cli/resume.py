"""`peerwatt resume`: go on with what the plans of a results folder still lack."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from peerwatt.cli.planning import EXIT_CODES, Execution, carry_out
from peerwatt.errors import PeerWattError
from peerwatt.runs.plan import read_plans


@dataclasses.dataclass(frozen=True)
class ResumeOptions(Execution):
    """Run what the plans of a results folder still lack: new, interrupted, killed and failed runs.

    Every `peerwatt run` leaves its plan in the folder. Plans can name plugins, files and servers:
    resume only folders that you trust.
    """

    results: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")] = Path("runs")
    """Folder of the results."""
    again: bool = False
    """Do finished runs again."""


def run(arguments: list[str]) -> None:
    """Show what is left, run it, print the table of all entries."""
    about = f"{ResumeOptions.__doc__}\n\n{EXIT_CODES}"
    options = tyro.cli(ResumeOptions, prog="peerwatt resume", description=about, args=arguments)
    plans = read_plans(options.results)
    if not plans:
        raise PeerWattError(
            f"{options.results} holds no plan to go on with: `peerwatt run` leaves one in the "
            "folder that --results names."
        )
    carry_out(plans, options.results, options, again=options.again)
