"""Slots of a community that is played at random, a little more eagerly with every slot."""

from functools import cache

import numpy as np

from peerwatt.env import VectorMarket
from peerwatt.env.records import slot_batch
from peerwatt.plugins.loader import load_task


@cache
def played(calls, communities=32, task="pilot-v1"):
    """What a critic is shown in so many calls."""
    market = VectorMarket(load_task(task), communities, seed=1)
    market.reset()
    generator = np.random.default_rng(0)
    shape = (communities, market.num_agents, len(market.action_nvec))
    batches = []
    for call in range(calls):
        actions = generator.integers(0, market.action_nvec, shape)
        most = generator.random(shape[:2]) < call / calls
        actions[most, 1] = market.action_nvec[1] - 1
        step = market.step(actions)
        batches.append(slot_batch(market.task, market.tables.ticks, step.slot))
    return batches
