"""Laws of the market and of its batches, with random policies on the fused kernel."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from community.cards import card_content, profiles, shipped, small_task, write_card, write_profiles
from peerwatt.community import load_card
from peerwatt.env import BATTERY_ACTIONS, OBSERVATION_NAMES, VectorMarket, evaluation_scenarios
from peerwatt.env.scenarios import Scenarios
from peerwatt.errors import PeerWattError

SPLITS = ("train", "validation", "test")
MECHANISMS = ("cda", "call")
IDLE = BATTERY_ACTIONS.index("idle")


@pytest.fixture(scope="module", params=["pilot-v1", "fontana-v1", "small-v1"])
def task(request, tmp_path_factory):
    if request.param == "small-v1":
        return small_task(tmp_path_factory.mktemp("small"))
    return shipped(request.param)


def random_actions(market, generator):
    return generator.integers(0, market.action_nvec, (market.num_envs, market.num_agents, 3))


def play(market, slots, seed=0, actions=None):
    """Yield the steps of a random policy, after a reset."""
    generator = np.random.default_rng(seed)
    market.reset()
    for t in range(slots):
        yield market.step(random_actions(market, generator) if actions is None else actions[t])


def trace(market, slots, seed=0, actions=None):
    """All that community 0 showed, as one list of bytes per slot."""
    out = []
    for step in play(market, slots, seed, actions):
        b = market.num_envs
        arrays = [step.observation[0], step.reward[0], step.grid_reward[0], step.truncated[:1]]
        arrays += [field.reshape(b, -1)[0] for field in step.slot]
        if step.truncated[0]:
            arrays.append(step.final_observation[0])
        out.append(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))
    return out


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_energy_money_and_storage_are_conserved(task, mechanism):
    community = task.community
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
        assert not slot.payment.sum(1).any()
        assert (sold * feed_in <= np.maximum(slot.payment, 0)).all()
        assert (np.maximum(slot.payment, 0) <= sold * retail).all()
        assert (bought * feed_in <= np.maximum(-slot.payment, 0)).all()
        assert (np.maximum(-slot.payment, 0) <= bought * retail).all()
        own = np.take_along_axis(ticks[slot.tariff[:, 0]], slot.level, axis=1)
        assert (slot.payment >= slot.traded * own).all()
        assert np.array_equal(slot.cost, imported * retail - exported * feed_in - slot.payment)
        net = slot.pv - slot.load
        assert np.array_equal(slot.grid_cost, np.where(net > 0, -net * feed_in, -net * retail))
        without = community.capacity == 0
        assert (slot.cost <= slot.grid_cost)[:, without].all()
        assert np.array_equal(slot.position[:, without], net[:, without])
        scale = task.money_unit / task.card.market.reward_scale
        assert np.array_equal(step.reward, (slot.cost * -scale).astype(np.float32))
        assert np.array_equal(step.grid_reward, (slot.grid_cost * -scale).astype(np.float32))
        traded += sold.sum()
        charged += slot.charge.sum()
        discharged += slot.discharge.sum()
    assert traded > 0
    assert (charged > 0) == (discharged > 0) == community.has_storage
    assert n == community.size


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


def test_community_0_is_the_same_for_any_batch_size(task):
    generator = np.random.default_rng(4)
    largest = VectorMarket(task, 64, seed=9)
    slots = 2 * task.horizon + 5
    actions = [random_actions(largest, generator) for _ in range(slots)]
    expected = trace(largest, slots, actions=actions)
    for b in (1, 3):
        market = VectorMarket(task, b, seed=9)
        assert trace(market, slots, actions=[a[:b] for a in actions]) == expected


def test_seed_fixes_whole_episodes_and_matters(task):
    slots = 2 * task.horizon + 5
    one = trace(VectorMarket(task, 2, seed=1), slots)
    assert one == trace(VectorMarket(task, 2, seed=1), slots)
    assert one != trace(VectorMarket(task, 2, seed=2), slots)
    again = VectorMarket(task, 2, seed=5)
    trace(again, 7)
    again.reseed(1)
    assert trace(again, slots) == one


def test_another_environment_changes_nothing(task):
    slots = task.horizon + 5
    alone = trace(VectorMarket(task, 2, seed=1), slots)
    np.random.seed(0)
    market = VectorMarket(task, 2, seed=1)
    together = []
    steps = play(market, slots)
    for t, step in enumerate(steps):
        if t % 10 == 0:
            other = VectorMarket(task, 3, seed=t)
            list(play(other, 3))
            np.random.random()
        together.append(step.reward[0].tobytes())
    rewards = [step.reward[0].tobytes() for step in play(VectorMarket(task, 2, seed=1), slots)]
    assert together == rewards
    assert trace(VectorMarket(task, 2, seed=1), slots) == alone


def test_masked_reset_touches_only_masked_communities(task):
    market = VectorMarket(task, 6, seed=2)
    generator = np.random.default_rng(0)
    market.reset()
    for _ in range(7):
        market.step(random_actions(market, generator))

    def rows(array):
        return array.reshape(6, -1)

    mask = np.array([0, 1, 0, 0, 1, 0], bool)
    before = [rows(field).copy() for field in market.state]
    observed = market._observation.copy()
    record = [field.copy() for field in market.slot]
    seen = market.reset(mask)
    for name, old, field in zip(market.state._fields, before, market.state, strict=True):
        assert np.array_equal(rows(field)[~mask], old[~mask]), name
    assert np.array_equal(seen[~mask], observed[~mask])
    assert all(np.array_equal(a, b) for a, b in zip(record, market.slot, strict=True))
    assert market.state.episode.tolist() == [0, 1, 0, 0, 1, 0]
    assert market.episode_slot.tolist() == [7, 0, 7, 7, 0, 7]
    check_first_observation(task, seen[mask])


def check_first_observation(task, seen):
    """At the start of an episode batteries are empty, it is midnight, and nobody has traded."""
    feature = {name: seen[..., j] for j, name in enumerate(OBSERVATION_NAMES)}
    capacity = task.community.capacity
    empty = np.divide(
        task.community.lowest, capacity, where=capacity > 0, out=np.zeros(len(capacity))
    )
    assert np.array_equal(
        feature["state_of_charge"], np.broadcast_to(np.float32(empty), seen.shape[:-1])
    )
    assert (feature["hour_sin"] == 0).all()
    assert (feature["hour_cos"] == 1).all()
    for name in OBSERVATION_NAMES:
        if name.startswith("last_"):
            assert not feature[name].any()


def test_episode_ends_by_truncation_and_the_next_begins_at_once(task):
    market = VectorMarket(task, 4, seed=6)
    mask = np.array([True, False, True, False])
    generator = np.random.default_rng(0)
    market.reset()
    for _ in range(5):
        market.step(random_actions(market, generator))
    market.reset(mask)  # communities are out of step from here
    ends = np.zeros((0, 4), bool)
    for _ in range(task.horizon):
        step = market.step(random_actions(market, generator))
        ends = np.vstack([ends, step.truncated])
        assert np.array_equal(step.truncated, market.episode_slot == 0)
        if step.truncated.any():
            check_first_observation(task, step.observation[step.truncated])
            last = step.final_observation[step.truncated]
            assert last[..., OBSERVATION_NAMES.index("hour_cos")].min() == 1
            b = int(np.flatnonzero(step.truncated)[0])
            bought = np.maximum(-step.slot.traded.reshape(4, -1)[b], 0) / np.float32(1024)
            index = OBSERVATION_NAMES.index("last_bought")
            assert np.array_equal(step.final_observation[b, :, index], np.float32(bought))
    assert ends.sum(0).tolist() == [1, 1, 1, 1]
    assert np.argmax(ends, axis=0).tolist() == [task.horizon - 1, task.horizon - 6] * 2


# Splits and scenarios


def weeks_of(task, starts):
    return set((np.asarray(starts) // (7 * task.slots_per_day)).tolist())


def test_splits_share_no_week(task):
    weeks = {split: set(task.weeks(split)) for split in SPLITS}
    assert all(weeks.values())
    assert sum(map(len, weeks.values())) == len(set.union(*weeks.values()))
    for split in SPLITS:
        for starts in (task.training_starts(split), task.evaluation_starts(split)):
            assert weeks_of(task, starts) <= weeks[split]
            assert len(set(starts.tolist())) == len(starts)
            assert not (starts % task.slots_per_day).any()
            assert (starts // task.slots_per_day % 7 >= 1).all()  # yesterday is in the week
            last = starts + task.horizon - 1
            assert weeks_of(task, last) <= weeks[split]
        # The observation after a training episode lies in the week too.
        assert weeks_of(task, task.training_starts(split) + task.horizon) <= weeks[split]
        market = VectorMarket(task, 64, seed=1, split=split)
        for _ in range(10):
            market.reset()
            assert weeks_of(task, market.state.start) <= weeks[split]


def test_evaluation_scenarios_are_distinct_and_fixed(task):
    keys = []
    for split in SPLITS[1:]:
        scenarios = evaluation_scenarios(task, split)
        assert len(scenarios.start) == task.card.evaluation.episodes
        assert len(set(scenarios.start.tolist())) == len(scenarios.start)
        gaps = np.diff(np.sort(scenarios.start))
        assert (gaps >= task.horizon).all()
        assert weeks_of(task, scenarios.start) <= set(task.weeks(split))
        again = evaluation_scenarios(task, split)
        assert all(np.array_equal(a, b) for a, b in zip(scenarios, again, strict=True))
        keys += scenarios.key.tolist()
    assert len(set(keys)) == len(keys)
    with pytest.raises(PeerWattError, match="evaluation episodes asked for"):
        evaluation_scenarios(task, "test", 1000)


def test_scenarios_replay_and_stop(task):
    scenarios = evaluation_scenarios(task, "validation", 2)
    market = VectorMarket(task, scenarios=scenarios)
    first = trace(market, task.horizon)
    with pytest.raises(PeerWattError, match="played out"):
        market.step(random_actions(market, np.random.default_rng(0)))
    assert trace(market, task.horizon) == first
    one = Scenarios(scenarios.key[:1], scenarios.start[:1])
    actions = []
    generator = np.random.default_rng(0)
    for _ in range(task.horizon):
        actions.append(random_actions(market, generator)[:1])
    assert trace(VectorMarket(task, scenarios=one), task.horizon, actions=actions) == first


def with_other_weeks_changed(task, week):
    """The same task, except for load, PV and weather of all other weeks."""
    community = task.community
    day = task.slots_per_day
    slots = np.arange(len(community.load)) // (7 * day) != week
    days = np.arange(len(community.sunny)) // 7 != week
    load, pv, sunny = community.load.copy(), community.pv.copy(), community.sunny.copy()
    load[slots] = load[slots] // 2 + 7
    pv[slots] = pv[slots] // 3 + 5
    sunny[days] = 1 - sunny[days]
    return replace(task, community=replace(community, load=load, pv=pv, sunny=sunny))


def everything_seen(task, market):
    seen = [market.reset().tobytes()]
    generator = np.random.default_rng(0)
    for _ in range(task.horizon):
        step = market.step(random_actions(market, generator))
        shown = (
            step.final_observation if market._sampled and step.truncated[0] else step.observation
        )
        seen += [shown.tobytes(), step.reward.tobytes()]
    return seen


def test_nothing_outside_the_own_week_is_seen(task):
    for split in SPLITS:
        for starts in (task.training_starts(split), task.evaluation_starts(split)):
            for start in {int(starts[0]), int(starts[-1])}:
                week = start // (7 * task.slots_per_day)
                other = with_other_weeks_changed(task, week)
                scenario = Scenarios(np.array([5], np.uint64), np.array([start]))
                assert everything_seen(task, VectorMarket(task, scenarios=scenario)) == (
                    everything_seen(task, VectorMarket(other, scenarios=scenario))
                )
    market = VectorMarket(task, seed=8)
    market.reset()
    week = int(market.state.start[0]) // (7 * task.slots_per_day)
    other = with_other_weeks_changed(task, week)
    assert everything_seen(task, VectorMarket(task, seed=8)) == (
        everything_seen(other, VectorMarket(other, seed=8))
    )


def test_forecast_is_yesterday(task):
    """Tomorrow's energy may change at will: no observation before it moves."""
    day = task.slots_per_day
    start = int(task.evaluation_starts("test")[0])
    community = task.community
    load, pv = community.load.copy(), community.pv.copy()
    at = start + day // 2
    load[at:] = load[at:] // 2 + 3
    pv[at:] = pv[at:] // 2
    other = replace(task, community=replace(community, load=load, pv=pv))
    scenario = Scenarios(np.array([5], np.uint64), np.array([start]))
    one, two = (everything_seen(t, VectorMarket(t, scenarios=scenario)) for t in (task, other))
    assert one[: 2 * (day // 2) - 1] == two[: 2 * (day // 2) - 1]
    assert one[2 * (day // 2) - 1] != two[2 * (day // 2) - 1]
    forecast = OBSERVATION_NAMES.index("forecast_net_next_slot")
    market = VectorMarket(task, scenarios=scenario)
    seen = market.reset()[0, :, forecast]
    net = community.pv[start - day + 1].astype(int) - community.load[start - day + 1]
    assert np.array_equal(seen, (net / 1024).astype(np.float32))


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


def test_a_task_without_training_windows_is_refused(task):
    """The kernel draws a window without looking: there must be one."""
    week = 7 * task.slots_per_day
    cut = {name: getattr(task.community, name)[: week - 1] for name in ("load", "pv", "retail")}
    short = replace(task, community=replace(task.community, **cut))
    for split in SPLITS:
        with pytest.raises(PeerWattError, match=f"the {split} split of .* has no window of 2 days"):
            VectorMarket(short, 3, split=split)


def test_scenarios_beyond_the_profiles_are_refused(task):
    last = len(task.community.load) - task.horizon

    def market(start, keys=1):
        return VectorMarket(task, scenarios=Scenarios(np.ones(keys, np.uint64), np.array(start)))

    for start in ([-1], [last + 1], [2**40], [0.5]):
        with pytest.raises(PeerWattError, match=f"each start must lie in 0..{last}"):
            market(start)
    for start in ([], 0, [0, 1], [[0]]):
        with pytest.raises(PeerWattError, match="one key and one start"):
            market(start)
    list(play(market([last]), task.horizon))


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
