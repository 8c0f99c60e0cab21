"""Sinks observe a run: whatever one of them does, the run is the same, and its notes tell."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tracked_sinks import Deaf, Dying, Recording, events

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import FILES, registry
from peerwatt.runs import sink_process
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.sinks import QueuedSink
from peerwatt.runs.store import read_result
from peerwatt.testing.communities import SIZES, write_card

HEAD = {"seed": 1}


@dataclasses.dataclass(frozen=True)
class Reporting:
    """Plays two slots, reports each, and returns the trader's policy, or fails."""

    trader: object
    error: Exception | None = None

    def train(self, run):
        env = run.envs(1)
        env.reset()
        policy = self.trader.train(run)
        for _ in range(2):
            step = env.step(run.generator.integers(0, env.action_nvec, (1, env.num_agents, 3)))
            run.report(policy, reward=float(step.reward.sum()), undefined=np.nan)
        if self.error is not None:
            raise self.error
        return policy


@pytest.fixture
def run(tmp_path):
    """Return a function that executes a tiny run beside a sink."""
    card = write_card(tmp_path, SIZES[0])

    def do(sink, error=None):
        resolved = resolve(RunConfig(task=str(card), algorithm="zi-c", validations=1))
        algorithm = Reporting(resolved.algorithm, error)
        resolved = dataclasses.replace(resolved, algorithm=algorithm, budget=4, sink=sink)
        return execute(resolved, tmp_path / "results", again=True)

    return do


@pytest.fixture
def file(tmp_path):
    return tmp_path / "events.jsonl"


def content(folder):
    result = read_result(folder)
    rows = (folder / "metrics.jsonl").read_bytes()
    return rows, result.test, result.curve, (folder / "policy.json").read_bytes()


def names(file):
    return [name for name, _ in events(file)]


def ended(pid):
    """Wait until a process is gone; that it never is would be told by the test not ending."""
    while True:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return  # nobody waits for an orphan in some containers
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.02)


@pytest.mark.parametrize("event", ["start", "log", "finish"])
def test_a_sink_that_raises_never_fails_a_run_and_is_told(run, event, file):
    plain = content(run(None))
    folder = run(Recording(file, event))
    assert content(folder) == plain
    (note,) = read_result(folder).notes
    assert note == f"sink '' failed in {event} and was left out from there: OSError: no disk?"
    assert names(file).count(event) == 1
    assert names(file)[-1] == event


@pytest.mark.parametrize("error", ["SystemExit", "PeerWattError"])
def test_whatever_is_raised_is_told(error, file):
    sink = QueuedSink("mine", Recording(file, "log", error))
    sink.start(HEAD)
    sink.log({})
    sink.finish({})
    (note,) = sink.notes
    assert note.startswith("sink 'mine' failed in log") and error in note
    assert names(file) == ["start", "log"]


def test_events_come_in_order_and_hold_the_record(run, file):
    folder = run(Recording(file))
    assert names(file) == ["start", "log", "log", "finish"]
    head, first, _, result = (content for _, content in events(file))
    assert head["folder"] == str(folder) and head["seed"] == 0 and head["resumed"] == 0
    assert first["undefined"] is None and first["agent_steps"] == 2 and first["seconds"] >= 0
    written = json.loads((folder / "result.json").read_text())
    assert result == written and not written["notes"]
    both = (head.keys() & written.keys()) - {"files"}
    assert {key: head[key] for key in both} == {key: written[key] for key in both}
    assert {"task", "algorithm", "critic", "mechanism", "config_hash"} <= head.keys()


@pytest.mark.parametrize("event", ["", "finish"])
def test_the_end_of_a_run_that_fails_is_told(run, event, file):
    sink = Recording(file, event)
    with pytest.raises(RuntimeError, match="diverged"):
        run(sink, error=RuntimeError("diverged"))
    assert names(file) == ["start", "log", "log", "finish"]
    assert events(file)[-1][1] is None


def test_a_sink_without_a_method_is_told(file):
    sink = QueuedSink("deaf", Deaf(file))
    sink.start(HEAD)
    sink.log({})
    sink.finish({})
    (note,) = sink.notes
    assert "failed in log and was left out from there: AttributeError" in note
    assert names(file) == ["start"]


def test_a_sink_that_cannot_be_sent_is_told():
    @dataclasses.dataclass
    class Local(Recording):
        pass

    sink = QueuedSink("local", Local())
    sink.start(HEAD)
    sink.log({})
    sink.finish({})
    (note,) = sink.notes
    assert "'local' failed in start and was left out" in note and "Local" in note


def test_a_sink_whose_process_dies_is_told(file):
    sink = QueuedSink("dying", Dying(file))
    sink.start(HEAD)
    sink.log({})
    sink.finish({})
    assert sink.notes == [
        "sink 'dying' failed in log and was left out from there: its process ended"
    ]


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ("start", "start 2 s after the run, and was stopped: 2 rows were not told"),
        ("log", "log 2 s after the run, and was stopped: 2 rows were not told"),
        ("finish", "finish 2 s after the run, and was stopped"),
        ("exit", "its exit 2 s after the run, and was stopped"),
    ],
)
def test_a_sink_that_hangs_is_stopped_and_told(event, says, file):
    sink = QueuedSink("slow", Recording(file, hangs=event), patience=2.0)
    sink.start(HEAD)
    while not events(file):  # until it has come up, which may take longer than the patience
        time.sleep(0.01)
    sink.log({})
    sink.log({})
    sink.finish({})
    assert sink.notes == [f"sink 'slow' was still busy in {says}"]
    ended(events(file)[0][1]["pid"])


def test_the_end_of_a_failed_run_is_left_to_a_slow_sink(file, tmp_path, monkeypatch):
    monkeypatch.setattr("peerwatt.runs.sinks.PATIENCE_FAILED", 0.01)
    sink = QueuedSink("slow", Recording(file, waits=tmp_path / "go"))
    sink.start(HEAD)
    sink.finish(None)
    assert not sink.notes
    (tmp_path / "go").touch()
    while names(file) != ["start", "finish"]:
        time.sleep(0.01)


def test_rows_that_find_no_room_are_dropped_and_counted(file, tmp_path):
    sink = QueuedSink("slow", Recording(file, waits=tmp_path / "go"), most_rows=10)
    sink.start(HEAD)
    for number in range(25):
        sink.log({"number": number})
    (tmp_path / "go").touch()
    sink.finish({})
    assert [row["number"] for name, row in events(file) if name == "log"] == list(range(10))
    assert names(file)[-1] == "finish"
    assert sink.notes == [
        "sink 'slow' was too slow: 15 of 25 rows were dropped; `peerwatt sync` tells them later"
    ]


def test_kept_rows_of_a_resumed_run_are_told_again_and_take_no_room(file, tmp_path):
    steps = range(2, 42, 2)
    metrics = "".join(f'{{"agent_steps": {step}, "reward": null}}\n' for step in steps)
    (tmp_path / "metrics.jsonl").write_text(metrics)
    clock = "".join(f'{{"agent_steps": {step}, "seconds": {step / 4}}}\n' for step in steps)
    (tmp_path / "clock.jsonl").write_text(clock)
    sink = QueuedSink("", Recording(file, waits=tmp_path / "go"), most_rows=1)
    sink.start({**HEAD, "files": str(tmp_path), "resumed": 40})
    sink.log({"agent_steps": 42})
    (tmp_path / "go").touch()
    sink.finish({})
    rows = [row for name, row in events(file) if name == "log"]
    kept = [{"agent_steps": step, "seconds": step / 4, "reward": None} for step in steps]
    assert rows == [*kept, {"agent_steps": 42}] and not sink.notes


def test_a_sink_is_out_of_reach_of_the_terminal(file):
    sink = QueuedSink("", Recording(file))
    sink.start(HEAD)
    sink.finish({})
    head = events(file)[0][1]
    assert head["group"] == head["pid"] != os.getpgid(0)


PARENT = """
import os, sys, time
from pathlib import Path
from peerwatt.runs import sink_process
from peerwatt.runs.sinks import QueuedSink
from tracked_sinks import Recording
if __name__ == "__main__":
    sink_process.GRACE = 0.5
    sink = QueuedSink("", Recording(Path(sys.argv[1]), hangs=sys.argv[2]))
    sink.start({})
    sink.log({})
    time.sleep(3600)
"""


@pytest.mark.parametrize("hangs", ["log", "finish"])
def test_nothing_is_left_of_a_run_that_was_killed(hangs, file):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", PARENT, str(file), hangs]
    with subprocess.Popen(command, env=environment) as parent:
        while "log" not in names(file):
            time.sleep(0.02)
        parent.send_signal(signal.SIGKILL)
    ended(events(file)[0][1]["pid"])
    assert names(file) == ["start", "log", "finish"][: 2 if hangs == "log" else 3]
    assert hangs == "log" or events(file)[-1][1] is None


def test_the_process_of_a_sink_imports_little():
    code = f"import runpy, sys; runpy.run_path({sink_process.__file__!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "numba", "torch", "peerwatt.runs"} & set(done.stdout.split())


LOCKED = """
from dataclasses import dataclass
from peerwatt.plugins import SinkSpec, hookimpl

@hookimpl
def peerwatt_sinks():
    return [SinkSpec(name="locked", factory="locked_sink:Locked", summary="x")]

@dataclass
class Locked:
    def __post_init__(self):
        raise OSError("no key")
"""


def test_a_sink_that_cannot_be_made_ends_the_command_before_anything_runs(tmp_path, monkeypatch):
    file = tmp_path / "locked_sink.py"
    file.write_text(LOCKED)
    monkeypatch.setenv(FILES, str(file))
    registry.cache_clear()
    try:
        with pytest.raises(PeerWattError, match=r"sink 'locked' .*OSError: no key"):
            resolve(RunConfig(task="pilot-v1", algorithm="zi-c", sink="locked"))
    finally:
        registry.cache_clear()
        sys.modules.pop("locked_sink", None)


def test_no_sink_at_all():
    sink = QueuedSink("", None)
    sink.start({})
    sink.log({})
    sink.finish(None)
    assert sink.notes == []
