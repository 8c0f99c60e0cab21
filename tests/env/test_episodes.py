"""Episodes, seeds and scenarios: what fixes them, and what they keep apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from env.players import play, random_actions, trace
from peerwatt.env import BATTERY_ACTIONS, OBSERVATION_NAMES, VectorMarket, evaluation_scenarios
from peerwatt.env.scenarios import Scenarios
from peerwatt.errors import PeerWattError

SPLITS = ("train", "validation", "test")
MECHANISMS = ("cda", "call")
IDLE = BATTERY_ACTIONS.index("idle")


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
