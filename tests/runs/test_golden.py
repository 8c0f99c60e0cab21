"""Golden files: exact where they can be, and telling in words what changed."""

import json

import numpy as np
import pytest
from regress_results import learner

from peerwatt.cli.main import dispatch
from peerwatt.env import OBSERVATION_NAMES, VectorMarket
from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import load_mechanism
from peerwatt.runs import summary
from peerwatt.runs.regression import cases, golden
from peerwatt.runs.regression.compare import compare
from peerwatt.runs.regression.golden import (
    compare_golden,
    make_golden,
    read_golden,
    unmatched,
    write_golden,
)
from peerwatt.runs.regression.learners import Settings


@pytest.fixture(scope="module")
def made():
    return make_golden()


def with_changes(made, **layers):
    """Return the golden file with other parts: layer -> case -> parts; None takes the case out."""
    content = json.loads(made.model_dump_json())
    for layer, changed in layers.items():
        for case, parts in changed.items():
            if parts is None:
                del content[layer][case]
            else:
                content[layer].setdefault(case, {}).update(parts)
    return golden.Golden.model_validate(content)


def test_the_same_code_does_the_same(made, tmp_path):
    path = write_golden(made, tmp_path)
    assert compare_golden(read_golden(path), make_golden()) == []
    assert unmatched(read_golden(path), made) == []
    assert [file.name for file in tmp_path.iterdir()] == ["golden.json"]


def test_every_plugin_of_peerwatt_that_is_deterministic_has_a_case(made):
    assert {"cda", "call", "call with theta = 0.25", "vcg"} <= made.clearing.keys()
    assert {"pilot-v1", "fontana-v1"} == made.settlement.keys() == made.play.keys()
    assert "zi-c on fontana-v1" in made.metrics and "ippo on pilot-v1" not in made.metrics
    assert len({digest for case in made.clearing.values() for digest in case.values()}) > 20
    taking = {name for name in cases.own("mechanism") if vars(load_mechanism(name))}
    assert taking == cases.OPTIONS.keys()


def test_a_changed_rule_is_caught_and_named(made, monkeypatch):
    """The call auction prices at the other end of the interval."""
    real = cases.load_mechanism
    monkeypatch.setattr(cases, "load_mechanism", lambda name, _: real(name, {"theta": 0.6}))
    changed = with_changes(made, clearing={"call": dict(cases._clearing("call", {}))})
    [change] = compare_golden(made, changed)
    assert (change.layer, change.case) == ("clearing", "call")
    assert "the mechanism call clears" in change.text and "its rule has changed" in change.text


def double_reward(step):
    return step._replace(reward=2 * step.reward)


def double_pv(step):
    observation = step.observation.copy()
    observation[..., OBSERVATION_NAMES.index("pv")] *= 2
    return step._replace(observation=observation)


def shifted_ends(step):
    return step._replace(truncated=np.ones_like(step.truncated))


@pytest.mark.parametrize(
    ("change", "layer", "told"),
    [
        (double_reward, "play", " reward was -"),
        (double_pv, "play", " observation pv was 0."),
        (shifted_ends, "settlement", "truncated (when episodes end)"),
    ],
)
def test_what_agents_meet_is_held(made, monkeypatch, change, layer, told):
    """No mechanism, record or metric shows these."""
    real = VectorMarket.step
    monkeypatch.setattr(VectorMarket, "step", lambda self, actions: change(real(self, actions)))
    digests, means = cases.random_play("pilot-v1")
    changed = with_changes(made, settlement={"pilot-v1": digests}, play={"pilot-v1": means})
    changes = compare_golden(made, changed)
    assert layer in {change.layer for change in changes}
    assert any(told in change.text for change in changes)


@pytest.mark.parametrize(
    ("function", "other", "told"),
    [
        ("worst_off", max, "worst_off was"),
        ("entry_score", lambda metrics, name: float(np.mean(metrics[name])), "ftg was"),
        ("welfare", lambda *costs: 0.5, "welfare was 0.739009030878 and is 0.5"),
    ],
)
def test_what_tables_show_is_held(made, monkeypatch, function, other, told):
    """Both sides of `regress` count these with the same code, the one that is installed."""
    monkeypatch.setattr(summary, function, other)
    metrics, scores = cases.scripted("pilot-v1", "zi-c")
    name = "zi-c on pilot-v1"
    [change] = compare_golden(
        made, with_changes(made, metrics={name: metrics}, scores={name: scores})
    )
    assert change.layer == "scores" and told in change.text


def test_changes_are_told_in_words(made):
    cost = made.metrics["zi-c on pilot-v1"]["cost"]
    changed = with_changes(
        made,
        clearing={"vcg": None},
        settlement={"pilot-v1": {"payment": "0" * 64}},
        metrics={"zi-c on pilot-v1": {"cost": cost + 1e-3, "ftg": 1e-14 + made.metrics[
            "zi-c on pilot-v1"]["ftg"]}},  # rounding
    )  # fmt: skip
    gone, settled, counted = compare_golden(made, changed)
    assert "vcg is there no more" in gone.text
    assert "pilot-v1 records otherwise payment (what is paid for it)" in settled.text
    assert "cost was 1390.5" in counted.text and "ftg" not in counted.text


def test_what_is_added_is_told_and_no_difference(made):
    """A pull request that adds a mechanism, a metric or a record is none the worse for it."""
    added = with_changes(
        made,
        clearing={"auction": {"2 households, 3 price levels": "0" * 64}},
        settlement={"pilot-v1": {"heat": "0" * 64}},
        metrics={"zi-c on pilot-v1": {"carbon": 1.0}},
    )
    assert compare_golden(made, added) == []
    [told] = unmatched(made, added)
    assert "3 values are in the later golden file only" in told and "clearing of auction" in told
    lost = [change.text for change in compare_golden(added, made)]
    assert "clearing: auction is there no more." in lost
    assert "metrics: of zi-c on pilot-v1 carbon was 1 and is undefined." in lost


def test_of_other_versions_what_both_have_compares(made, tmp_path):
    """BASE writes its file with its own code, of whatever version."""
    content = {**json.loads(made.model_dump_json()), "golden_version": 1, "smell": {}}
    for layer in ("play", "scores"):
        del content[layer]
    content["clearing"]["auction"] = {"2 households, 3 price levels": "0" * 64}
    (tmp_path / "golden.json").write_text(json.dumps(content))
    old = read_golden(tmp_path / "golden.json")
    assert compare_golden(old, made) == []
    assert "of the versions 1 and 2, so that only what both have" in unmatched(old, made)[0]
    changed = with_changes(made, settlement={"pilot-v1": {"cost": "0" * 64}})
    assert [change.layer for change in compare_golden(old, changed)] == ["settlement"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "write it again with `peerwatt golden"),
        ('{"golden_version": 1}', "peerwatt: Field required"),
    ],
)
def test_malformed_files(tmp_path, text, sentence):
    path = tmp_path / "golden.json"
    path.write_text(text)
    with pytest.raises(PeerWattError, match=sentence):
        read_golden(path)


def test_command_writes_and_checks(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("peerwatt.cli.golden.make_golden", lambda: made)
    dispatch(["golden", str(tmp_path)])
    dispatch(["golden", str(tmp_path), "--check"])
    assert "values are the same" in capsys.readouterr().out
    for changed, told in (
        (with_changes(made, settlement={"pilot-v1": {"cost": "0" * 64}}), "cost (the cost of a"),
        (with_changes(made, clearing={"vcg": None}), "in the later golden file only"),
        (made.model_copy(update={"golden_version": 1}), "of the versions 1 and 2"),
    ):
        write_golden(changed, tmp_path)
        with pytest.raises(SystemExit) as stopped:
            dispatch(["golden", str(tmp_path), "--check"])
        assert stopped.value.code == 1
        assert told in capsys.readouterr().out


def test_regress_warns_of_what_is_added(made, tmp_path):
    """The file of BASE is written by its own code, which knows neither case nor record."""
    for side in ("base", "new"):
        learner(tmp_path / side, [0.9], policy="ab" * 32)
    lost = with_changes(made, clearing={"vcg": None}, play={"pilot-v1": None})
    write_golden(lost, tmp_path / "base")
    write_golden(made, tmp_path / "new")
    report = compare(tmp_path / "base", tmp_path / "new", Settings())
    assert report.outcome == "no worse"
    assert any("clearing of vcg; play of pilot-v1" in warning for warning in report.warnings)
    back = compare(tmp_path / "new", tmp_path / "base", Settings())
    assert back.outcome == "regression" and "vcg is there no more" in back.reason
