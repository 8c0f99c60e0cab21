"""`peerwatt golden`: write down what the deterministic layers do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from peerwatt.runs.regression.golden import (
    GOLDEN_FILE,
    compare_golden,
    count_cases,
    make_golden,
    read_golden,
    unmatched,
    write_golden,
)


@dataclasses.dataclass(frozen=True)
class GoldenOptions:
    """Write golden.json: what clearing, settlement, play, metrics and scores do with this code.

    `peerwatt regress` holds it against other code. With --check nothing is written: exit code 1 if
    the code does otherwise than the file, or anything that the file lacks.
    """

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where golden.json is."""
    check: bool = False
    """Compare instead of writing."""


def run(arguments: list[str]) -> None:
    """Write or check the golden file."""
    options = tyro.cli(GoldenOptions, prog="peerwatt golden", args=arguments)
    if not options.check:
        golden = make_golden()
        path = write_golden(golden, options.folder)
        print(f"{path}: {count_cases(golden)} values of all deterministic layers.")
        return
    path = options.folder / GOLDEN_FILE
    base, now = read_golden(path), make_golden()
    told = [change.text for change in compare_golden(base, now)] + unmatched(base, now)
    for text in told:
        print(text)
    if told:
        print(
            f"If that is meant, write the file again with `peerwatt golden {options.folder}` and "
            "commit it."
        )
        raise SystemExit(1)
    print(f"{path}: all {count_cases(base)} values are the same.")
