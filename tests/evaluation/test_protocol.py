"""Evaluation of policies: anchors, common random numbers, bounds."""

import math
from dataclasses import replace

import numpy as np
import pytest

from peerwatt.env import VectorMarket
from peerwatt.env.records import slot_batch
from peerwatt.errors import PeerWattError
from peerwatt.evaluation import METRICS, Evaluator
from peerwatt.evaluation.metrics import entry_score, welfare
from peerwatt.evaluation.protocol import play
from peerwatt.fairness import feasible, score_slots
from peerwatt.plugins.loader import load_task
from peerwatt_algorithms.grid_only import GridOnly
from peerwatt_algorithms.mid_quote import MidQuote
from peerwatt_algorithms.self_consumption import SelfConsumption
from peerwatt_algorithms.zi_c import ZeroIntelligence


class Uniform:
    """Plays every head at random."""

    def __init__(self, nvec):
        self.nvec = nvec

    def act(self, observations, action_mask, generator):
        shape = observations.shape[:2]
        return np.stack([generator.integers(0, k, shape) for k in self.nvec], -1)


@pytest.fixture(scope="module", params=["pilot-v1", "fontana-v1"])
def played(request):
    task = load_task(request.param)
    nvec = VectorMarket(task).action_nvec
    evaluator = Evaluator(task, "validation")
    traders = (GridOnly, ZeroIntelligence, MidQuote, SelfConsumption)
    out = {t.__name__: evaluator(t(nvec=nvec), 1) for t in traders}
    out["Uniform"] = evaluator(Uniform(nvec), 1)
    return task, evaluator, nvec, out


def test_grid_only_is_exactly_zero_and_nobody_beats_the_optimum(played):
    _, _, _, out = played
    assert out["GridOnly"].welfare == 0.0
    assert not out["GridOnly"].savings.any()
    for evaluation in out.values():
        tolerance = 1e-7 * np.abs(evaluation.oracle_cost)
        assert (evaluation.cost >= evaluation.oracle_cost - tolerance).all()
        assert (evaluation.grid_cost >= evaluation.oracle_cost - tolerance).all()
        assert evaluation.welfare <= 1.0 + 1e-9
    assert out["GridOnly"].welfare < out["ZeroIntelligence"].welfare < out["MidQuote"].welfare


def test_all_meet_the_same_scenarios(played):
    _, evaluator, nvec, out = played
    for evaluation in out.values():
        np.testing.assert_array_equal(evaluation.grid_cost, out["GridOnly"].grid_cost)
        np.testing.assert_array_equal(evaluation.oracle_cost, out["GridOnly"].oracle_cost)
    again = evaluator(ZeroIntelligence(nvec=nvec), 1)
    np.testing.assert_array_equal(again.cost, out["ZeroIntelligence"].cost)
    other = evaluator(ZeroIntelligence(nvec=nvec), 2)
    assert not np.array_equal(other.savings, out["ZeroIntelligence"].savings), "seeds must matter"


def test_what_a_flat_task_without_storage_must_give(played):
    """Every traded kWh is worth retail less feed-in, so quoting the middle is the optimum."""
    task, _, _, out = played
    if task.community.has_storage:
        pytest.skip("the law holds without storage only")
    assert out["MidQuote"].welfare == pytest.approx(1.0)
    assert out["MidQuote"].score("ftg") == 1.0
    assert out["MidQuote"].score("fpp") == pytest.approx(1.0)
    traded = out["ZeroIntelligence"].metrics["volume_kwh"].sum()
    possible = out["ZeroIntelligence"].metrics["feasible_kwh"].sum()
    assert out["ZeroIntelligence"].welfare == pytest.approx(traded / possible)


def test_expected_figures_of_the_fontana_homes(played):
    """The design's prototype: market without storage 0.39, greedy batteries and market 0.64."""
    task, _, _, out = played
    if task.name != "fontana-v1":
        pytest.skip("figures of fontana-v1")
    assert out["MidQuote"].welfare == pytest.approx(0.39, abs=0.03)
    assert out["SelfConsumption"].welfare == pytest.approx(0.64, abs=0.03)


def test_metrics_are_complete_and_consistent(played):
    task, _, _, out = played
    for evaluation in out.values():
        assert set(evaluation.metrics) == set(METRICS)
        for name in ("ftg", "fbs", "fpp", "ftb", "feasible_share", "self_sufficiency", "losers"):
            values = evaluation.metrics[name]
            known = values[np.isfinite(values)]
            assert ((known >= 0) & (known <= 1)).all(), name
        # Payments inside the community sum to zero, so its cost is the operator's revenue.
        np.testing.assert_allclose(evaluation.metrics["operator_revenue"], evaluation.cost)
        np.testing.assert_allclose(
            evaluation.savings.sum(1), evaluation.grid_cost - evaluation.cost
        )
    cycles = out["SelfConsumption"].metrics["battery_cycles"]
    assert (cycles > 0).all() if task.community.has_storage else np.isnan(cycles).all()


def test_scores_are_means_over_all_slots(played):
    """An episode weighs as much as its slots in which the score is defined."""
    task, evaluator, nvec, out = played
    market = VectorMarket(task, scenarios=evaluator.scenarios)
    record = play(market, ZeroIntelligence(nvec=nvec), np.random.default_rng([1, 0xE7A1]))
    slots = slot_batch(task, market.tables.ticks, record)
    evaluation = out["ZeroIntelligence"]
    for name, score in score_slots(slots)._asdict().items():
        known = np.isfinite(score)
        expected = np.average(score[known], weights=feasible(slots)[known])
        assert evaluation.score(name) == pytest.approx(expected, rel=1e-12), name
    defined = evaluation.metrics["fbs_kwh"]
    assert defined.sum() == feasible(slots)[np.isfinite(score_slots(slots).fbs)].sum()
    assert (defined <= evaluation.metrics["feasible_kwh"]).all()
    coarse = {name: evaluation.metrics[name] for name in ("fbs", "feasible_kwh")}
    assert entry_score(coarse, "fbs") != pytest.approx(evaluation.score("fbs"), rel=1e-9)
    with pytest.raises(PeerWattError, match=r"unknown metric 'loser': did you mean 'losers'\?"):
        evaluation.score("loser")


def test_a_lone_seller_weighs_nothing_in_fbs():
    metrics = {"fbs": [0.2, 0.8, None], "feasible_kwh": [9.0, 1.0, 5.0], "fbs_kwh": [1.0, 1.0, 0.0]}
    assert entry_score(metrics, "fbs") == pytest.approx(0.5)
    old = {name: metrics[name] for name in ("fbs", "feasible_kwh")}
    assert entry_score(old, "fbs") == pytest.approx(0.26), "without fbs_kwh"
    assert entry_score({"fbs": metrics["fbs"]}, "fbs") == pytest.approx(0.5), "without weights"
    arrays = {name: np.array(values, float) for name, values in metrics.items()}
    assert entry_score(arrays, "fbs") == entry_score(metrics, "fbs")
    for undefined in ([None, math.nan, None], [0.5, None, None]):
        weights = {"feasible_kwh": [0.0, 1.0, 1.0]}
        assert entry_score({"ftg": undefined, **weights}, "ftg") is None
    assert entry_score({}, "ftg") is None


def test_welfare_is_a_ratio_of_sums(played):
    assert welfare([9.0, 17.0], [10.0, 20.0], [8.0, 14.0]) == pytest.approx(4 / 8)
    assert welfare([10.0, 20.0], [10.0, 20.0], [8.0, 14.0]) == 0.0
    assert welfare([8.0, 14.0], [10.0, 20.0], [8.0, 14.0]) == 1.0
    for least in ([10.0, 20.0], [10.0, 20.0 - 1e-12], [11.0, 21.0], [None, 1.0], [math.nan, 1.0]):
        assert welfare([10.0, 20.0], [10.0, 20.0], least) is None
    assert welfare([None, 20.0], [10.0, 20.0], [8.0, 14.0]) is None
    evaluation = played[3]["MidQuote"]
    assert math.isnan(replace(evaluation, oracle_cost=evaluation.grid_cost).welfare)


def test_a_policy_cannot_spoil_the_environment(played):
    task, evaluator, nvec, _ = played
    seen = []

    class Vandal(Uniform):
        def act(self, observations, action_mask, generator):
            for array in (observations, action_mask):
                with pytest.raises(ValueError, match="read-only"):
                    array[:] = 0
            seen.append(observations.copy())
            return super().act(observations, action_mask, generator)

    market = VectorMarket(task, scenarios=evaluator.scenarios)
    play(market, Vandal(nvec), np.random.default_rng(0))
    assert len(seen) == task.horizon and all(array.any() for array in seen)
    assert market.reset().flags.writeable, "only the view is read-only"
