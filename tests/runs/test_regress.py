"""`peerwatt regress` on made-up results: pairing, layers, outcomes, outputs, looks."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from regress_results import entry, fail, learner

from peerwatt.cli.main import dispatch
from peerwatt.errors import PeerWattError
from peerwatt.runs.regression import compare as comparing
from peerwatt.runs.regression.compare import compare, compare_until_decided
from peerwatt.runs.regression.learners import Settings
from peerwatt.runs.regression.looks import Looks, plan_looks

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.003, 40)
OTHER = RNG.normal(0, 0.003, 40)


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "base", tmp_path / "new"


def findings(report, layer):
    return [finding for finding in report.findings if finding.layer == layer]


def test_the_same_is_no_worse_and_a_drop_is_a_regression(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10])
    report = compare(base, new, Settings())
    assert report.outcome == "no worse" and report.exit_code == 0
    learner(new, 0.9 - 0.01 + OTHER[:10])
    report = compare(base, new, Settings())
    assert report.outcome == "regression" and report.exit_code == 1
    assert "Welfare fell by 0.0" in report.reason
    # Within a margin that is wide enough the same drop is none.
    assert compare(base, new, Settings(margin=0.03)).outcome == "no worse"


def test_few_seeds_are_undecided_and_say_how_many_more(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:3])
    learner(new, 0.9 + OTHER[:3])
    report = compare(base, new, Settings())
    assert report.outcome == "undecided" and report.exit_code == 3
    assert "add " in report.reason and "fewer than 7 not even" not in report.reason
    assert "fewer than 5 not even a clear drop" in report.reason


def test_bit_for_bit_is_no_worse_with_any_number_of_seeds(folders):
    for folder in folders:
        learner(folder, [0.9, 0.91], policy="ab" * 32)
    report = compare(*folders, Settings())
    assert report.outcome == "no worse" and "bit for bit" in report.reason


def test_scripted_traders_are_compared_exactly(folders):
    base, new = folders
    entry(base, "zi-c", [0.7, 0.71], budget=0)
    entry(new, "zi-c", [0.7, 0.71], budget=0)
    assert compare(base, new, Settings()).outcome == "no worse"
    entry(new, "zi-c", [0.7, 0.71 + 1e-7], budget=0)
    report = compare(base, new, Settings())
    assert report.outcome == "regression"
    assert "in 1 of 2 seeds" in report.reason and "first difference: cost" in report.reason


def test_other_seeds_are_paired_in_order(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10], first=100)
    report = compare(base, new, Settings())
    assert report.outcome == "no worse"
    assert any("paired in order" in warning for warning in report.warnings)


def test_pairs_are_told_apart_by_their_options(folders):
    base, new = folders
    for folder in folders:
        learner(folder, 0.9 + NOISE[:10])
        learner(folder, 0.5 + NOISE[:10], options={"learning_rate": 0.03})
    assert compare(base, new, Settings()).outcome == "no worse"


def test_another_version_or_option_still_pairs_if_there_is_just_one(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.5 + OTHER[:10], options={"learning_rate": 0.03}, version="0.2.0")
    assert compare(base, new, Settings()).outcome == "regression"


def test_a_changed_task_is_a_regression(folders):
    base, new = folders
    learner(base, [0.9] * 5)
    learner(new, [0.9] * 5, content_hash="4e" * 32)
    assert "needs a new version" in compare(base, new, Settings()).reason


def test_missing_runs_are_undecided_and_failed_ones_a_regression(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    entry(base, "zi-c", [0.7, 0.7], budget=0)
    learner(new, 0.9 + OTHER[:8])
    report = compare(base, new, Settings())
    assert report.outcome == "undecided" and "NEW has no such runs; add them with" in report.reason
    entry(new, "zi-c", [0.7, 0.7], budget=0)
    assert compare(base, new, Settings()).outcome == "no worse"  # 8 seeds suffice
    fail(new, 8, "MemoryError: not enough memory")
    assert compare(base, new, Settings()).outcome == "no worse"
    fail(new, 9, "Traceback\nIndexError: list index out of range")
    report = compare(base, new, Settings())
    assert report.outcome == "regression"
    assert "seed 9 fails in NEW, not in BASE: IndexError: list index out of range." in report.reason


def test_a_metric_that_is_lost_is_a_regression(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10], metrics={"feasible_kwh": [3.0, 1.0]})
    report = compare(base, new, Settings())
    assert "FTG is undefined in seed 0 of NEW" in report.reason


def test_other_metrics_are_demanded_only_if_asked_for(folders):
    base, new = folders
    learner(base, [0.9] * 10)
    learner(new, [0.899, 0.901] * 5)
    narrow = {"margins": {"worst_off": 1e-6}}
    assert compare(base, new, Settings(**narrow)).outcome == "no worse"
    assert compare(base, new, Settings(**narrow, require_all=True)).outcome == "undecided"


def test_outputs(folders, tmp_path, capsys):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.88 + OTHER[:10])
    files = [tmp_path / name for name in ("v.md", "v.xml", "v.json")]
    options = zip(("--markdown", "--junit", "--json"), map(str, files), strict=True)
    with pytest.raises(SystemExit) as stopped:
        dispatch(["regress", str(base), str(new), *(word for pair in options for word in pair)])
    assert stopped.value.code == 1
    assert "regression: pilot-v1 ippo: Welfare fell" in capsys.readouterr().out
    assert files[0].read_text().startswith("## ❌ PeerWatt: regression")
    suite = ElementTree.fromstring(files[1].read_text())[0]
    assert int(suite.get("failures")) >= 1 and suite.findall(".//failure")
    content = json.loads(files[2].read_text())
    assert content["verdict"] == "regression" and content["exit_code"] == 1
    welfare = next(item for item in content["findings"] if item["metric"] == "welfare")
    assert welfare["pairs"] == 10 and welfare["estimate"] == pytest.approx(-0.02, abs=0.005)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--metrics", "ftg"], "lacks welfare"),
        (["--metrics", "welfare,fgt"], "did you mean 'ftg'"),
        (["--margins", "ftg"], "is no metric and number"),
        (["--margins", "gini=0.1"], "is not among the --metrics"),
        (["--margin", "0"], "must be more than 0"),
        (["--alpha", "2"], "between 0 and 0.5"),
        (["--base-peerwatt", "x"], "say --until-decided"),
        (["--until-decided", "--max-seeds", "5"], "there are 10 seeds already"),
    ],
)
def test_bad_options_are_one_sentence(folders, options, sentence):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10])
    with pytest.raises(PeerWattError, match=sentence):
        dispatch(["regress", str(base), str(new), *options])


def test_nothing_in_common_and_no_folder(folders):
    base, new = folders
    with pytest.raises(PeerWattError, match="no such folder"):
        compare(base, new, Settings())
    for folder in folders:
        folder.mkdir()
    with pytest.raises(PeerWattError, match="nothing in common"):
        compare(base, new, Settings())


def grown(monkeypatch, base, new, drop):
    """Let the two that add seeds write made-up runs instead of training."""

    def add(folder, shift, noise):
        def write(pairs, *_):
            for _, seeds in pairs:
                learner(folder, [0.9 - shift + noise[seed] for seed in seeds], seeds=seeds)

        return write

    monkeypatch.setattr(comparing, "add_to_new", add(new, drop, OTHER))
    monkeypatch.setattr(comparing, "add_to_base", add(base, 0.0, NOISE))


def test_seeds_are_added_until_it_is_decided(folders, monkeypatch, tmp_path):
    base, new = folders
    learner(base, 0.9 + NOISE[:4])
    learner(new, 0.9 + OTHER[:4])
    grown(monkeypatch, base, new, 0.0)
    told = []
    report = compare_until_decided(
        base, new, Settings(), most=32, program=tmp_path, console=None, told=told.append
    )
    assert report.looks == (4, 8, 16, 32)
    assert told[0].outcome == "undecided" and report.outcome == "no worse"
    plan = json.loads(next((new / ".regress").iterdir()).read_text())
    [seen] = plan["seen"].values()
    assert [len(look) for look in seen] == [4, 8, 16, 32][: len(seen)]
    assert plan["verdicts"] == ["no worse"]
    # A call without --until-decided goes on with the plan: same level, same verdict.
    assert compare(base, new, Settings()).looks == (4, 8, 16, 32)
    with pytest.raises(PeerWattError, match="seeds were added by a plan with"):
        compare(base, new, Settings(alpha=0.1))


def test_seeds_are_added_to_new_only_as_far_as_base_has_them(folders, monkeypatch):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:4])
    grown(monkeypatch, base, new, 0.0)
    report = compare_until_decided(base, new, Settings(), most=40, program=None, console=None)
    assert report.looks == (4, 8, 10)


def test_looks():
    assert plan_looks(10, 40) == (10, 20, 40) and plan_looks(10, 25) == (10, 20, 25)
    assert plan_looks(10, 10) == (10,)


def test_a_damaged_plan_is_one_sentence(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10])
    looks = Looks(new, comparing.learning(comparing.pair(base, new)), Settings())
    looks.begin(10, 20)
    looks.file.write_text("{")
    with pytest.raises(PeerWattError, match="to begin a new comparison"):
        compare(base, new, Settings())
