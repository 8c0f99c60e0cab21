"""A learner without torch that uses all that a checkpoint must hold.

It plays two markets of different sizes in turn, draws from its generator and from ones that it
spawns, and its policy depends on every draw and every reward.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from peerwatt.plugins import AlgorithmSpec, hookimpl

ITERATIONS = 5


@hookimpl
def peerwatt_algorithms():
    return [
        AlgorithmSpec(
            name="wanderer",
            factory="wanderer:Wanderer",
            policy="wanderer:Fixed",
            summary="Wanders about.",
        )
    ]


@dataclass(frozen=True)
class Wanderer:
    slots: int = 30
    resumes: bool = True

    def train(self, run):
        markets = [run.envs(2), run.envs(3)]
        nvec, n = markets[0].action_nvec, markets[0].num_agents
        weights = run.generator.random((n, 3))
        dice = run.generator.spawn(1)[0]
        first = 0
        kept = run.resume() if self.resumes else None
        if kept is None:
            for market in markets:
                market.reset()
        else:
            first, weights = kept["first"], kept["weights"]
            dice.bit_generator.state = kept["dice"]
        for iteration in range(first, ITERATIONS):
            helper = run.generator.spawn(1)[0]
            for t in range(self.slots):
                market = markets[t % 2]
                draws = (
                    dice.random((market.num_envs, n, 3)) + weights + market.observation[:, :, :3]
                )
                step = market.step((draws * 7919).astype(np.int64) % nvec)
                weights += step.reward.mean(axis=0)[:, None] * helper.random(3)
            run.report(Fixed.of(weights, nvec), weight=weights.mean())
            run.checkpoint(
                lambda done=iteration + 1, weights=weights: {
                    "first": done,
                    "weights": weights,
                    "dice": dice.bit_generator.state,
                }
            )
        return Fixed.of(weights, nvec)


@dataclass
class Fixed:
    """Always does the same, in a community without batteries."""

    actions: np.ndarray

    @classmethod
    def of(cls, weights, nvec) -> Self:
        return cls((weights * 7919).astype(np.int64) % nvec)

    def act(self, observations, action_mask, generator):
        return np.repeat(self.actions[None], len(observations), axis=0)

    def save(self, folder: Path) -> None:
        (folder / "policy.json").write_text(json.dumps(self.actions.tolist()))

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(np.array(json.loads((folder / "policy.json").read_text())))


def remembering(oracle):
    """Return `oracle`, which takes most of the time of a short run, with a memory."""
    known = {}

    def remembered(community, net_load, retail):
        key = net_load.tobytes(), retail.tobytes()
        if key not in known:
            known[key] = oracle(community, net_load, retail)
        return known[key]

    return remembered
