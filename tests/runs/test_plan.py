"""Plans: written once, read strictly, and what they are estimated to take."""

import dataclasses
import json
import sys

import pytest

from peerwatt.cli.main import main
from peerwatt.errors import PeerWattError
from peerwatt.fairness import Shaping
from peerwatt.fairness.session import Forecast
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.estimate import ASSUMED_REST, ASSUMED_SPEED, START_SECONDS, estimate
from peerwatt.runs.execute import execute
from peerwatt.runs.plan import PLANS, Plan, read_plans

CONFIGS = (
    *(RunConfig("pilot-v1", "zi-c", seed=seed) for seed in range(3)),
    RunConfig(
        "pilot-v1",
        "ippo",
        critic="random",
        mechanism="call",
        seed=2,
        budget=1000,
        algorithm_options=(("hidden", (8, 8)), ("learning_rate", 0.03)),
        sink="csv",
        shaping=Shaping(ftg=0.5, role_aware=False),
        validations=3,
    ),
)


def test_a_plan_is_read_as_it_was_written_and_written_once(tmp_path):
    file = Plan("my/suite.toml", CONFIGS).save(tmp_path)
    assert file.parent == tmp_path / PLANS and file.name.startswith("suite-")
    before = file.stat().st_mtime_ns
    assert Plan("my/suite.toml", CONFIGS).save(tmp_path) == file
    assert file.stat().st_mtime_ns == before
    (plan,) = read_plans(tmp_path)
    assert plan.configs == CONFIGS and plan.name == "my/suite.toml"
    Plan("other", CONFIGS[:1]).save(tmp_path)
    assert len(read_plans(tmp_path)) == 2
    assert len(list((tmp_path / PLANS).iterdir())) == 2, "no drafts are left"


def test_a_card_is_planned_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Plan("x", (RunConfig("card.toml", "zi-c"),)).save(tmp_path)
    assert read_plans(tmp_path)[0].configs[0].task == str(tmp_path / "card.toml")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda plan: plan.update(more=1), "more: Extra inputs are not permitted"),
        (lambda plan: plan.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda plan: plan["entries"][0].update(seeds=[]), "entries.0.seeds"),
        (lambda plan: plan["entries"][0].update(seeds=[-1]), "entries.0.seeds.0"),
        (lambda plan: plan["entries"][0].update(budget="2M"), "entries.0.budget"),
        (lambda plan: plan["entries"][0].update(critic_options={"x": {"a": 1}}), "critic_options"),
        (lambda plan: plan["entries"][0]["shaping"].update(ftx=1.0), "shaping: "),
        (lambda plan: plan["entries"][0]["shaping"].update(ftg=-1.0), "shaping: "),
        (lambda plan: plan.clear(), "Field required"),
    ],
)
def test_a_plan_that_nobody_wrote_is_refused(tmp_path, change, sentence):
    file = Plan("x", CONFIGS).save(tmp_path)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(PeerWattError, match=r"\.json: .*remove it") as caught:
        read_plans(tmp_path)
    assert sentence in str(caught.value)


def test_no_json_is_refused_too(tmp_path):
    Plan("x", CONFIGS).save(tmp_path).write_bytes(b"\x80\x04pickle")
    with pytest.raises(PeerWattError, match="remove it"):
        read_plans(tmp_path)
    assert read_plans_of_nothing(tmp_path / "empty") == []


def read_plans_of_nothing(folder):
    folder.mkdir()
    return read_plans(folder)


def test_a_folder_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / PLANS).touch()
    with pytest.raises(PeerWattError, match=r"cannot write the plan .*--results"):
        Plan("x", CONFIGS).save(tmp_path)


def test_time_is_assumed_until_it_is_measured(tmp_path):
    learner = resolve(RunConfig("pilot-v1", "ippo", budget=6_000_000))
    scripted = resolve(RunConfig("pilot-v1", "zi-c"))
    outlook = estimate([learner, scripted], [0, 0], tmp_path, 2)
    assert outlook.seconds == START_SECONDS + ASSUMED_REST + 6_000_000 / ASSUMED_SPEED
    assert (outlook.measured, outlook.assumed) == (0, 2)
    half = estimate([learner], [3_000_000], tmp_path, 1)
    assert half.seconds == START_SECONDS + ASSUMED_REST + 3_000_000 / ASSUMED_SPEED
    execute(scripted, tmp_path)
    again = resolve(RunConfig("pilot-v1", "zi-c", seed=1))
    measured = estimate([again] * 3, [0] * 3, tmp_path, 2)
    assert measured.measured == 1 and measured.seconds < START_SECONDS + 2 * ASSUMED_REST
    assert estimate([], [], tmp_path, 2).seconds == 0.0


def test_critics_foretell_what_the_seeds_of_an_entry_cost(tmp_path):
    class Dear:
        def forecast(self, slots):
            asked.append(slots)
            return Forecast(calls=min(slots, 100), prompt_tokens=5 * slots, dollars=None)

    asked = []
    config = RunConfig("pilot-v1", "ippo", critic="rule", budget=100_000)
    runs = [resolve(dataclasses.replace(config, seed=seed)) for seed in (0, 1)]
    for run in runs:
        object.__setattr__(run, "critic", Dear())
    outlook = estimate(runs, [0, 0], tmp_path, 1)
    homes = runs[0].task.community.size
    assert asked == [2 * int(100_000 // homes * 0.9)], "seeds share what may be spent"
    assert outlook.forecast.calls == 100 and outlook.forecast.dollars is None


def test_a_dry_run_shows_the_plan_and_touches_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [
        "peerwatt",
        "run",
        "--suite",
        "quick",
        "--seeds",
        "2",
        "--workers",
        "2",
        "--dry-run",
        "--results",
        "there",
    ]
    monkeypatch.setattr(sys, "argv", words)
    main()
    out = capsys.readouterr().out
    assert "24 runs: 24 new; about" in out and f"{ASSUMED_SPEED:,} agent-steps a second" in out
    assert "fontana-v1 ippo + rule" in out
    monkeypatch.setattr("peerwatt.cli.planning.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", [*words, "--executor", "ray"])
    with pytest.raises(SystemExit):
        main()
    assert "needs Ray: pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
