"""`peerwatt regress` on made-up results: pairing, layers, outcomes, outputs, looks."""

import dataclasses
import json
import shutil
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from regress_results import entry, fail, learner

from peerwatt.cli.main import dispatch
from peerwatt.cli.options import parse, run_config
from peerwatt.cli.run import RunOptions
from peerwatt.errors import PeerWattError
from peerwatt.fairness import Shaping
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.regression import adding
from peerwatt.runs.regression import compare as comparing
from peerwatt.runs.regression.adding import add_to_base
from peerwatt.runs.regression.again import check_addable, command_for, config_of, words_of
from peerwatt.runs.regression.compare import compare, compare_until_decided
from peerwatt.runs.regression.failures import by_the_code
from peerwatt.runs.regression.learners import Settings
from peerwatt.runs.regression.looks import Looks, plan_looks
from peerwatt.runs.regression.outputs import to_json
from peerwatt.runs.regression.pairing import pair
from peerwatt.runs.result import PluginRecord, RunResult, TaskRecord

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
    assert "more seeds would tell: --until-decided adds them" in report.reason
    assert "fewer than 5 not even a clear drop" in report.reason


def test_bit_for_bit_is_no_worse_with_any_number_of_seeds(folders):
    for folder in folders:
        learner(folder, [0.9, 0.91], policy="ab" * 32)
    report = compare(*folders, Settings())
    assert report.outcome == "no worse" and "bit for bit" in report.reason
    assert not (folders[1] / ".regress").exists()  # there was nothing to look at


def test_scripted_traders_are_compared_exactly(folders):
    base, new = folders
    entry(base, "zi-c", [0.7, 0.71], budget=0)
    entry(new, "zi-c", [0.7, 0.71], budget=0)
    report = compare(base, new, Settings())
    assert (report.outcome, report.reason) == ("no worse", "Scripted traders play the same.")
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
    learner(new, 0.5 + NOISE[:10])
    learner(new, 0.9 + NOISE[:10], options={"learning_rate": 0.03})
    assert compare(base, new, Settings()).outcome == "regression"  # the two have changed places


def test_another_version_or_option_still_pairs_if_there_is_just_one(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.5 + OTHER[:10], options={"learning_rate": 0.03}, version="0.2.0")
    report = compare(base, new, Settings())
    assert report.outcome == "regression"
    golden, warning = report.warnings
    assert "BASE has no golden.json" in golden.replace(str(base), "BASE")
    assert "algorithm learning_rate is the default in BASE and 0.03 in NEW" in warning
    # Another budget, too, but then nothing compares.
    entry(base, "dqn", [0.9] * 5)
    entry(new, "dqn", [0.8] * 5, budget=2_000_000)
    [budget] = findings(compare(base, new, Settings()), "runs")
    assert budget.outcome == "undecided" and "2,000,000 in NEW" in budget.text


def test_of_more_entries_in_base_none_is_paired_by_chance(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(base, 0.5 + NOISE[:10], options={"learning_rate": 0.03})
    learner(new, 0.9 + OTHER[:10], options={"learning_rate": 0.01})
    report = compare(base, new, Settings())
    assert report.outcome == "undecided"
    assert "which is meant cannot be told" in report.reason


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
    # Eight seeds would suffice, but the two that are not there may be the bad ones.
    report = compare(base, new, Settings())
    assert report.outcome == "undecided" and "NEW lacks seeds 8, 9 of BASE" in report.reason
    assert "--first-seed 0" in report.reason
    fail(new, 8, "TimeoutError: worker 3 did not answer")
    report = compare(base, new, Settings())
    assert report.outcome == "undecided" and "(seed 8: TimeoutError: worker 3" in report.reason
    fail(new, 9, "ValueError: worker count must divide 5\nTraceback")
    report = compare(base, new, Settings())
    assert report.outcome == "regression"
    assert "seed 9 fails in NEW, not in BASE: ValueError: worker count must" in report.reason


@pytest.mark.parametrize("first", [3, 100])
def test_runs_that_are_left_out_are_told(folders, first):
    """Seeds that overlap in part, and fewer runs of NEW paired in order."""
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:7] if first == 100 else 0.9 + OTHER[:10], first=first)
    report = compare(base, new, Settings())
    assert report.outcome == "undecided"
    missing = "lacks 3 runs" if first == 100 else "lacks seeds 0, 1, 2"
    assert missing in report.reason
    left_out = "3 runs of NEW without a counterpart in BASE are left out"
    assert any(left_out in warning for warning in report.warnings) == (first == 3)


def test_a_metric_that_is_lost_is_a_regression(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10], metrics={"feasible_kwh": [3.0, 1.0]})
    report = compare(base, new, Settings())
    assert "FTG is undefined in every seed of NEW" in report.reason


def test_a_metric_lost_in_some_seeds_is_within_the_chance_of_a_false_alarm(folders):
    base, new = folders
    undefined = {"fpp": [0.5] * 2, "fbs": [0.5] * 2}
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + NOISE[:10])
    learner(new, [0.9 + NOISE[3]], first=3, metrics=undefined)
    report = compare(base, new, Settings())
    assert report.outcome == "no worse"
    [ftg] = [finding for finding in report.findings if finding.metric == "ftg"]
    assert ftg.decision.pairs == 10 and "in 1 seeds of NEW alone and in 0 of BASE" in ftg.text
    learner(new, 0.9 + NOISE[:9], metrics=undefined)
    assert "FTG fell" in compare(base, new, Settings()).reason


def test_a_look_in_which_a_metric_is_undefined_is_none_of_it(folders, monkeypatch, tmp_path):
    base, new = folders
    for folder, noise in ((base, NOISE), (new, OTHER)):
        learner(folder, 0.9 + noise[:4], metrics={"fpp": [0.5] * 2, "fbs": [0.5] * 2})
    grown(monkeypatch, base, new, 0.0)
    settings = Settings(margin=0.002)
    report = compare_until_decided(base, new, settings, most=16, program=tmp_path, console=None)
    [ftg] = [finding for finding in report.findings if finding.metric == "ftg"]
    assert ftg.decision.pairs == 4  # those of the seeds that were added


def test_an_entry_that_plays_the_same_leaves_no_one_more_of_the_error_rate(folders):
    base, new = folders
    drop = [0.004, 0.004, 0.004, 0.004, 0.004, 0.004, 0.004, 0.004, -0.002, -0.005]
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + NOISE[:10] - drop)
    reports = []
    for worse in (0.0, 0.001):
        entry(base, "dqn", [0.8] * 10, policy="ab" * 32)
        entry(new, "dqn", [0.8 - worse] + [0.8] * 9, policy="ab" * 32)
        reports.append(compare(base, new, Settings(margin=0.001)))
    assert "bit for bit" in reports[0].findings[0].text
    p_same, p_worse = (
        next(
            f for f in report.findings if f.subject == "pilot-v1 ippo" and f.metric == "welfare"
        ).decision.p_drop
        for report in reports
    )
    assert p_same == p_worse


def test_a_mean_beyond_the_margin_that_is_undecided_says_so(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, [*(0.9 + OTHER[:7]), 0.1, 0.1, 0.1])
    report = compare(base, new, Settings())
    assert report.outcome == "undecided" and report.exit_code == 3
    assert "the mean dropped by more than the margin" in report.reason
    content = json.loads(to_json(report))
    assert content["beyond_margin"]
    assert [f["metric"] for f in content["findings"] if f.get("beyond_margin")] == ["welfare"]


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

    def add(side, folder, shift, noise):
        def write(pairs, *_):
            for item, wanted in pairs:
                seeds = [seed for seed in wanted if seed not in item.runs(side)]
                learner(folder, [0.9 - shift + noise[seed] for seed in seeds], seeds=seeds)

        return write

    monkeypatch.setattr(comparing, "add_to_new", add("new", new, drop, OTHER))
    monkeypatch.setattr(comparing, "add_to_base", add("base", base, 0.0, NOISE))


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
    # So does one that has another entry as well, and one that has fewer seeds.
    entry(base, "dqn", 0.8 + NOISE[:10])
    entry(new, "dqn", 0.8 + OTHER[:10])
    report = compare(base, new, Settings())
    assert report.looks == (4, 8, 16, 32) and report.outcome == "no worse"
    welfare = [f.decision for f in report.findings if f.metric == "welfare"]
    assert [decision.pairs for decision in welfare] == [len(seen[-1]), 8]
    with pytest.raises(PeerWattError, match="seeds were added by a plan with"):
        compare(base, new, Settings(alpha=0.1))


def test_seeds_are_added_to_new_only_as_far_as_base_has_them(folders, monkeypatch):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:4])
    grown(monkeypatch, base, new, 0.0)
    report = compare_until_decided(base, new, Settings(), most=40, program=None, console=None)
    assert report.looks == (4, 8, 10) and report.outcome == "no worse"
    assert "the plan has not asked for seeds 8, 9 of BASE so far" in report.warnings[-1]
    fail(new, 8, "not enough memory (9 GiB): lower num_envs.")
    assert compare(base, new, Settings()).outcome == "undecided"  # a failed one is asked for


def test_seeds_that_new_has_lost_are_added_first(folders, monkeypatch):
    base, new = folders
    learner(base, 0.9 + NOISE[:20])
    learner(new, [0.9 + OTHER[seed] for seed in range(10) if seed != 3], seeds={*range(10)} - {3})
    with pytest.raises(PeerWattError, match="there are 10 seeds already"):
        compare_until_decided(base, new, Settings(), most=9, program=None, console=None)
    grown(monkeypatch, base, new, 0.0)
    report = compare_until_decided(base, new, Settings(), most=20, program=None, console=None)
    assert report.looks == (10, 20) and report.outcome == "no worse"
    [folder] = (new / "pilot-v1").iterdir()
    assert (folder / "seed-003").exists()
    # Under the plan one that is gone, whoever looked at it, leaves it undecided.
    shutil.rmtree(folder / "seed-003")
    report = compare(base, new, Settings())
    assert report.outcome == "undecided" and "NEW lacks seeds 3, " in report.reason


def recorded(**changes):
    """Return a record of pilot-v1 as the installed code makes it, with other fields."""
    run = resolve(
        RunConfig(
            "pilot-v1",
            "ippo",
            critic="ensemble",
            budget=1_000_000,
            mechanism="call",
            mechanism_options=(("theta", 0.25),),
            shaping=Shaping(ftg=2.0, role_aware=False),
            validations=3,
        )
    )
    fields = {
        "task": run.task_record,
        "mechanism": run.mechanism_record,
        "algorithm": run.algorithm_record,
        "critic": run.critic_record,
        "shaping": dataclasses.asdict(run.config.shaping),
        "seed": 4,
        "budget": run.budget,
        "validations": 3,
        "config_hash": run.config_hash,
        "command": "peerwatt run --plugin /tmp/evil.py --task /tmp/evil.toml --results /tmp",
    }
    return RunResult.model_construct(**{**fields, **changes})


def plugin(name, distribution="peerwatt", **options):
    return PluginRecord(name=name, distribution=distribution, version="1", options=options)


def test_a_record_is_made_again_by_its_checked_fields_alone(tmp_path):
    result = recorded()
    words = words_of(result, 7, 2)
    basics, parsed = parse(RunOptions, words[1:], "peerwatt run", "")
    assert (basics.first_seed, basics.seeds) == (7, 2)
    assert resolve(run_config(basics, parsed, 7)).config_hash == result.config_hash
    assert resolve(config_of(result)).config_hash == result.config_hash
    check_addable(result)
    told = command_for(result, [4, 6], tmp_path)
    assert told.startswith("`peerwatt run --task pilot-v1 --algorithm peerwatt:ippo")
    assert "--seeds 3 --first-seed 4" in told and "evil" not in told
    brief = words_of(result, 4, 3, brief=True)
    basics, parsed = parse(RunOptions, brief[1:], "peerwatt run", "")
    assert resolve(run_config(basics, parsed, 4)).config_hash == result.config_hash
    assert len(brief) < len(words) / 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": TaskRecord(name="own-v1", content_hash="a" * 64, households=2, slots=4)}, "none"),
        ({"algorithm": plugin("x", "file:x.py")}, "of a single file"),
        ({"algorithm": plugin("ippo", hidden=["64", "--plugin", "/x.py"])}, "is --plugin"),
        ({"algorithm": plugin("ippo", hidden=["64", "--plugin=/x.py"])}, "is --plugin=/x.py"),
        ({"algorithm": plugin("ippo", **{"x --plugin": 1})}, "no name of an option"),
        ({"shaping": {"ftg": "--plugin=/x.py"}}, "is --plugin=/x.py"),
    ],
)
def test_what_cannot_be_told_to_another_installation_is_added_by_hand(changes, sentence, tmp_path):
    with pytest.raises(PeerWattError, match=f"{sentence}.*add them by hand"):
        words_of(recorded(**changes), 0, 1)
    told = command_for(recorded(**changes), [0], tmp_path)
    assert told == "the command that you made the others with"


@pytest.mark.parametrize(
    "critic",
    [
        plugin("openai-http", api_base="http://127.0.0.1:1/v1"),
        plugin("ensemble", members=["rule", 'openai-http:{"model": "x"}']),
    ],
)
def test_critics_that_ask_over_the_network_are_not_set_off(critic):
    with pytest.raises(PeerWattError, match=r"asks a model that the record .* by hand"):
        check_addable(recorded(critic=critic))


def test_the_command_of_a_record_is_never_run(folders, monkeypatch, tmp_path):
    """A program that does as `peerwatt` does: what `--plugin` names is executed."""
    base, new = folders
    mark, evil, program = (tmp_path / name for name in ("mark", "evil.sh", "program"))
    evil.write_text(f"touch {mark}")
    program.write_text(
        '#!/bin/sh\necho "$@" >> "$0.told"\n'
        'while [ $# -gt 0 ]; do [ "$1" = --plugin ] && sh "$2"; shift; done; exit 0\n'
    )
    program.chmod(0o755)
    command = f"peerwatt run --plugin {evil} --task pilot-v1 --seeds 1 --first-seed 0"
    for folder in folders:
        learner(folder, 0.9 + NOISE[:4])
    for file in base.rglob("result.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"command": command}))
    [made] = pair(base, new).pairs
    with pytest.raises(PeerWattError, match="does not make the runs of NEW"):
        add_to_base([(made, [*range(8)])], base, program)  # nothing is run before NEW is checked
    monkeypatch.setattr(adding, "config_of", lambda result: None)
    with pytest.raises(PeerWattError, match="made runs of another configuration"):
        add_to_base([(made, [*range(8)])], base, program)
    told = (tmp_path / "program.told").read_text()
    assert "--seeds 4 --first-seed 4" in told and "--plugin" not in told and not mark.exists()
    learner(base, 0.9 + NOISE[:8])
    add_to_base([(made, [*range(8)])], base, program)


def test_looks_without_a_plan_are_counted(folders, monkeypatch):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10])
    once = compare(base, new, Settings())
    assert compare(base, new, Settings()) == once  # the same seeds are the same look
    learner(base, 0.9 + NOISE[:14])
    learner(new, 0.9 + OTHER[:14])
    twice = compare(base, new, Settings())
    assert any("each p-value counts 2 times" in warning for warning in twice.warnings)
    p_once, p_twice = (
        next(f for f in report.findings if f.metric == "welfare").decision.p_margin
        for report in (once, twice)
    )
    assert p_twice <= 2 * p_once
    learner(base, 0.9 + NOISE[:20])
    grown(monkeypatch, base, new, 0.0)
    report = compare_until_decided(base, new, Settings(), most=20, program=None, console=None)
    assert report.looks == (14, 20)
    assert any("each p-value counts 4 times" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("not enough memory (Unable to allocate 9 GiB): lower num_envs.", False),
        ("cannot write new/x: No space left on device; see to the disk.", False),
        ("OSError: [Errno 28] No space left on device: 'x'.", False),
        ("its worker process died 2 times, at last (killed by SIGKILL, as systems do).", False),
        ("its worker process died (killed by SIGSEGV); `peerwatt resume` goes on.", True),
        ("requests.exceptions.ConnectionError: refused.", False),
        ("ValueError: cannot write a policy of 0 workers: TimeoutError.", True),
    ],
)
def test_which_failures_are_the_machines(text, code):
    assert by_the_code(text) == code


def test_looks():
    assert plan_looks(10, 40) == (10, 20, 40) and plan_looks(10, 25) == (10, 20, 25)
    assert plan_looks(10, 10) == (10,)


def test_a_damaged_plan_is_one_sentence(folders):
    base, new = folders
    learner(base, 0.9 + NOISE[:10])
    learner(new, 0.9 + OTHER[:10])
    looks = Looks(new, Settings())
    looks.begin(10, 20)
    looks.file.write_text("{")
    with pytest.raises(PeerWattError, match="to begin a new comparison"):
        compare(base, new, Settings())
