"""Random policies and what they saw."""

import numpy as np


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
