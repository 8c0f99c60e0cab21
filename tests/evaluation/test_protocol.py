"""Evaluation of policies: anchors, common random numbers, bounds."""

import numpy as np
import pytest

from peerwatt.env import VectorMarket
from peerwatt.evaluation import METRICS, Evaluator
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
