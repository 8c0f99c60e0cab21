"""Registers the sinks of this package."""

from __future__ import annotations

from collections.abc import Iterable

from peerwatt.plugins.specs import SinkSpec, hookimpl


@hookimpl
def peerwatt_sinks() -> Iterable[SinkSpec]:
    """Return the sinks of this package."""
    return (
        SinkSpec(
            name="csv",
            factory="peerwatt_sinks.csv_file:CsvSink",
            summary="Writes the rows of each run to a CSV file, for spreadsheets and pandas.",
        ),
        SinkSpec(
            name="tensorboard",
            factory="peerwatt_sinks.tensorboard_events:TensorBoardSink",
            summary="Writes event files for TensorBoard.",
            requires="peerwatt[tensorboard]",
        ),
        SinkSpec(
            name="wandb",
            factory="peerwatt_sinks.wandb_run:WandbSink",
            summary="Tracks each run in Weights & Biases; offline unless you are logged in.",
            requires="peerwatt[wandb]",
        ),
    )
