"""`peerwatt critics bench` on the command line."""

import json

import pytest

from peerwatt.cli.main import dispatch
from peerwatt.criticbench.record import FOLDER, read_critic_record
from peerwatt.errors import PeerWattError
from peerwatt.runs.config import resolve
from peerwatt.runs.execute import execute, finished
from peerwatt.runs.runner import Finished


def records_in(results):
    return [read_critic_record(file) for file in sorted((results / FOLDER).glob("*.json"))]


SMALL = ["critics", "bench", "--suite", "small-v1", "--repeats", "2"]


def test_tables_and_records(tmp_path, capsys):
    results = ["--results", str(tmp_path)]
    dispatch([*SMALL, "--critic", "rule", "--critic", "none", "--critic", "rule", *results])
    told = capsys.readouterr()
    for head in ("Validity · small-v1", "Trust · small-v1", "Cost · small-v1"):
        assert head in told.out
    assert "0.000 [0.000, 0.000]" in told.out and "where" in told.out
    records = records_in(tmp_path)
    assert [record.critic.name for record in records] == ["none", "rule"]
    assert records[1].command == (
        "peerwatt critics bench --critic rule --suite small-v1 --repeats 2"
    )
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "critics").glob("*.json")}
    dispatch([*SMALL, "--critic", "none", "--critic", "rule", *results])
    assert "2 of 2 critics have a record already" in capsys.readouterr().err
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "critics").glob("*.json")}
    assert before == after


def test_one_that_fails_stops_no_other(tmp_path, capsys):
    plugin = tmp_path / "moody.py"
    plugin.write_text(
        """
from dataclasses import dataclass
from peerwatt.fairness import FairnessScores
from peerwatt.plugins.specs import CriticSpec, hookimpl

@dataclass(frozen=True)
class Moody:
    path: str = ""
    def score(self, slots):
        return FairnessScores(*[slots.volume + 2] * 4)

@hookimpl
def peerwatt_critics():
    return [CriticSpec(name="moody", factory="moody:Moody", summary="x")]
"""
    )
    with pytest.raises(SystemExit) as error:
        dispatch(
            [
                *("--plugin", str(plugin), *SMALL, "--critic", f"moody:path={plugin}"),
                *("--critic", "rule", "--results", str(tmp_path / "runs")),
            ]
        )
    assert error.value.code == 2
    told = capsys.readouterr()
    assert "moody:path=moody.py: the critic returns the score" in told.err
    assert "record: " in told.out and "Traceback" not in told.err
    assert [r.critic.name for r in records_in(tmp_path / "runs")] == ["rule"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no critic is named"),
        (["--critic", "rul"], "did you mean 'rule'"),
        (["--critic", "rule:"], "write NAME or NAME:option=value"),
        (["--critic", "rule", "--suite", "big"], "unknown suite of critics 'big'"),
        (["--critic", "rule", "--repeats", "99"], r"must lie in 1\.\.50"),
        (["--critic", "rule", "--budget", "much"], "much"),
        (["--critic", "rule", "--seeds", "0"], "seeds"),
        (["--critic", "rule", "--influence", "pilot-v1", "--algorithm", "zi-c"], "does not learn"),
        (["--critic", "distilled:teacher=rule"], "until it has learned .* name a task with --infl"),
        (["--critic", "rule", "--critic", "replay"], "replay answers only what"),
        (["--critic", "rule", "--influence", "pilot-v9"], "unknown task 'pilot-v9'"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, arguments, sentence):
    with pytest.raises(PeerWattError, match=sentence):
        dispatch(["critics", "bench", *arguments, "--results", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()


def test_the_family_is_told(capsys):
    dispatch(["critics"])
    assert "critics bench" in capsys.readouterr().out


def test_influence(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch")

    def run_here(configs, results, **_):
        for run in map(resolve, dict.fromkeys(configs)):
            if not finished(run, results):
                execute(run, results)
        return Finished([], {})

    monkeypatch.setattr("peerwatt.criticbench.influence.run_all", run_here)
    training = ["--influence", "pilot-v1", "--seeds", "1", "--budget", "20k"]
    results = ["--results", str(tmp_path)]
    dispatch([*SMALL, "--critic", "rule", *results])
    dispatch([*SMALL, "--critic", "rule", "--critic", "distilled", *training, *results])
    told = capsys.readouterr()
    _, _, after = told.out.partition("Influence")
    assert "distilled" in after and "distilled" not in told.out.removesuffix(after)
    assert "Influence · ippo on pilot-v1" in told.out
    (record,) = records_in(tmp_path)
    (found,) = record.influence
    assert (found.task, found.algorithm, found.budget) == ("pilot-v1", "ippo", 20_000)
    assert found.critic == found.rule
    assert found.against_rule["welfare"].estimate == 0.0
    one = found.none.values["welfare"][0]
    assert found.none.iqm["welfare"].estimate == one
    assert found.against_none["welfare"].estimate == pytest.approx(
        found.critic.values["welfare"][0] - one
    )
    assert found.none.iqm["welfare"].low is None  # fewer than five seeds
    results_ = list((tmp_path / "pilot-v1").rglob("result.json"))
    assert len(results_) == 3
    stamps = [file.stat().st_mtime_ns for file in results_]
    dispatch([*SMALL, "--critic", "rule", *training, *results])
    assert [file.stat().st_mtime_ns for file in results_] == stamps
    assert (
        len(json.loads(next((tmp_path / "critics").glob("*.json")).read_text())["influence"]) == 1
    )
