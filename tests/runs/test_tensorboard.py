"""TensorBoard reads back what `metrics.jsonl` and `result.json` say."""

import json

import pytest
from finished_runs import finished_run

from peerwatt.runs.sinks import QueuedSink, tell
from peerwatt.runs.store import read_result
from peerwatt.runs.summary import run_values
from peerwatt.runs.tracking import head, rows

pytest.importorskip("tensorboard")
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from peerwatt_sinks.naming import tracked
from peerwatt_sinks.tensorboard_events import TensorBoardSink


def read(folder):
    """Return scalars [name][step], and texts by name, as TensorBoard shows them."""
    (place,) = {file.parent for file in folder.rglob("events.out.tfevents.*")}
    accumulator = EventAccumulator(str(place), {"scalars": 0, "tensors": 0}).Reload()
    tags = accumulator.Tags()
    scalars = {
        name: {event.step: event.value for event in accumulator.Scalars(name)}
        for name in tags["scalars"]
    }
    texts = {
        name: json.loads(make_ndarray(accumulator.Tensors(name)[-1].tensor_proto).item())
        for name in tags["tensors"]
    }
    return place, scalars, texts


def single(value):
    return float(np.float32(value))  # what an event holds


def test_it_holds_the_rows_the_measures_and_the_record(tmp_path):
    run = finished_run(tmp_path, sink=TensorBoardSink(tmp_path / "board"))
    result = read_result(run)
    assert not result.notes
    place, scalars, texts = read(tmp_path / "board")
    assert place.relative_to(tmp_path / "board") == run.relative_to(tmp_path / "results")
    expected = {}
    for row in rows(run):
        values = tracked(row)
        step = values.pop("global_step")
        for name, value in values.items():
            expected.setdefault(name, {})[step] = single(value)
    for name, value in run_values(result).items():
        if value is not None:
            expected[f"test/{name}"] = {result.agent_steps: single(value)}
    assert scalars == expected
    assert {"charts/reward", "eval/welfare", "fairness/ftg"} <= scalars.keys()
    record = result.model_dump(mode="json")
    assert texts["result"] == record
    shared = texts["config"].keys() - {"resumed"}
    assert {"task", "config_hash", "seed"} <= shared
    assert {key: texts["config"][key] for key in shared} == {key: record[key] for key in shared}


def test_a_run_that_goes_on_replaces_what_its_earlier_attempt_said(tmp_path):
    run = finished_run(tmp_path)
    record = read_result(run).model_dump(mode="json")
    board = tmp_path / "board"
    killed = QueuedSink("tensorboard", TensorBoardSink(board))
    killed.start({**head(record, run), "resumed": 0})
    killed.log({"agent_steps": 2, "only_then": 1.0, "reward": 7.0})
    killed.finish(None)
    killed._thread.join()
    assert read(board)[1]["charts/reward"] == {2: 7.0}
    assert tell(run, "tensorboard", TensorBoardSink(board), record) == []
    _, scalars, _ = read(board)
    told = {row["agent_steps"]: single(row["reward"]) for row in rows(run)}
    assert scalars["charts/reward"] == told
