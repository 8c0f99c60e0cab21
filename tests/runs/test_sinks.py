"""Sinks observe a run: whatever one of them does, the run is the same, and its notes tell."""

import dataclasses
import json
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import FILES, registry
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.sinks import GuardedSink
from peerwatt.runs.store import read_result
from peerwatt.testing.communities import SIZES, write_card


@dataclass
class Recording:
    """Keeps what it is told, and raises `error` in `event`."""

    event: str = ""
    error: BaseException | None = None
    told: list = field(default_factory=list)

    def tell(self, event, content):
        self.told.append((event, content))
        if event == self.event:
            raise self.error

    def start(self, run):
        self.tell("start", run)

    def log(self, row):
        self.tell("log", row)

    def finish(self, result):
        self.tell("finish", result)


@dataclass(frozen=True)
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
        return execute(resolved, tmp_path / "results")

    return do


def content(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["seconds"]
    result = read_result(folder)
    return rows, result.test, result.curve, (folder / "policy.json").read_bytes()


ERRORS = [ValueError("no\ndisk\x07"), OSError("full"), SystemExit(3), PeerWattError("bad")]


@pytest.mark.parametrize("error", ERRORS, ids=[type(error).__name__ for error in ERRORS])
@pytest.mark.parametrize("event", ["start", "log", "finish"])
def test_a_sink_that_raises_never_fails_a_run_and_is_told(run, event, error):
    plain = content(run(None))
    sink = Recording(event, error)
    folder = run(sink)
    assert content(folder) == plain
    (note,) = read_result(folder).notes
    assert note.startswith(f"sink '' failed in {event} and was left out from there: ")
    assert type(error).__name__ in note and note.isprintable()
    assert [name for name, _ in sink.told].count(event) == 1
    assert sink.told[-1][0] == event


def test_events_come_in_order_and_hold_the_record(run):
    sink = Recording()
    folder = run(sink)
    assert [name for name, _ in sink.told] == ["start", "log", "log", "finish"]
    head, first, _, result = (content for _, content in sink.told)
    assert head["folder"] == str(folder) and head["seed"] == 0
    assert first["undefined"] is None and first["agent_steps"] == 2
    written = json.loads((folder / "result.json").read_text())
    assert result == written
    assert all(result[key] == value for key, value in head.items() if key != "folder")


@pytest.mark.parametrize("event", ["", "finish"])
def test_the_end_of_a_run_that_fails_is_told(run, event):
    sink = Recording(event, OSError("full"))
    with pytest.raises(RuntimeError, match="diverged"):
        run(sink, error=RuntimeError("diverged"))
    assert [name for name, _ in sink.told] == ["start", "log", "log", "finish"]
    assert sink.told[-1][1] is None


def test_nothing_that_a_sink_does_to_its_copies_changes_the_run(run):
    class Spoiling(Recording):
        def tell(self, event, content):
            for key in list(content):
                content[key] = None

    assert content(run(Spoiling())) == content(run(None))


def test_a_sink_without_a_method_never_fails_a_run_and_is_told(run):
    class Deaf(Recording):
        log = property()

    plain = content(run(None))
    sink = Deaf()
    folder = run(sink)
    assert content(folder) == plain
    (note,) = read_result(folder).notes
    assert "failed in log and was left out from there: AttributeError" in note
    assert [name for name, _ in sink.told] == ["start"]


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
    guarded = GuardedSink("", None)
    guarded.start({})
    guarded.log({})
    guarded.finish(None)
    assert guarded.notes == []
