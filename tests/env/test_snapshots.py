"""A market goes on from a snapshot as if nothing had happened."""

import numpy as np
import pytest

from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.errors import PeerWattError


def play(market, slots, generator):
    """Return everything that the market hands out over some slots."""
    shape = (market.num_envs, market.num_agents, 3)
    played = []
    for _ in range(slots):
        step = market.step(generator.integers(0, market.action_nvec, shape))
        played += [array.tobytes() for array in (*step[:5], *step.slot)]
    return played


@pytest.mark.parametrize("slots", [0, 1, 5])
def test_a_market_that_was_put_back_goes_on_alike_over_episodes(task, slots):
    market = VectorMarket(task, 3, seed=4)
    market.reset()
    play(market, slots, np.random.default_rng(1))
    snapshot, observation = market.snapshot(), market.observation.copy()
    expected = play(market, task.horizon + 3, np.random.default_rng(2))
    other = VectorMarket(task, 3, seed=4)
    other.restore(snapshot)
    np.testing.assert_array_equal(other.observation, observation)
    assert play(other, task.horizon + 3, np.random.default_rng(2)) == expected
    market.restore(snapshot)  # not changed by what was played meanwhile
    assert (
        play(market, 3, np.random.default_rng(2))
        == expected[: len(expected) * 3 // (task.horizon + 3)]
    )


def test_a_snapshot_before_the_first_reset_and_one_of_scenarios(task):
    market = VectorMarket(task, 2)
    market.restore(VectorMarket(task, 2).snapshot())
    with pytest.raises(PeerWattError, match="call reset before step"):
        play(market, 1, np.random.default_rng(0))
    scenarios = evaluation_scenarios(task, "test")
    one, other = (VectorMarket(task, scenarios=scenarios) for _ in range(2))
    one.reset()
    play(one, task.horizon - 1, np.random.default_rng(1))
    other.restore(one.snapshot())
    assert play(other, 1, np.random.default_rng(2)) == play(one, 1, np.random.default_rng(2))
    with pytest.raises(PeerWattError, match="has been played out"):
        play(other, 1, np.random.default_rng(2))


def test_a_snapshot_of_another_market_is_refused(task):
    snapshot = VectorMarket(task, 2, seed=1).snapshot()
    with pytest.raises(PeerWattError, match="num_envs 3, but that of the snapshot has 2"):
        VectorMarket(task, 3, seed=1).restore(snapshot)
    with pytest.raises(PeerWattError, match="seed 0, but that of the snapshot has 1"):
        VectorMarket(task, 2).restore(snapshot)
    snapshot["arrays"]["reward"] = snapshot["arrays"]["reward"][:1]
    with pytest.raises(PeerWattError, match="the market's reward is float32"):
        VectorMarket(task, 2, seed=1).restore(snapshot)
