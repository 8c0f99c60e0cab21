"""`peerwatt sync`: tell a sink of runs that are finished."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from peerwatt.cli.options import options_of, parse
from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import build, find
from peerwatt.runs.sinks import tell
from peerwatt.runs.store import RESULT_FILE, read_result
from peerwatt.runs.tracking import was_told

DESCRIPTION = """Tell a sink of finished runs, whether or not they were tracked when they were made.
What it was told already, live or by this command, is left out. The exit code is 1 if some could not
be told."""


@dataclasses.dataclass(frozen=True)
class SyncOptions:
    """Options of `peerwatt sync`."""

    results: Annotated[Path, tyro.conf.Positional]
    """Folder of the results, or of some of them."""
    track: str
    """Name of the sink, such as wandb or tensorboard; --track.NAME VALUE gives its options."""
    again: bool = False
    """Tell runs again that were told already."""
    patience: float = 600.0
    """Seconds after which a run is given up that the sink does not get done with."""


def run(arguments: list[str]) -> None:
    """Parse the command line and tell the sink, run by run."""
    options, parsed = parse(SyncOptions, arguments, "peerwatt sync", DESCRIPTION, roles=("sink",))
    name = options.track
    sink = build(
        "sink", find("sink", name), dict(options_of(getattr(parsed, "sink_options", None)))
    )
    if not options.results.is_dir():
        raise PeerWattError(f"{options.results} is no folder of results.")
    folders = [
        file.parent.absolute()
        for file in sorted(options.results.rglob(RESULT_FILE))
        if not any(part.startswith(".") for part in file.relative_to(options.results).parts)
    ]
    if not folders:
        raise PeerWattError(f"{options.results} holds no finished runs.")
    told = left = failed = 0
    for folder in folders:
        title = "/".join(folder.parts[-3:])
        try:
            record = read_result(folder).model_dump(mode="json")
        except PeerWattError as error:
            failed += 1
            print(f"left out {title}: {error}", flush=True)
            continue
        if was_told(folder, name, sink, record) and not options.again:
            left += 1
        elif problems := tell(folder, name, sink, record, options.patience):
            failed += 1
            print(f"failed   {title}: {'; '.join(problems)}", flush=True)
        else:
            told += 1
            print(f"told     {title}", flush=True)
    print(f"{told} told to {name}, {left} told earlier, {failed} failed.")
    if failed:
        sys.exit(1)
