"""Runs as TensorBoard event files: `tensorboard --logdir tensorboard` shows them.

One folder per run, `TASK/ENTRY/SEED`. A run that goes on after it was killed tells everything again
into another file there, and TensorBoard is told to forget the earlier one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peerwatt_sinks.naming import STEP, entry_of, seed_of, tracked

VERSION = version("tensorboard")  # imported only where it is used


@dataclass
class TensorBoardSink:
    """Writes the reports of each run as scalars, and its configuration and result as texts."""

    folder: Path = Path("tensorboard")
    """Folder of the event files."""
    _writer: Any = field(default=None, init=False)
    _step: int = field(default=0, init=False)

    def destination(self) -> str:
        """Return where the files go."""
        return str(self.folder.absolute())

    def start(self, run: Mapping[str, Any]) -> None:
        """Begin the event file, and tell the configuration."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self.folder / run["task"]["name"] / entry_of(run) / seed_of(run)
        self._writer = EventFileWriter(str(folder))
        # What an earlier attempt wrote from this step on is void.
        begun = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=0, session_log=begun))
        places = ("folder", "files", "attempt")
        self._tell_text("config", {k: v for k, v in run.items() if k not in places})

    def log(self, row: Mapping[str, float | None]) -> None:
        """Write the numbers of a row at its agent-steps."""
        values = tracked(row)
        self._step = int(values.pop(STEP, self._step))
        self._tell_values(values)

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Write the measures on the test scenarios and the record, and close the file."""
        if result is not None:
            from peerwatt.runs.result import RunResult
            from peerwatt.runs.summary import run_values

            self._step = max(self._step, result["agent_steps"])
            measures = run_values(RunResult.model_validate(result))
            self._tell_values({f"test/{k}": v for k, v in measures.items() if v is not None})
            self._tell_text("result", result)
        self._writer.close()

    def _tell_values(self, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add([Summary.Value(tag=tag, simple_value=x) for tag, x in values.items()])

    def _tell_text(self, tag: str, content: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto

        # An indented block of Markdown is shown as it is.
        text = json.dumps(content, indent=1).replace("\n", "\n    ")
        plugin = SummaryMetadata.PluginData(plugin_name="text")
        tensor = TensorProto(dtype="DT_STRING", string_val=[f"    {text}".encode()])
        metadata = SummaryMetadata(plugin_data=plugin)
        self._add([Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])

    def _add(self, values: list[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=values)
        self._writer.add_event(Event(wall_time=time.time(), step=self._step, summary=summary))
