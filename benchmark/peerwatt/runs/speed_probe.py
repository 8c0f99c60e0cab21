"""How fast this installation is: market stepping and IPPO training, per second of CPU time.

It is measured in a process of its own (`peerwatt speed probe TASK`), so that two installations can
take turns, and each round meets another layout of memory.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import TypedDict

import numpy as np

from peerwatt.community import Task
from peerwatt.env import VectorMarket
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import build, find, load_task
from peerwatt.runs.training import TrainingRun

FORMAT = 1
NUM_ENVS = 64
STRETCHES = 5
"""Times that the market is measured; the median counts."""
STRETCH = 2_000_000
"""Agent-steps that it is measured at a time."""
DISTINCT = 65_536
"""Different random agent-steps: a small batch again and again trains the branch predictor."""
ROLLOUT_SLOTS = 48
ITERATIONS = 3


class Rates(TypedDict):
    """What `probe` prints: agent-steps per second of CPU time."""

    format: int
    task: str
    version: str
    market: float
    training: float


def probe(name: str) -> str:
    """Return the `Rates` on the task called `name`, as JSON in one line.

    Raises:
        PeerWattError: no such task, or PyTorch is not installed.
    """
    from peerwatt import __version__

    task = load_task(name)
    rates: Rates = {
        "format": FORMAT,
        "task": task.content_hash,
        "version": __version__,
        "market": market_rate(task),
        "training": training_rate(task),
    }
    return json.dumps(rates)


def market_rate(task: Task) -> float:
    """Return agent-steps per CPU-second of a market that is played at random."""
    market = VectorMarket(task, NUM_ENVS, seed=1)
    agents = NUM_ENVS * market.num_agents
    shape = (max(8, DISTINCT // agents), NUM_ENVS, market.num_agents, len(market.action_nvec))
    actions = np.random.default_rng(1).integers(0, market.action_nvec, shape)
    market.reset()
    steps = max(64, STRETCH // agents)

    def play() -> float:
        began = time.process_time()
        for k in range(steps):
            market.step(actions[k % len(actions)])
        return steps * agents / (time.process_time() - began)

    play()
    return statistics.median(play() for _ in range(STRETCHES))


def training_rate(task: Task) -> float:
    """Return agent-steps per CPU-second of IPPO without critic and without evaluation."""
    algorithm = build(
        "algorithm",
        find("algorithm", "ippo"),
        {"num_envs": NUM_ENVS, "rollout_slots": ROLLOUT_SLOTS},
    )
    iteration = NUM_ENVS * ROLLOUT_SLOTS * VectorMarket(task, 1).num_agents

    def train(budget: int) -> float:
        run = TrainingRun(
            task,
            seed=1,
            budget=budget,
            critic=build("critic", find("critic", "none"), {}),
            shaping=Shaping(),
            validations=0,
        )
        began = time.process_time()
        algorithm.train(run)
        return run.agent_steps / (time.process_time() - began)

    train(iteration)
    return train(ITERATIONS * iteration)
