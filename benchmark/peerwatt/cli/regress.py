"""`peerwatt regress`: is NEW worse than BASE? A verdict by which CI can block a change."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation.verdict import ALPHA
from peerwatt.runs.regression.compare import compare, compare_until_decided
from peerwatt.runs.regression.findings import Report
from peerwatt.runs.regression.golden import write_text
from peerwatt.runs.regression.learners import METRICS, WELFARE_MARGIN, Settings
from peerwatt.runs.regression.looks import MOST_SEEDS
from peerwatt.runs.regression.outputs import to_json, to_junit, to_markdown

STYLES = {"regression": "bold red", "no worse": "green", "undecided": "yellow"}


@dataclasses.dataclass(frozen=True)
class RegressOptions:
    """Hold the runs of NEW against those of BASE, entry by entry and seed by seed.

    What is deterministic (golden files, scripted traders) must be the same; learners are judged by
    paired differences over the seeds. Exit code 0: no worse, 1: regression, 3: undecided, 2: bad
    input.
    """

    base: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BASE")]
    """Folder of results made by the code before."""
    new: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="NEW")]
    """Folder of results made by the code after."""
    margin: float = WELFARE_MARGIN
    """Drop of welfare (0: grid-only, 1: optimum) that would not matter."""
    margins: str = ""
    """Margins of other metrics, as in ftg=0.05,worst_off=2; scores from 0 to 1, savings in points
    of per cent."""
    metrics: str = ",".join(METRICS)
    """Metrics to judge, welfare among them."""
    alpha: float = ALPHA
    """Chance of any false alarm in the call."""
    require_all: bool = False
    """Demand that every metric is shown to be no worse, not only welfare."""
    until_decided: bool = False
    """Add seeds until it is decided; the looks share the chance of a false alarm. Say so from the
    start: each call without it counts as a look as well."""
    max_seeds: int = 40
    """Most seeds of an entry, with --until-decided."""
    base_peerwatt: Path | None = None
    """The `peerwatt` of the installation that made BASE, which adds seeds there; without it there
    are as many as BASE has."""
    markdown: Path | None = None
    """Write the verdict for a comment on a pull request."""
    junit: Path | None = None
    """Write JUnit XML."""
    json: Path | None = None
    """Write all numbers."""


def run(arguments: list[str]) -> None:
    """Print the verdict, write it where asked, and end with its exit code."""
    options = tyro.cli(RegressOptions, prog="peerwatt regress", args=arguments)
    settings = Settings(
        metrics=tuple(filter(None, (name.strip() for name in options.metrics.split(",")))),
        margin=options.margin,
        margins=margins_of(options.margins),
        alpha=options.alpha,
        require_all=options.require_all,
    )
    if options.until_decided:
        if not 1 <= options.max_seeds <= MOST_SEEDS:
            raise PeerWattError(f"--max-seeds {options.max_seeds} must lie in 1..{MOST_SEEDS}.")
        stderr = Console(stderr=True)
        report = compare_until_decided(
            options.base,
            options.new,
            settings,
            most=options.max_seeds,
            program=options.base_peerwatt,
            console=stderr,
            told=lambda report: stderr.print(
                f"{report.outcome}: {report.reason}", highlight=False, markup=False
            ),
        )
    elif options.base_peerwatt is not None:
        raise PeerWattError("--base-peerwatt adds seeds: say --until-decided as well.")
    else:
        report = compare(options.base, options.new, settings)
    show(report)
    for path, write in (
        (options.markdown, to_markdown),
        (options.junit, to_junit),
        (options.json, to_json),
    ):
        if path is not None:
            write_text(path, write(report))
    sys.exit(report.exit_code)


def margins_of(text: str) -> dict[str, float]:
    """Read ftg=0.05,worst_off=2.

    Raises:
        PeerWattError: it is not of that form.
    """
    margins = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        try:
            margins[name.strip()] = float(value)
        except ValueError:
            raise PeerWattError(
                f"--margins '{shown(part, 60)}' is no metric and number, as in ftg=0.05."
            ) from None
    return margins


def show(report: Report) -> None:
    """Print the findings and the verdict."""
    console = Console() if sys.stdout.isatty() else Console(width=110)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("case", ratio=2)
    table.add_column("verdict")
    table.add_column("why", ratio=5)
    for finding in report.findings:
        outcome = Text(finding.outcome, style=STYLES[finding.outcome])
        table.add_row(Text(shown(finding.subject, 200)), outcome, Text(shown(finding.text, 2_000)))
    console.print(table)
    for warning in report.warnings:
        console.print(Text(f"warning: {shown(warning, 2_000)}", style="yellow"))
    if report.looks:
        sizes = ", ".join(map(str, report.looks))
        console.print(f"looks planned at {sizes} seeds share the chance of {report.alpha:g}.")
    console.print(
        Text.assemble((report.outcome, STYLES[report.outcome]), f": {shown(report.reason, 2_000)}"),
        soft_wrap=True,
    )
