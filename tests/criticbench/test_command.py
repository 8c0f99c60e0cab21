"""`peerwatt critics bench` on the command line."""

import json

import pytest

from peerwatt.cli.critic_tables import _dollars, _latency, brief
from peerwatt.cli.main import dispatch, guarded
from peerwatt.criticbench.record import (
    FOLDER,
    Estimate,
    Latency,
    Operations,
    read_critic_record,
)
from peerwatt.criticbench.subject import examined
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
    assert "· 41 slots" in told.out and "flips rest on 12 slots" in told.out
    assert "rule · tracks the truth: MAE 0.000 against 0.259 of the best constant" in told.out
    assert "none · answered nothing." in told.out
    assert "docs/llm-critics.md#columns" in told.out and "30.8 of 30.8" in told.out
    for head in ("Validity · small-v1", "Trust · small-v1", "Cost · small-v1"):
        assert head in told.out
    assert "[0.000, 0.000]" in told.out and "where" in told.out
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


def test_a_label_tells_what_is_asked_and_not_how_it_is_reached():
    text = "openai-http:model=m,api_base=http://10.0.0.1:8080/v1,concurrency=1,temperature=1.0"
    label = examined(text).label
    assert label == "openai-http:model=m,prompt=households-v1,temperature=1.0"
    assert brief(label) == "openai-http: model=m, prompt=households-v1, …"


@pytest.mark.parametrize(
    ("p50", "p95", "text"),
    [(4.094, 7.86, "4.09 / 7.86 s"), (0.2, 1.5, "0.2 / 1.5 s"), (2e-5, 5e-5, "20 / 50 µs")],
)
def test_latencies_have_the_unit_that_suits_them(p50, p95, text):
    found = Latency(p50=Estimate(estimate=p50), p95=Estimate(estimate=p95), seconds=[])
    assert _latency(found) == text


def test_an_unknown_price_is_no_free_one():
    asks = Operations.model_construct(calls=3, dollars_per_1000_calls=None)
    assert _dollars(asks) == "unknown"
    assert _dollars(asks.model_copy(update={"calls": 0})) == "–"


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
    assert "no intervals: they need at least 5 seeds; worst off: per cent" in " ".join(
        after.split()
    )
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


def test_ctrl_c_tells_that_the_same_command_goes_on(capsys):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as error:
        guarded(stop)
    assert error.value.code == 130
    assert "given answers are kept, and the same command goes on" in capsys.readouterr().err
