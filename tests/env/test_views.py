"""The PettingZoo and Gymnasium views, the picture, and the package's public names."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from pettingzoo.test import api_test, parallel_api_test
from pettingzoo.utils import parallel_to_aec

import peerwatt
from community.cards import SHIPPED, shipped
from peerwatt.env import VectorMarket
from peerwatt.env.gymnasium import HouseholdVectorEnv
from peerwatt.env.pettingzoo import ParallelMarket
from peerwatt.env.render import episode_figure, rgb_array
from peerwatt.errors import PeerWattError


@pytest.fixture(scope="module", params=["pilot-v1", "fontana-v1"])
def task(request):
    return shipped(request.param)


def episode(env, generator, slots=None, **reset):
    """Play an episode with random actions; return everything that was handed out."""
    out = []

    def keep(*dicts):
        for values in dicts:
            assert list(values) == env.possible_agents
            out.append([np.asarray(value).tobytes() for value in values.values()])

    observations, infos = env.reset(**reset)
    keep(observations)
    assert list(infos) == env.agents == env.possible_agents
    nvec = env.market.action_nvec
    while env.agents and slots != 0:
        actions = {agent: generator.integers(0, nvec) for agent in env.agents}
        *dicts, infos = env.step(actions)
        keep(*dicts)
        slots = None if slots is None else slots - 1
    return out


# PettingZoo


def test_pettingzoo_conformance(task):
    with warnings.catch_warnings():
        # Its warnings are about MultiDiscrete actions and unbounded observations, both meant.
        warnings.simplefilter("ignore", UserWarning)
        parallel_api_test(ParallelMarket(task), num_cycles=3 * task.horizon)
        api_test(parallel_to_aec(ParallelMarket(task)), num_cycles=3 * task.horizon)


def test_view_shows_what_the_market_shows(task):
    env = ParallelMarket(task, seed=4)
    market = VectorMarket(task, 1, seed=4)
    generator = np.random.default_rng(0)
    observations, _ = env.reset()
    seen = market.reset()
    for t in range(1, task.horizon + 1):
        assert np.array_equal(np.stack(list(observations.values())), seen[0])
        chosen = generator.integers(0, market.action_nvec, (market.num_agents, 3))
        actions = dict(zip(env.agents, chosen, strict=True))
        observations, rewards, terminations, truncations, infos = env.step(
            dict(reversed(actions.items()))
        )
        step = market.step(chosen[None])
        seen = step.observation
        assert list(rewards.values()) == step.reward[0].tolist()
        assert not any(terminations.values())
        assert set(truncations.values()) == {t == task.horizon}
        assert all(type(value) is bool for value in truncations.values())
        assert all(type(value) is bool for value in terminations.values())
        assert all(type(value) is float for value in rewards.values())
        assert list(infos) == env.possible_agents
    assert env.agents == []
    assert np.array_equal(np.stack(list(observations.values())), step.final_observation[0])
    observations, _ = env.reset()
    assert np.array_equal(np.stack(list(observations.values())), step.observation[0])


def test_same_seed_same_episodes(task):
    def two_episodes(env, **reset):
        generator = np.random.default_rng(0)
        return [episode(env, generator, **reset), episode(env, generator)]

    first = two_episodes(ParallelMarket(task, seed=3))
    assert first[0] != first[1]
    env = ParallelMarket(task, seed=8)
    assert two_episodes(env, seed=3) == first
    assert two_episodes(env, seed=3) == first
    episode(env, np.random.default_rng(1), slots=5)  # left in the middle of an episode
    assert two_episodes(env, seed=3) == first
    other = two_episodes(env, seed=4)
    assert other[0] != first[0]
    assert other[1] != first[1]
    assert two_episodes(parallel_env := ParallelMarket(task, seed=4)) == other
    assert parallel_env.market.state.episode[0] == 2


def test_observations_are_copies(task):
    env = ParallelMarket(task)
    observations, infos = env.reset()
    kept = {agent: value.copy() for agent, value in observations.items()}
    actions = {agent: np.zeros(3, np.int64) for agent in env.agents}
    later, *_, later_infos = env.step(actions)
    for agent, value in kept.items():
        assert np.array_equal(observations[agent], value)
        later[agent][:] = -7
        infos[agent]["mine"] = later_infos[agent]["mine"] = 1
    again, *_, infos = env.step(actions)
    assert all((value > -7).any() for value in again.values())
    assert not any("mine" in info for info in infos.values())


def test_spaces_and_masks(task):
    env = ParallelMarket(task)
    observations, infos = env.reset(seed=1)
    for i, agent in enumerate(env.agents):
        space, actions = env.observation_space(agent), env.action_space(agent)
        assert env.observation_space(agent) is space
        assert env.action_space(agent) is actions
        assert space.contains(observations[agent])
        assert actions.nvec.tolist() == list(env.market.action_nvec)
        mask = infos[agent]["action_mask"]
        assert [head.dtype for head in mask] == [np.int8] * 3
        assert np.array_equal(np.concatenate(mask), env.market.action_mask[i])
        for _ in range(20):
            sample = actions.sample(mask)
            assert all(mask[head][sample[head]] for head in range(3))


def test_masks_cannot_be_spoiled(task):
    env = ParallelMarket(task)
    _, infos = env.reset()
    for mask in infos["household_0"]["action_mask"]:
        with pytest.raises(ValueError, match="read-only"):
            mask[:] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            mask.setflags(write=True)
    again, _ = ParallelMarket(task).reset()
    assert env.reset(seed=0)[0].keys() == again.keys()


def test_bad_arguments_are_one_sentence(task):
    for split in ("tset", None, 3):
        with pytest.raises(PeerWattError, match="unknown split"):
            ParallelMarket(task, split=split)
        with pytest.raises(PeerWattError, match="unknown split"):
            peerwatt.gym_vector_env(task, 2, split=split)
    for num_envs in (0, -1, 1.5, "x", True, None):
        with pytest.raises(PeerWattError, match=r"num_envs .* must be a whole number"):
            peerwatt.gym_vector_env(task, num_envs)


def test_bad_actions_change_nothing(task):
    env = ParallelMarket(task)
    zero = np.zeros(3, np.int64)
    with pytest.raises(PeerWattError, match="call reset"):
        env.step({})
    env.reset()
    good = dict.fromkeys(env.agents, zero)
    for change, says in (
        ({"household_2": np.array([0, 3, 0])}, "household 2 .* quantity must lie in 0..2"),
        ({"household_1": np.array([99, 0, 0])}, "household 1 .* price level must lie in"),
        ({"household_1": np.array([0, 0, -1])}, "household 1 .* battery must lie in"),
        ({"household_1": np.array([0.5, 0, 0])}, "expected integers"),
        ({"household_1": np.array([0, 0])}, "3 integers"),
        ({"household_99": zero}, "'household_99', who is not in the community"),
    ):
        with pytest.raises(PeerWattError, match=says):
            env.step(good | change)
    with pytest.raises(PeerWattError, match="household_0 is missing"):
        env.step({agent: zero for agent in env.agents[1:]})
    with pytest.raises(PeerWattError, match="household_3 is missing"):
        env.step({("x" if a == "household_3" else a): zero for a in env.agents})
    assert env.market.episode_slot[0] == 0
    for seed in (-1, 0.5, "x"):
        with pytest.raises(PeerWattError, match="seed"):
            env.reset(seed=seed)
    with pytest.raises(PeerWattError, match="render_mode"):
        ParallelMarket(task, render_mode="human")


# Picture


def test_render(task):
    had_pyplot = "matplotlib.pyplot" in sys.modules
    assert ParallelMarket(task).render() is None
    env = ParallelMarket(task, render_mode="rgb_array")
    assert "rgb_array" in env.metadata["render_modes"]
    generator = np.random.default_rng(0)
    env.reset()
    with pytest.raises(PeerWattError, match="nothing to draw"):
        env.render()
    env.step({agent: np.zeros(3, np.int64) for agent in env.agents})
    assert env.render().shape == (900, 900, 3)
    episode(env, generator)
    last = env.render()
    assert last.dtype == np.uint8
    assert last.std() > 10
    env.reset()
    assert np.array_equal(env.render(), last)
    env.step({agent: np.zeros(3, np.int64) for agent in env.agents})
    assert not np.array_equal(env.render(), last)
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot


def test_picture_of_one_community_of_a_batch(task):
    market = VectorMarket(task, 3)
    alone = VectorMarket(task, 1)
    market.reset()
    alone.reset()
    actions = np.ones((3, market.num_agents, 3), np.int64)
    actions[..., 2] = 0
    slots, own = [], []
    for _ in range(24):
        slots.append([field.copy() for field in market.step(actions).slot])
        own.append([field.copy() for field in alone.step(actions[:1]).slot])
    record, one = (
        type(market.slot)(*map(np.concatenate, zip(*each, strict=True))) for each in (slots, own)
    )
    picture = rgb_array(episode_figure(task, record, communities=3, community=0))
    assert np.array_equal(picture, rgb_array(episode_figure(task, one)))
    figure = episode_figure(task, record, communities=3, community=2)
    assert [axis.get_ylabel() for axis in figure.axes][-1] == "price, $/kWh"
    assert not np.array_equal(picture, rgb_array(figure))


# Gymnasium


def test_gymnasium_view_shows_what_the_market_shows(task):
    env = HouseholdVectorEnv(task, 3, seed=4)
    market = VectorMarket(task, 3, seed=4)
    n = market.num_agents
    assert env.num_envs == 3 * n
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert np.array_equal(env.action_mask[n : 2 * n], market.action_mask)
    observed, infos = env.reset()
    assert infos == {}
    assert np.array_equal(observed, market.reset().reshape(3 * n, -1))
    assert env.observation_space.contains(observed)
    env.action_space.seed(1)
    for t in range(1, task.horizon + 3):
        actions = env.action_space.sample()
        observed, reward, terminated, truncated, infos = env.step(actions)
        step = market.step(actions.reshape(3, n, 3))
        assert env.observation_space.contains(observed)
        assert np.array_equal(observed, step.observation.reshape(3 * n, -1))
        assert reward.dtype == np.float64
        assert np.array_equal(reward, step.reward.reshape(-1))
        assert not terminated.any()
        assert (truncated == (t == task.horizon)).all()
        if t == task.horizon:
            assert infos["_final_obs"].all()
            final = np.stack(list(infos["final_obs"]))
            assert np.array_equal(final, step.final_observation.reshape(3 * n, -1))
        else:
            assert infos == {}


def test_gymnasium_reset_of_whole_communities(task):
    env = HouseholdVectorEnv(task, 3, seed=4)
    n = env.market.num_agents
    first, _ = env.reset()
    zero = np.zeros((3 * n, 3), np.int64)
    before, *_ = env.step(zero)
    mask = np.repeat([False, True, False], n)
    after, _ = env.reset(options={"reset_mask": mask})
    assert np.array_equal(after[~mask], before[~mask])
    assert env.market.episode_slot.tolist() == [1, 0, 1]
    truncated = [env.step(zero)[3] for _ in range(task.horizon - 1)][-1]
    assert np.array_equal(truncated, ~mask)
    infos = env.step(zero)[4]
    assert np.array_equal(infos["_final_obs"], mask)
    assert all(
        (value is None) == (not own) for value, own in zip(infos["final_obs"], mask, strict=True)
    )
    again, _ = env.reset(seed=4)
    assert np.array_equal(again, first)
    part = mask.copy()
    part[n] = False
    for bad in (part, ~mask & False, mask[1:], mask.astype(int)):
        with pytest.raises(PeerWattError, match="reset_mask"):
            env.reset(options={"reset_mask": bad})
    with pytest.raises(PeerWattError, match="give no reset_mask"):
        env.reset(seed=1, options={"reset_mask": mask})
    with pytest.raises(PeerWattError, match="actions are"):
        env.step(zero[1:])


def test_gymnasium_arrays_are_copies_and_wrappers_work(task):
    env = RecordEpisodeStatistics(HouseholdVectorEnv(task, 2))
    kept = [env.reset()[0]]
    copies = [kept[0].copy()]
    total = np.zeros(env.num_envs)
    for _ in range(task.horizon):
        observed, reward, _, truncated, infos = env.step(env.action_space.sample())
        total += reward
        kept += [observed, reward, truncated]
        copies += [observed.copy(), reward.copy(), truncated.copy()]
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))
    assert np.allclose(infos["episode"]["r"], total)
    assert (infos["episode"]["l"] == task.horizon).all()
    assert isinstance(env.unwrapped, gymnasium.vector.VectorEnv)


# Public names


def test_public_names():
    path = SHIPPED / "pilot-v1.toml"
    task = peerwatt.load_task(path)
    assert isinstance(task, peerwatt.Task)
    assert peerwatt.parallel_env(path, seed=3).market.seed == 3
    assert peerwatt.parallel_env(str(path)).task.content_hash == task.content_hash
    assert peerwatt.parallel_env(task).task is task
    assert peerwatt.gym_vector_env(task, 2, seed=1).num_envs == 2 * task.community.size
    assert peerwatt.VectorMarket is VectorMarket
    assert peerwatt.PeerWattError is PeerWattError
    assert set(peerwatt.__all__) <= set(dir(peerwatt))
    assert all(getattr(peerwatt, name) for name in peerwatt.__all__)
    with pytest.raises(AttributeError, match="no attribute 'VectorMarkt'"):
        peerwatt.VectorMarkt  # noqa: B018


def test_import_is_light():
    code = "import sys, peerwatt; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"numpy", "numba", "pydantic", "torch", "gymnasium", "pettingzoo", "matplotlib"}
    assert not heavy & set(result.stdout.split())
