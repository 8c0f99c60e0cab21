"""Laws of the market and of its batteries, with random policies on the fused kernel."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from community.cards import (
    card_content,
    profiles,
    shipped,
    small_task,
    write_card,
    write_profiles,
)
from env.players import play, random_actions, trace
from market.reference import REFERENCES
from peerwatt.community import load_card
from peerwatt.env import BATTERY_ACTIONS, VectorMarket, evaluation_scenarios
from peerwatt.errors import PeerWattError
from peerwatt.evaluation import Evaluator
from peerwatt.plugins.loader import load_mechanism

SPLITS = ("train", "validation", "test")
MECHANISMS = tuple(REFERENCES)
IDLE = BATTERY_ACTIONS.index("idle")


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_energy_money_and_storage_are_conserved(task, mechanism):
    community = task.community
    promised = load_mechanism(mechanism).properties
    market = VectorMarket(task, 16, seed=3, mechanism=mechanism)
    b, n = market.num_envs, market.num_agents
    ticks = market.tables.ticks.reshape(-1, market.action_nvec[0])
    level = np.tile(community.lowest, (b, 1))
    traded = charged = discharged = 0
    for step in play(market, task.horizon + 20):
        slot = type(step.slot)(*(field.reshape(b, -1) for field in step.slot))
        rest = slot.position - slot.traded
        sold, bought = np.maximum(slot.traded, 0), np.maximum(-slot.traded, 0)
        exported, imported = np.maximum(rest, 0), np.maximum(-rest, 0)
        # Energy, per household and for the community
        assert np.array_equal(
            slot.load + slot.charge + sold + exported,
            slot.pv + slot.discharge + bought + imported,
        )
        assert np.array_equal(sold.sum(1), bought.sum(1))
        assert np.array_equal(sold.sum(1), slot.moments[:, 0])
        assert (np.abs(slot.traded) <= np.abs(slot.order)).all()
        assert (np.abs(slot.order) <= np.abs(slot.position)).all()
        assert (slot.order * slot.position >= 0).all()
        assert (slot.traded * slot.order >= 0).all()
        # Storage: bounds, power, losses
        assert (slot.charge >= 0).all()
        assert (slot.discharge >= 0).all()
        assert not (slot.charge * slot.discharge).any()
        assert (np.maximum(slot.charge, slot.discharge) <= community.power).all()
        stored = slot.stored
        assert np.array_equal(np.maximum(stored, 0), slot.charge * community.efficiency >> 16)
        drawn = np.maximum(-stored, 0)
        assert (drawn * community.efficiency >> 16 >= slot.discharge).all()
        fewer = np.maximum(drawn - 1, 0)
        assert ((fewer * community.efficiency >> 16 < slot.discharge) | (drawn == 0)).all()
        level += stored
        assert (level >= community.lowest).all()
        assert (level <= community.highest).all()
        level[step.truncated] = community.lowest
        assert np.array_equal(level.ravel(), market.state.charge_level)
        # Money
        feed_in, retail = (
            ticks[slot.tariff[:, 0], 0][:, None],
            ticks[slot.tariff[:, 0], -1][:, None],
        )
        surplus = -slot.payment.sum(1)
        if "budget-balanced" in promised:
            assert not surplus.any()
        elif "no-deficit" in promised:
            assert (surplus >= 0).all()
        own = np.take_along_axis(ticks[slot.tariff[:, 0]], slot.level, axis=1)
        if "respects-limits" in promised:
            assert (slot.payment >= slot.traded * own).all()
        if mechanism != "bill-sharing":
            assert (sold * feed_in <= np.maximum(slot.payment, 0)).all()
            assert (np.maximum(slot.payment, 0) <= sold * retail).all()
            assert (bought * feed_in <= np.maximum(-slot.payment, 0)).all()
            assert (np.maximum(-slot.payment, 0) <= bought * retail).all()
        # What households and market maker pay together is the bill of the grid.
        bill = (imported * retail - exported * feed_in).sum(1)
        assert np.array_equal(slot.cost.sum(1) - surplus, bill)
        assert np.array_equal(slot.cost, imported * retail - exported * feed_in - slot.payment)
        net = slot.pv - slot.load
        assert np.array_equal(slot.grid_cost, np.where(net > 0, -net * feed_in, -net * retail))
        without = community.capacity == 0
        if mechanism != "bill-sharing":
            assert (slot.cost <= slot.grid_cost)[:, without].all()
        assert np.array_equal(slot.position[:, without], net[:, without])
        scale = task.money_unit / task.card.market.reward_scale
        assert np.array_equal(step.reward, (slot.cost * -scale).astype(np.float32))
        assert np.array_equal(step.grid_reward, (slot.grid_cost * -scale).astype(np.float32))
        traded += sold.sum()
        charged += slot.charge.sum()
        discharged += slot.discharge.sum()
    assert traded > 0 or mechanism == "mcafee"  # which needs many orders to keep a trade
    assert (charged > 0) == (discharged > 0) == community.has_storage
    assert n == community.size


class Uniform:
    """Plays every head at random."""

    def __init__(self, nvec):
        self.nvec = nvec

    def act(self, observations, action_mask, generator):
        shape = observations.shape[:2]
        return np.stack([generator.integers(0, k, shape) for k in self.nvec], -1)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_no_mechanism_makes_the_community_beat_the_optimum(tmp_path, mechanism):
    task = small_task(tmp_path)
    assert task.community.has_storage
    evaluator = Evaluator(task, "test", mechanism=mechanism)
    for seed in range(5):
        evaluation = evaluator(Uniform(VectorMarket(task).action_nvec), seed)
        surplus = evaluation.metrics["market_surplus"]
        households = (evaluation.grid_cost - evaluation.savings.sum(1)) - surplus
        np.testing.assert_allclose(evaluation.cost, households, rtol=1e-12)
        assert (evaluation.cost >= evaluation.oracle_cost * (1 - 1e-9)).all()
        assert evaluation.welfare <= 1.0


def test_full_and_empty_batteries_stop_at_their_bounds(tmp_path):
    write_profiles(tmp_path, profiles())
    content = card_content()
    content["households"][0]["battery"] |= {"lowest": 0.25, "highest": 0.75}
    task = load_card(write_card(tmp_path, content))
    market = VectorMarket(task)
    lowest, highest = (round(share * 6.4 * 1024) for share in (0.25, 0.75))
    for code, bound in (("charge", highest), ("discharge", lowest)):
        actions = np.zeros((1, 3, 3), np.int64)
        actions[..., 2] = BATTERY_ACTIONS.index(code)
        if code == "charge":
            market.reset()
        for _ in range(3):
            step = market.step(actions)
        assert market.state.charge_level.tolist() == [bound, 0, 0]
        assert step.slot.charge[0] == step.slot.discharge[0] == 0


def test_following_never_trades_with_storage_in_hand():
    """`follow` takes the own surplus and covers the own deficit as far as the battery can."""
    task = shipped("fontana-v1")
    market = VectorMarket(task, 8)
    actions = np.zeros((8, market.num_agents, 3), np.int64)
    actions[..., 2] = BATTERY_ACTIONS.index("follow")
    moved = 0
    for step in play(market, task.horizon, actions=[actions] * task.horizon):
        slot = step.slot
        net = slot.pv - slot.load
        assert (slot.position * net >= 0).all()
        assert (slot.charge <= np.maximum(net, 0)).all()
        assert (slot.discharge <= np.maximum(-net, 0)).all()
        moved += (slot.charge + slot.discharge).sum()
    assert moved > 0


def test_home_without_storage_ignores_its_battery_action():
    task = shipped("fontana-v1")
    generator = np.random.default_rng(0)
    market = VectorMarket(task)
    actions = [random_actions(market, generator) for _ in range(task.horizon)]
    idle = [action.copy() for action in actions]
    for action in idle:
        action[:, task.community.capacity == 0, 2] = IDLE
    assert trace(market, task.horizon, actions=actions) == trace(
        VectorMarket(task), task.horizon, actions=idle
    )


def test_action_mask_is_for_homes_without_storage():
    task = shipped("fontana-v1")
    market = VectorMarket(task)
    battery = market.action_mask[:, sum(market.action_nvec[:2]) :]
    owners = task.community.capacity > 0
    assert battery[owners].all()
    assert (battery[~owners] == np.eye(8, dtype=bool)[IDLE]).all()
    assert market.action_mask[:, : sum(market.action_nvec[:2])].all()
    assert VectorMarket(shipped("pilot-v1")).action_nvec[2] == 1


# Batches and determinism


# Splits and scenarios


# Bad input


def snapshot(market):
    return b"".join(field.tobytes() for field in (*market.state, *market.slot, market._observation))


@pytest.mark.parametrize("head", [0, 1, 2])
def test_action_outside_its_space(task, head):
    market = VectorMarket(task, 3)
    market.reset()
    market.step(np.zeros((3, market.num_agents, 3), np.int64))
    names = ("price level", "quantity", "battery")
    for value in (-1, market.action_nvec[head], 2**40, -(2**63)):
        before = snapshot(market)
        actions = np.zeros((3, market.num_agents, 3), np.int64)
        actions[2, 1, head] = value
        with pytest.raises(PeerWattError) as error:
            market.step(actions)
        assert str(error.value) == (
            f"action {value} of household 1 in community 2 leaves its space: {names[head]} must "
            f"lie in 0..{market.action_nvec[head] - 1}."
        )
        assert snapshot(market) == before


def test_other_bad_input(task):
    market = VectorMarket(task, 2)
    actions = np.zeros((2, market.num_agents, 3), np.int64)
    with pytest.raises(PeerWattError, match="call reset before step"):
        market.step(actions)
    with pytest.raises(PeerWattError, match="first reset must begin all"):
        market.reset([True, False])
    market.reset()
    for bad in (actions[:1], actions.astype(float), actions > 0, actions[..., :2]):
        with pytest.raises(PeerWattError, match="expected integers"):
            market.step(bad)
    with pytest.raises(PeerWattError, match="reset mask"):
        market.reset([True])
    for options, says in (
        ({"num_envs": 0}, "num_envs 0 must be a whole number, at least 1"),
        ({"num_envs": 1.5}, "num_envs 1.5 must be"),
        ({"num_envs": "x"}, "num_envs 'x' must be"),
        ({"num_envs": True}, "num_envs True must be"),
        ({"num_envs": None}, "num_envs None must be"),
        ({"split": "tset"}, "unknown split 'tset': did you mean 'test'"),
        ({"split": None}, "unknown split 'None'"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"mechanism": "calll"}, "did you mean 'call'"),
    ):
        with pytest.raises(PeerWattError, match=says):
            VectorMarket(task, **options)
    assert VectorMarket(task, np.int64(2)).num_envs == 2
    for dtype in (np.int32, np.uint8, np.int64):
        market.step(actions.astype(dtype))
    market.step(actions.tolist())
    market.step(np.asfortranarray(actions))


def test_what_the_market_reads_is_read_only(task):
    market = VectorMarket(task, 2)
    scenarios = evaluation_scenarios(task, "test")
    for array in (*market.tables, *scenarios, market.action_mask):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


def test_the_kernel_is_compiled_once():
    """Writable and read-only arrays are different types to numba: no task may mix them."""
    code = """if True:
        import numpy as np
        from peerwatt.env import VectorMarket, evaluation_scenarios
        from peerwatt.env.kernel import reset_slots, step_slots
        from peerwatt.plugins.loader import load_task
        for name in ("pilot-v1", "fontana-v1"):
            task = load_task(name)
            scenarios = evaluation_scenarios(task, "test")
            for options in ({}, {"num_envs": 3, "mechanism": "call"}, {"scenarios": scenarios}):
                market = VectorMarket(task, **options)
                market.reset()
                market.step(np.zeros((market.num_envs, market.num_agents, 3), np.int64))
        print(len(reset_slots.signatures), len(step_slots.signatures))
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "1 1\n", result.stderr
