"""Command line of the data preparation: `python -m peerwatt_tasks.prepare fontana|pilot`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from peerwatt.community.simulate import simulate
from peerwatt.errors import PeerWattError
from peerwatt_tasks.prepare.fontana import fontana_arrays
from peerwatt_tasks.prepare.pilot import PILOT
from peerwatt_tasks.prepare.tables import summary, write_npz

DATA = Path(__file__).resolve().parents[1] / "data"


def parser() -> argparse.ArgumentParser:
    """Return the parser: one sub-command per data set."""
    top = argparse.ArgumentParser(prog="python -m peerwatt_tasks.prepare", description=__doc__)
    commands = top.add_subparsers(dest="dataset", required=True)
    fontana = commands.add_parser("fontana", help="real homes, from the wheel citylearn==1.8.0")
    fontana.add_argument(
        "wheel", type=Path, help="CityLearn-1.8.0-py3-none-any.whl; read, never installed"
    )
    pilot = commands.add_parser("pilot", help="simulated community, from its stated seed")
    for command in (fontana, pilot):
        command.add_argument(
            "--out", type=Path, default=DATA, help="folder to write to (default: %(default)s)"
        )
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one preparation; return 0, or 2 after one sentence about bad input."""
    options = parser().parse_args(arguments)
    try:
        if options.dataset == "fontana":
            arrays, screened = fontana_arrays(options.wheel)
            for screen in screened:
                print(screen.sentence())
        else:
            arrays = simulate(PILOT)
        path = options.out / f"{options.dataset}.npz"
        digest = write_npz(path, arrays)
    except PeerWattError as error:
        print(error, file=sys.stderr)
        return 2
    print(summary(arrays))
    print(f"wrote {path} ({path.stat().st_size:,} bytes, sha256 {digest})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
