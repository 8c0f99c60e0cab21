"""`peerwatt sync` tells finished runs to a sink, each of them once."""

import json

import pytest
from finished_runs import finished_run
from tracked_sinks import Recording, events

from peerwatt.cli.sync import run as sync
from peerwatt.errors import PeerWattError
from peerwatt.plugins import SinkSpec
from peerwatt.plugins.loader import registry
from peerwatt.plugins.records import Registered
from peerwatt.runs.store import read_result


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Register `Recording`, and return the file that it writes by default."""
    spec = SinkSpec(name="recording", factory="tracked_sinks:Recording", summary="x")
    monkeypatch.setitem(registry()["sink"], "recording", Registered(spec, "tests", "1"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "events.jsonl"


def test_runs_are_told_once_as_they_would_have_been_live(recorded, tmp_path, capsys):
    live = tmp_path / "live.jsonl"
    runs = [finished_run(tmp_path, seed) for seed in range(2)]
    sync(["results", "--track", "recording"])
    assert "2 told to recording, 0 told earlier, 0 failed." in capsys.readouterr().out
    told = events(recorded)
    assert [name for name, _ in told] == ["start", "log", "log", "finish"] * 2
    for run, (start, *_, finish) in zip(runs, (told[:4], told[4:]), strict=True):
        record = json.loads((run / "result.json").read_text())
        assert finish[1] == record
        assert start[1]["folder"] == start[1]["files"] == str(run)
        assert start[1]["config_hash"] == record["config_hash"]

    (tmp_path / "tracked").mkdir()
    finished_run(tmp_path / "tracked", sink=Recording(live), sink_name="recording")
    first = [{**row, "seconds": 0} for name, row in told[:4] if name == "log"]
    assert [{**row, "seconds": 0} for name, row in events(live) if name == "log"] == first

    sync(["results", "--track", "recording"])
    assert "0 told to recording, 2 told earlier, 0 failed." in capsys.readouterr().out
    assert events(recorded) == told
    sync(["results", "--track", "recording", "--again"])
    assert len(events(recorded)) == 2 * len(told)
    sync(["results", "--track", "recording", "--track.file", "other.jsonl"])
    assert len(events(tmp_path / "other.jsonl")) == len(told)


def test_what_was_told_live_is_not_told_again(recorded, tmp_path, capsys):
    finished_run(tmp_path, sink=Recording(), sink_name="recording")
    assert len(events(recorded)) == 4
    sync(["results", "--track", "recording"])
    assert "0 told to recording, 1 told earlier, 0 failed." in capsys.readouterr().out
    assert len(events(recorded)) == 4


def test_what_failed_live_is_told_later(recorded, tmp_path, capsys):
    run = finished_run(tmp_path, sink=Recording(raises="log"), sink_name="x")
    assert read_result(run).notes
    sync(["results", "--track", "recording"])
    assert "1 told to recording" in capsys.readouterr().out


def test_what_cannot_be_told_is_told_of_and_stays_to_be_done(recorded, tmp_path, capsys):
    run = finished_run(tmp_path)
    options = ("--track", "recording", "--track.raises", "log")
    with pytest.raises(SystemExit) as caught:
        sync(["results", *options])
    assert caught.value.code == 1
    out = capsys.readouterr().out
    assert "failed   " in out and "sink 'recording' failed in log" in out
    (run / "result.json").write_text("{}")
    with pytest.raises(SystemExit):
        sync(["results", "--track", "recording"])
    assert "left out " in capsys.readouterr().out


def test_unfinished_runs_are_none(recorded, tmp_path):
    run = finished_run(tmp_path)
    run.rename(run.with_name(".seed-000.work"))
    with pytest.raises(PeerWattError, match="results holds no finished runs"):
        sync(["results", "--track", "recording"])
    with pytest.raises(PeerWattError, match="nowhere is no folder"):
        sync(["nowhere", "--track", "recording"])
    with pytest.raises(PeerWattError, match="unknown sink 'wandbb': did you mean 'wandb'"):
        sync(["results", "--track", "wandbb"])


def test_a_folder_of_results_that_cannot_be_written_is_told_from(recorded, tmp_path, capsys):
    finished_run(tmp_path)
    (tmp_path / "results" / ".synced").write_text("in the way")
    sync(["results", "--track", "recording"])
    assert "1 told to recording, 0 told earlier, 0 failed." in capsys.readouterr().out
