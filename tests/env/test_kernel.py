"""The fused kernel equals the plain reference exactly, over whole episodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from community.cards import card_content, profiles, shipped, write_card, write_profiles
from market.reference import REFERENCES
from peerwatt.community import load_card
from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.env.kernel import OBSERVATION_BOUNDS, OBSERVATION_NAMES

from .reference import ReferenceMarket

PER_COMMUNITY = ("tariff", "moments")


def actions_of(market, generator):
    shape = (market.num_envs, market.num_agents, 3)
    return generator.integers(0, market.action_nvec, shape)


def check_equal(market, references, slots, seed=0):
    """Play random actions in the market and in one reference per community."""
    generator = np.random.default_rng(seed)
    ticks = market.tables.ticks.reshape(-1, market.action_nvec[0])
    low, high = np.array(OBSERVATION_BOUNDS, np.float32).T
    observed = market.reset()
    for b, reference in enumerate(references):
        assert np.array_equal(observed[b], reference.reset())
    for _ in range(slots):
        actions = actions_of(market, generator)
        step = market.step(actions)
        for b, reference in enumerate(references):
            row = reference.start + reference.slot
            expected = reference.step(actions[b])
            assert ticks[step.slot.tariff[b]].tolist() == reference.grid(row)
            for name, values in zip(step.slot._fields, step.slot, strict=True):
                if name != "tariff":
                    assert values.reshape(market.num_envs, -1)[b].tolist() == expected[name], name
            assert step.reward[b].tolist() == expected["reward"]
            assert step.grid_reward[b].tolist() == expected["grid_reward"]
            assert step.truncated[b] == expected["truncated"]
            seen = step.observation[b]
            if expected["truncated"] and not reference.scenario:
                assert np.array_equal(step.final_observation[b], expected["observation"])
                expected["observation"] = reference.reset()
            if expected["observation"] is not None:
                wrong = {
                    OBSERVATION_NAMES[j] for _, j in np.argwhere(seen != expected["observation"])
                }
                assert not wrong
            assert np.isfinite(seen).all()
            assert (low <= seen).all()
            assert (seen <= high).all()


@pytest.mark.parametrize("mechanism", list(REFERENCES))
@pytest.mark.parametrize("name", ["fontana-v1", "pilot-v1"])
def test_training_episodes(name, mechanism):
    task = shipped(name)
    market = VectorMarket(task, 2, seed=11, mechanism=mechanism)
    references = [
        ReferenceMarket(task, seed=11, community=b, mechanism=mechanism) for b in range(2)
    ]
    check_equal(market, references, task.horizon + 2)


@pytest.mark.parametrize("name", ["fontana-v1", "pilot-v1"])
def test_evaluation_scenarios(name):
    task = shipped(name)
    scenarios = evaluation_scenarios(task, "test", 2)
    market = VectorMarket(task, scenarios=scenarios)
    references = [ReferenceMarket(task, scenario=one) for one in zip(*scenarios, strict=True)]
    check_equal(market, references, task.horizon)


@st.composite
def small_cards(draw):
    """Card and profiles: 1 to 6 households, odd batteries, any tariff and mechanism, noise."""
    homes = draw(st.integers(1, 6))
    minutes = draw(st.sampled_from([15, 30, 60]))
    content = card_content()
    content["episode"] = {"days": draw(st.sampled_from([1, 2, 5])), "slot_minutes": minutes}
    content["evaluation"] = {"episodes": 1}
    content["tariff"]["feed_in"] = draw(st.sampled_from([0, 0.0101, 0.08]))
    content["tariff"]["retail"] = draw(
        st.sampled_from(["data", 0.0863, [0.1 + hour / 1000 for hour in range(24)]])
    )
    content["market"] |= {
        "mechanism": draw(st.sampled_from(list(REFERENCES))),
        "price_levels": draw(st.sampled_from([3, 21, 63])),
        "quantity_levels": draw(st.sampled_from([2, 3, 4, 21])),
        "reward_scale": draw(st.sampled_from([0.1, 3.0])),
    }
    content["profiles"]["train_noise"] = draw(st.sampled_from([0, 0.1, 0.5]))
    content["households"] = []
    for home in "abcdef"[:homes]:
        group = {"group": f"home {home}", "homes": [home], "pv": draw(st.booleans())}
        if draw(st.booleans()):
            bounds = draw(st.sampled_from([(0.0, 1.0), (0.137, 0.871), (0.5, 0.501)]))
            group["battery"] = {
                "capacity_kwh": draw(st.sampled_from([0.001, 0.31, 1.7, 6.4])),
                "power_kw": draw(st.sampled_from([0.003, 0.013, 0.7, 5.0])),
                "round_trip_efficiency": draw(st.sampled_from([0.11, 0.5, 0.9, 0.97, 1.0])),
                "lowest": bounds[0],
                "highest": bounds[1],
            }
        content["households"].append(group)
    largest = draw(st.sampled_from([1, 5, 200, 3000]))
    seed = draw(st.integers(0, 1000))
    return content, profiles(3, 1440 // minutes, homes, largest, seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cards")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(small_cards(), st.integers(0, 2**63 - 1))
def test_small_random_cards(folder, card, seed):
    content, arrays = card
    write_profiles(folder, arrays)
    task = load_card(write_card(folder, content))
    market = VectorMarket(task, 1, seed=seed)
    reference = ReferenceMarket(task, seed=seed)
    check_equal(market, [reference], min(task.horizon + 1, 100), seed)
