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
    write_golden,
)


@dataclasses.dataclass(frozen=True)
class GoldenOptions:
    """Write golden.json: what clearing, settlement and metrics do with the installed code.

    `peerwatt regress` holds it against other code. With --check nothing is written: exit code 1 if
    the code does otherwise than the file.
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
        print(f"{path}: {count_cases(golden)} values of clearing, settlement and metrics.")
        return
    path = options.folder / GOLDEN_FILE
    base = read_golden(path)
    changes = compare_golden(base, make_golden())
    for change in changes:
        print(change.text)
    if changes:
        print(
            f"If that is meant, write the file again with `peerwatt golden {options.folder}` and "
            "commit it."
        )
        raise SystemExit(1)
    print(f"{path}: all {count_cases(base)} values are the same.")
