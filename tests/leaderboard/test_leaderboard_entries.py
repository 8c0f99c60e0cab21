"""Reading results: what is accepted, what is refused, and how entries are named."""

import json
from pathlib import Path

import pytest
from leaderboard_factory import make_result, write_result

from peerwatt.cli import compare
from peerwatt.errors import PeerWattError
from peerwatt.evaluation import METRICS
from peerwatt.runs import store
from peerwatt.runs.entries import Run, boards_from, read_boards
from peerwatt.runs.labels import short_count


def labels(folder):
    (board,) = read_boards(folder)
    return sorted(entry.label for entry in board.entries)


def test_groups_the_seeds_of_an_entry_and_the_entries_of_a_task(tmp_path):
    for seed in (2, 0, 1):
        write_result(tmp_path, make_result("ippo", "rule", seed))
    write_result(tmp_path, make_result("zi-c", budget=0))
    write_result(tmp_path, make_result("zi-c", task="fontana-v1", budget=0))
    fontana, pilot = read_boards(tmp_path)
    assert (fontana.title, pilot.title) == ("fontana-v1", "pilot-v1")
    ippo, zic = pilot.entries
    assert [result.seed for result in ippo.results] == [0, 1, 2]
    assert (ippo.label, ippo.scripted) == ("ippo + rule", False)
    assert (zic.label, zic.scripted) == ("zi-c", True)


def test_contents_of_one_name_are_kept_apart(tmp_path):
    write_result(tmp_path / "a", make_result(content_hash="1" * 64))
    write_result(tmp_path / "b", make_result(content_hash="2" * 64, grid_cost=[11.0, 21.0]))
    titles = [board.title for board in read_boards(tmp_path)]
    assert titles == ["pilot-v1 (11111111)", "pilot-v1 (22222222)"]


def test_labels_tell_budgets_apart(tmp_path):
    write_result(tmp_path, make_result("ippo", budget=500_000))
    write_result(tmp_path, make_result("ippo", budget=4_000_000))
    write_result(tmp_path, make_result("zi-c", budget=0))
    assert labels(tmp_path) == ["ippo 4M", "ippo 500k", "zi-c"]


def test_mechanisms_have_a_board_each(tmp_path):
    write_result(tmp_path, make_result("ippo", mechanism="cda"))
    for theta in (0.2, 0.5):
        options = {"theta": theta}
        write_result(tmp_path, make_result("ippo", mechanism="call", mechanism_options=options))
    boards = read_boards(tmp_path)
    assert [board.title for board in boards] == [
        "pilot-v1 · call theta 0.2",
        "pilot-v1 · call theta 0.5",
        "pilot-v1 · cda",
    ]
    assert [[entry.label for entry in board.entries] for board in boards] == [["ippo"]] * 3


def test_labels_tell_distributions_and_versions_apart(tmp_path):
    write_result(tmp_path, make_result("ippo"))
    write_result(tmp_path, make_result("ippo", distribution="ada-traders"))
    write_result(tmp_path, make_result("ippo", distribution="ada-traders", version="0.2.0"))
    assert labels(tmp_path) == [
        "ippo ada-traders 0.1.0",
        "ippo ada-traders 0.2.0",
        "ippo peerwatt",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (({"gamma": 0.9}, {"gamma": 0.99}), ["gamma=0.9", "gamma=0.99"]),
        # What most have in common is not told.
        (
            ({"gamma": 0.9, "n": [8, 8]}, {"gamma": 0.5, "n": [8, 8]}, {"gamma": 0.9, "n": None}),
            ["", "gamma=0.5", "n=null"],
        ),
        (({"gamma": 0.9}, {"gamma": 0.9, "clip": ""}), ["clip=unset", 'clip=""']),
        (({"note": "a" * 21}, {"note": "b\n" * 30}), [f"note={'a' * 20}…", f"note={'b ' * 10}…"]),
        # More than fits, or cannot be told apart by it.
        (({"a" * 36: 1}, {"a" * 36: 2}), ["#", "#"]),
        (({"note": "a" * 30}, {"note": "a" * 31}), ["#", "#"]),
    ],
)
def test_labels_tell_the_options_that_differ(tmp_path, options, expected):
    results = [make_result("ippo", options=told) for told in options]
    for result in (*results, make_result("zi-c", budget=0)):
        write_result(tmp_path, result)
    told = [
        f"ippo {hint}".strip() + (result.config_hash[:6] if hint.endswith("#") else "")
        for result, hint in zip(results, expected, strict=True)
    ]
    assert labels(tmp_path) == sorted([*told, "zi-c"])


def test_compare_tells_variants_apart(tmp_path, capsys):
    folders = [
        str(write_result(tmp_path, make_result("ippo", options={"hidden": hidden})).parents[1])
        for hidden in ([8, 8], ["[bold]"])
    ]
    compare.run(folders)
    out = " ".join(capsys.readouterr().out.split())
    assert 'pilot-v1: ippo hidden=["[bold]"] (1 seeds) less ippo hidden=[8,8] (1 seeds)' in out
    compare.run([folders[0], folders[0]])
    assert "pilot-v1: ippo (1 seeds) less ippo (1 seeds)" in capsys.readouterr().out


def test_labels_stay_unique_when_the_short_hash_is_shared():
    hashes = ("a" * 64, "a" * 32 + "b" * 32)
    results = [make_result().model_copy(update={"config_hash": told}) for told in hashes]
    runs = [Run(Path("result.json"), b"", result) for result in results]
    (board,) = boards_from(runs)
    assert [entry.label for entry in board.entries] == ["ippo", "ippo (2)"]


def test_the_spelling_of_options_makes_no_board_of_its_own(tmp_path):
    for options in ({}, {"theta": 0.5}, {"theta": "0.5"}):
        write_result(tmp_path, make_result(mechanism="call", mechanism_options=options))
    (board,) = read_boards(tmp_path)
    assert len(board.entries) == 3


def test_writes_in_progress_are_left_out(tmp_path):
    write_result(tmp_path, make_result())
    partial = tmp_path / "pilot-v1" / ".seed-001.tmp"
    partial.mkdir()
    (partial / "result.json").write_text("{")
    assert labels(tmp_path) == ["ippo"]


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(PeerWattError, match=r"nowhere: no such folder"):
        read_boards(tmp_path / "nowhere")
    with pytest.raises(PeerWattError, match=r"holds no result\.json"):
        read_boards(tmp_path)


def test_text_that_is_no_json(tmp_path):
    path = write_result(tmp_path, make_result())
    path.write_text("{not json")
    with pytest.raises(PeerWattError) as error:
        read_boards(tmp_path)
    assert str(path) in str(error.value)
    assert "Invalid JSON" in str(error.value)


UNIT = ("ftg", "fbs", "fpp", "ftb", "feasible_share", "losers", "price_qoe")


def score(record, name, value):
    record["test"]["metrics"][name] = [None, value]


def cheaper(record, episode, cost):
    """Change the cost of an episode such that the savings still add up to it."""
    test = record["test"]
    test["cost"][episode] = cost
    test["metrics"]["operator_revenue"][episode] = cost
    test["savings"][episode] = [(test["grid_cost"][episode] - cost) / 2] * 2


def revenue_too(record, episode, cost):
    """Change the cost of an episode and what the grid gets, but no household's saving."""
    record["test"]["cost"][episode] = cost
    record["test"]["metrics"]["operator_revenue"][episode] = cost


def dearer(record, episode, cost, optimum):
    """Raise cost and optimum of an episode above grid-only."""
    cheaper(record, episode, cost)
    record["test"]["oracle_cost"][episode] = optimum


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda r: r.update(schema_version=1), "schema_version"),
        (lambda r: r.update(metrics_version=999), "metrics_version"),
        (lambda r: r.update(surprise=1), "surprise"),
        (lambda r: r.pop("seed"), "seed"),
        (lambda r: r.update(seed="0"), "seed"),
        (lambda r: r["test"]["cost"].append(1.0), "test.cost"),
        (lambda r: r["test"]["cost"].__setitem__(0, None), "test.cost.0"),
        (lambda r: r["test"]["metrics"]["ftg"].pop(), "test.metrics.ftg"),
        (lambda r: r["test"]["savings"][1].pop(), "test.savings.1"),
        (lambda r: r["households"].pop(), "households"),
        (lambda r: r["test"].update(episodes=0), "test.episodes"),
        (lambda r: r.update(agent_steps=1_000_001), "agent_steps"),
        (lambda r: r.update(agent_steps=-1), "agent_steps"),
        (lambda r: r["test"]["oracle_cost"].__setitem__(1, 17.1), "test.cost.1"),
        (lambda r: cheaper(r, 1, 13.999), "test.cost.1"),
        (lambda r: dearer(r, 0, 10.5, 10.2), "test.grid_cost.0"),
        (lambda r: r["test"]["cost"].__setitem__(0, 8.999), "test.metrics.operator_revenue.0"),
        (lambda r: revenue_too(r, 0, 8.999), "test.savings.0"),
        (lambda r: score(r, "operator_revenue_grid", 19.9), "test.metrics.operator_revenue_grid.1"),
        (lambda r: score(r, "market_surplus", 0.001), "test.metrics.market_surplus.1"),
        (lambda r: score(r, "market_surplus", -0.001), "test.metrics.market_surplus.1"),
        (lambda r: r["mechanism"].update(options={"theta": 1}), "mechanism.options"),
        (lambda r: r["test"]["savings"][1].__setitem__(0, -1.5), "test.savings.1"),
        (lambda r: r["test"]["grid_bills"][0].__setitem__(1, 5.001), "test.grid_bills.0"),
        (lambda r: r["test"]["metrics"].update(wealth=[1.0, 1.0]), "test.metrics.wealth"),
        *((lambda r, name=name: score(r, name, 1.001), f"test.metrics.{name}.1") for name in UNIT),
        *((lambda r, name=name: score(r, name, -0.001), f"test.metrics.{name}.1") for name in UNIT),
        (lambda r: r.update(config_hash="0" * 64), "config_hash"),
        (lambda r: r["algorithm"].update(version="0.1.1"), "config_hash"),
        (lambda r: r.update(validations=11), "config_hash"),
        (lambda r: r.update(created_utc="2025-02-30T12:00:00Z"), "created_utc"),
        (lambda r: score(r, "feasible_kwh", -1.0), "test.metrics.feasible_kwh.1"),
        (lambda r: score(r, "volume_kwh", -1.0), "test.metrics.volume_kwh.1"),
    ],
)
def test_bad_fields_are_named_with_their_file(tmp_path, change, field):
    path = write_result(tmp_path, make_result())
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(PeerWattError) as error:
        read_boards(tmp_path)
    assert str(error.value).startswith(f"{path}: {field}")
    assert "\n" not in str(error.value)


def test_what_rounding_makes_of_the_truth_is_accepted(tmp_path):
    result = make_result(
        cost=[8.0 - 2e-6, 14.0],  # a solver's optimum may be a little too high
        savings=[[1.0 + 1e-6, 1.0], [2.0, 4.0]],
        metrics={"ftg": [1.0 + 1e-12, None], "price_qoe": [-1e-16, 1.0], "mean_price": [-0.1, 9.0]},
    )
    write_result(tmp_path, result)
    assert labels(tmp_path) == ["ippo"]


def test_every_metric_of_the_harness_is_accepted_and_none_is_required(tmp_path):
    metrics = {key: [0.5, None] for key in METRICS}
    metrics |= {"operator_revenue": [9.0, 17.0], "operator_revenue_grid": [10.0, 20.0]}
    metrics |= {"market_surplus": [0.0, None], "feasible_kwh": [1.0, None]}
    write_result(tmp_path, make_result("all", metrics=metrics))
    write_result(tmp_path, make_result("none", metrics={}))
    assert labels(tmp_path) == ["all", "none"]


def test_bought_and_stored_energy_makes_no_share(tmp_path):
    metrics = {"battery_cycles": [0.0, 0.0], "self_sufficiency": [-0.2, 0.1]}
    path = write_result(tmp_path, make_result("charger", metrics=metrics))
    assert labels(tmp_path) == ["charger"]
    path.write_text(path.read_text().replace("0.0,\n    0.0", "null,\n    null"))
    with pytest.raises(PeerWattError, match=r"self_sufficiency\.0: -0\.2 is not between 0 and 1"):
        read_boards(tmp_path)


def test_the_budget_tells_scripted_traders_from_learners(tmp_path):
    write_result(tmp_path, make_result("own-env", budget=1_000_000, agent_steps=0))
    write_result(tmp_path, make_result("zi-c", budget=0))
    (board,) = read_boards(tmp_path)
    assert {entry.label: entry.scripted for entry in board.entries} == {
        "own-env": False,
        "zi-c": True,
    }


def test_infinite_numbers_are_refused(tmp_path):
    path = write_result(tmp_path, make_result())
    path.write_text(path.read_text().replace("17.0", "NaN"))
    with pytest.raises(PeerWattError, match=r"test\.cost\.1|Invalid JSON"):
        read_boards(tmp_path)


def test_large_files_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MAX_RESULT_BYTES", 100)
    path = write_result(tmp_path, make_result())
    with pytest.raises(PeerWattError, match="bytes that it may have") as error:
        read_boards(tmp_path)
    assert str(path) in str(error.value)


def test_a_seed_counts_once(tmp_path):
    write_result(tmp_path / "a", make_result())
    path = write_result(tmp_path / "b", make_result())
    with pytest.raises(PeerWattError, match="is already told by") as error:
        read_boards(tmp_path)
    assert str(path) in str(error.value)


def test_results_on_other_scenarios_do_not_compare(tmp_path):
    write_result(tmp_path, make_result("ippo"))
    path = write_result(tmp_path, make_result("zi-c", grid_cost=[10.0, 20.5]))
    with pytest.raises(PeerWattError, match="other scenarios") as error:
        read_boards(tmp_path)
    assert str(path) in str(error.value)


def test_bills_are_those_of_the_scenarios(tmp_path):
    write_result(tmp_path, make_result("ippo"))
    write_result(tmp_path, make_result("zi-c", grid_bills=[[5.0, 5.0], [11.0, 9.0]]))
    with pytest.raises(PeerWattError, match=r"test\.grid_bills: evaluated on other scenarios"):
        read_boards(tmp_path)


def test_short_count():
    counts = (0, 640, 500_000, 4_000_000, 1.5e9)
    assert [short_count(n) for n in counts] == ["0", "640", "500k", "4M", "1.5G"]


@pytest.mark.parametrize(
    ("field", "old", "new"),
    [
        ("seed", '"seed": 0', '"seed": -5'),
        ("seed", '"seed": 0', f'"seed": {10**30}'),
        ("task.name", '"name": "pilot-v1"', '"name": "../../x"'),
        ("task.slots", '"slots": 48', '"slots": -4'),
        ("created_utc", '"created_utc": "2025', '"created_utc": "yesterday 2025'),
        ("files", '"files": {}', '"files": {"../../etc/passwd": "0"}'),
        ("test.cost", '"cost": [\n   9.0', '"cost": [\n   9e300'),
        ("curve", '"agent_steps": 20', '"agent_steps": 10'),
        ("curve", '"agent_steps": 20', '"agent_steps": 2000000'),
        ("curve", '"welfare": 0.2', '"welfare": 3.0'),
        ("volume_kwh", '"volume_kwh": [\n    1.5', '"volume_kwh": [\n    3.5'),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path, field, old, new):
    path = write_result(tmp_path, make_result(curve=[(10, 0.1), (20, 0.2)]))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(PeerWattError) as caught:
        read_boards(tmp_path)
    assert str(path) in str(caught.value) and field in str(caught.value)
