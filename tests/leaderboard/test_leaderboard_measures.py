"""Numbers of the page against values worked by hand."""

import math

import pytest
from leaderboard_factory import make_result, write_result

from peerwatt.runs.entries import read_boards
from peerwatt.runs.summary import LOSERS, WELFARE, rows_of, run_values, written


def rows(folder):
    (board,) = read_boards(folder)
    return rows_of(board)


def test_values_of_one_run():
    values = run_values(make_result())
    # Grid-only 10 + 20, cost 9 + 17, optimum 8 + 14: 4 of 8 were won.
    assert values["welfare"] == pytest.approx(4 / 8)
    assert values["ftg"] == pytest.approx((0.5 * 3 + 1.0 * 1) / 4)  # weighted by feasible kWh
    assert values["fpp"] == pytest.approx((0.9 * 3 + 0.7 * 1) / 4)
    assert values["ftb"] == pytest.approx(0.4)  # undefined in the first episode
    assert values["mean_saving"] == pytest.approx(100 * 4 / 30)
    assert values["worst_off"] == pytest.approx(100 * 2 / 15)
    assert values["losers"] == 0.0
    assert values["gini"] == pytest.approx(0.0)
    assert values["operator"] == pytest.approx(100 * (26 / 30 - 1))
    assert values["feasible_share"] is None  # not recorded


def test_welfare_is_a_ratio_of_sums():
    result = make_result(cost=[10.0, 10.0], grid_cost=[10.0, 20.0], oracle_cost=[9.999, 10.0])
    assert run_values(result)["welfare"] == pytest.approx(10 / 10.001)


def test_welfare_is_undefined_without_a_possible_gain():
    result = make_result(cost=[10.0, 20.0], oracle_cost=[10.0, 20.0])
    assert run_values(result)["welfare"] is None


def test_a_loser_over_all_episodes():
    result = make_result(savings=[[2.0, -1.0], [4.0, -1.0]], grid_bills=[[5.0, 5.0], [10.0, 10.0]])
    values = run_values(result)
    assert values["losers"] == pytest.approx(50.0)
    assert values["worst_off"] == pytest.approx(100 * -2 / 15)
    assert values["gini"] == pytest.approx(8 / 8)  # difference 6 + 2 over N sum


def test_losing_in_one_episode_makes_no_loser():
    result = make_result(savings=[[2.0, -1.0], [1.0, 2.0]])
    assert run_values(result)["losers"] == 0.0


def test_a_household_that_the_grid_pays_has_no_percentage():
    result = make_result(savings=[[1.0, 0.5], [1.0, 0.5]], grid_bills=[[-3.0, 5.0], [-3.0, 5.0]])
    values = run_values(result)
    assert values["worst_off"] == pytest.approx(10.0)
    assert values["mean_saving"] == pytest.approx(75.0)


def test_missing_and_undefined_metrics():
    values = run_values(make_result(metrics={"ftg": [None, None], "fbs": [0.5, None]}))
    assert values["ftg"] is None
    assert values["fbs"] == 0.5  # unweighted where the feasible energy was not recorded
    assert values["fpp"] is None


def test_ranks_are_shared_by_what_cannot_be_told_apart(tmp_path):
    for seed in range(5):
        for algorithm, cost in (("a", 15.0), ("b", 15.0), ("c", 17.0), ("d", 19.0)):
            noise = 0.0 if algorithm == "a" else 0.1 * ((seed * 7 + ord(algorithm)) % 5 - 2)
            write_result(tmp_path, make_result(algorithm, seed=seed, cost=[9.0, cost + noise]))
    ranked = rows(tmp_path)
    assert [row.rank for row in ranked] == [1, 1, 3, 4]
    assert {row.entry.label for row in ranked[:2]} == {"a", "b"}


def test_few_seeds_have_no_rank_and_come_last(tmp_path):
    for seed in range(5):
        if seed < 4:
            write_result(tmp_path, make_result("hasty", seed=seed, cost=[8.0, 14.0]))
        write_result(tmp_path, make_result("steady", seed=seed))
    first, last = rows(tmp_path)
    assert (first.entry.label, first.rank) == ("steady", 1)
    assert (last.entry.label, last.rank) == ("hasty", None)
    assert last.interval(WELFARE).estimate == pytest.approx(1.0)
    assert math.isnan(last.interval(WELFARE).low)


def test_iqm_over_seeds(tmp_path):
    for seed, cost in enumerate([14.5, 16.0, 16.5, 17.0, 20.0]):  # the outer two are cut off
        write_result(tmp_path, make_result(seed=seed, cost=[9.0, cost]))
    (row,) = rows(tmp_path)
    interval = row.interval(WELFARE)
    assert interval.estimate == pytest.approx((5 + 4.5 + 4) / 3 / 8)
    assert interval.low < interval.estimate < interval.high


def test_a_scripted_trader_has_a_curve_of_one_point(tmp_path):
    for seed in range(5):
        write_result(tmp_path, make_result("zi-c", seed=seed, budget=0, curve=[(0, 0.3)]))
    (row,) = rows(tmp_path)
    assert row.curve.steps == (0.0,)
    assert row.curve.intervals == ((0.3, 0.3, 0.3),)


def test_curves_of_seeds_with_other_steps(tmp_path):
    write_result(tmp_path, make_result(seed=0, curve=[(0, 0.0), (100, 1.0)]))
    write_result(tmp_path, make_result(seed=1, curve=[(0, 0.2), (50, 0.2), (120, 0.9)]))
    (row,) = rows(tmp_path)
    assert row.curve.steps == (0.0, 50.0, 100.0)
    assert row.curve.intervals[1].estimate == pytest.approx((0.5 + 0.2) / 2)


def test_same_results_same_numbers(tmp_path):
    for seed, cost in enumerate([14.0, 15.0, 16.0, 17.0, 18.0]):
        write_result(tmp_path, make_result(seed=seed, cost=[9.0, cost]))
    one = rows(tmp_path)[0].interval(WELFARE)
    write_result(tmp_path, make_result("rival"))
    other = next(row for row in rows(tmp_path) if row.entry.label == "ippo").interval(WELFARE)
    assert one == other


def test_written():
    assert written(None, WELFARE) == "–"
    assert written(float("nan"), WELFARE) == "–"
    assert written(-0.1234, WELFARE) == "−0.123"
    assert written(-0.00001, WELFARE) == "0.000"
    assert written(12.34, LOSERS, signed=True) == "+12.3"
