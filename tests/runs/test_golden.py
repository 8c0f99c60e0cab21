"""Golden files: exact where they can be, and telling in words what changed."""

import json

import pytest

from peerwatt.cli.main import dispatch
from peerwatt.errors import PeerWattError
from peerwatt.runs.regression import golden
from peerwatt.runs.regression.golden import compare_golden, make_golden, read_golden, write_golden


@pytest.fixture(scope="module")
def made():
    return make_golden()


def test_the_same_code_does_the_same(made, tmp_path):
    path = write_golden(made, tmp_path)
    assert compare_golden(read_golden(path), make_golden()) == []
    assert [file.name for file in tmp_path.iterdir()] == ["golden.json"]


def test_every_plugin_of_peerwatt_that_is_deterministic_has_a_case(made):
    assert {"cda", "call", "vcg"} <= made.clearing.keys()
    assert {"pilot-v1", "fontana-v1"} == made.settlement.keys()
    assert "zi-c on fontana-v1" in made.metrics and "ippo on pilot-v1" not in made.metrics
    assert len({digest for case in made.clearing.values() for digest in case.values()}) > 20


def test_a_changed_rule_is_caught_and_named(made, monkeypatch):
    """The call auction prices at the other end of the interval."""
    real = golden.load_mechanism
    monkeypatch.setattr(
        golden,
        "load_mechanism",
        lambda name: real(name, {"theta": 0.6} if name.endswith(":call") else {}),
    )
    changed = made.model_copy(update={"clearing": {**made.clearing}})
    changed.clearing["call"] = dict(golden._clearing("call"))
    [change] = compare_golden(made, changed)
    assert (change.layer, change.case) == ("clearing", "call")
    assert "the mechanism call clears" in change.text and "its rule has changed" in change.text


def test_settlement_and_metrics_are_told_in_words(made):
    content = json.loads(made.model_dump_json())
    content["settlement"]["pilot-v1"]["payment"] = "0" * 64
    content["metrics"]["zi-c on pilot-v1"]["welfare"] += 1e-3
    content["metrics"]["zi-c on pilot-v1"]["ftg"] += 1e-14  # rounding
    del content["clearing"]["vcg"]
    changes = compare_golden(made, golden.Golden.model_validate(content))
    assert [change.layer for change in changes] == ["clearing", "settlement", "metrics"]
    assert "vcg is there no more" in changes[0].text
    assert "pilot-v1 records otherwise payment (what is paid for it)" in changes[1].text
    assert "welfare was 0.7" in changes[2].text and "ftg" not in changes[2].text


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


def test_another_version_does_not_compare(made, tmp_path):
    path = write_golden(made.model_copy(update={"golden_version": 99}), tmp_path)
    with pytest.raises(PeerWattError, match="golden_version: 99"):
        read_golden(path)


def test_command_writes_and_checks(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("peerwatt.cli.golden.make_golden", lambda: made)
    dispatch(["golden", str(tmp_path)])
    dispatch(["golden", str(tmp_path), "--check"])
    assert "values are the same" in capsys.readouterr().out
    content = json.loads((tmp_path / "golden.json").read_text())
    content["settlement"]["pilot-v1"]["cost"] = "0" * 64
    (tmp_path / "golden.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as stopped:
        dispatch(["golden", str(tmp_path), "--check"])
    assert stopped.value.code == 1
    assert "cost (the cost of a slot" in capsys.readouterr().out
