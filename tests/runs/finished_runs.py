"""Finished runs for the tests of sinks."""

import dataclasses
from pathlib import Path

from test_sinks import Reporting

from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.testing.communities import SIZES, write_card


def finished_run(folder, seed=0, sink=None, sink_name=None):
    """Make a tiny run in `folder`/results and return its folder."""
    card = write_card(Path(folder), SIZES[1])
    config = RunConfig(task=str(card), algorithm="zi-c", seed=seed, validations=2)
    run = resolve(config)
    run = dataclasses.replace(
        run,
        config=dataclasses.replace(config, sink=sink_name),
        algorithm=Reporting(run.algorithm),
        budget=40,
        sink=sink,
    )
    return execute(run, Path(folder) / "results")
