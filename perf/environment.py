"""Speed of the environment: million agent-steps per CPU second.

    python perf/environment.py [--repeats 9]

An agent-step is one household acting in one slot: battery, order, clearing, settlement, reward and
observation. One process, one thread; figures are medians of thread CPU time. Actions are random,
drawn beforehand, and rotate through at least 65,536 different agent-steps: one small batch played
again and again trains the branch predictor and overstates throughput. Random actions are also the
hardest to predict. `64 x 20` is 64 communities of 20 households. Repeats of all rows are
interleaved, so that a busy machine hits them alike.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from card import synthetic_task

import peerwatt_tasks
from peerwatt.community import Task, load_card
from peerwatt.env import VectorMarket
from peerwatt.env.gymnasium import HouseholdVectorEnv
from peerwatt.env.pettingzoo import ParallelMarket

DISTINCT = 65_536
PER_REPEAT = 400_000  # agent-steps timed at a stretch


class Row:
    """One line of the table: a name, its target in million agent-steps/s, and what to time."""

    def __init__(self, name: str, target: float | None, agents: int, play: Callable[[int], None]):
        self.name = name
        self.target = target
        self.agents = agents
        self.play = play
        self.rates: list[float] = []
        self.steps = max(64, PER_REPEAT // agents)
        play(self.steps // 4 + 1)

    def measure(self) -> None:
        """Time one stretch."""
        start = time.thread_time()
        self.play(self.steps)
        self.rates.append(self.steps * self.agents / (time.thread_time() - start) / 1e6)


def draw_actions(nvec: tuple[int, int, int], agents: int) -> list[np.ndarray]:
    generator = np.random.default_rng(agents)
    return [generator.integers(0, nvec, (agents, 3)) for _ in range(max(8, DISTINCT // agents))]


def vector_row(name: str, target: float | None, task: Task, num_envs: int, **options) -> Row:
    market = VectorMarket(task, num_envs, seed=1, **options)
    agents = num_envs * market.num_agents
    actions = [a.reshape(num_envs, -1, 3) for a in draw_actions(market.action_nvec, agents)]
    market.reset()

    def play(steps: int) -> None:
        for k in range(steps):
            market.step(actions[k % len(actions)])

    return Row(name, target, agents, play)


def pettingzoo_row(name: str, target: float | None, task: Task) -> Row:
    env = ParallelMarket(task, seed=1)
    env.reset()
    agents = env.possible_agents
    actions = [
        dict(zip(agents, chosen, strict=True))
        for chosen in draw_actions(env.market.action_nvec, len(agents))
    ]

    def play(steps: int) -> None:
        for k in range(steps):
            if not env.agents:
                env.reset()
            env.step(actions[k % len(actions)])

    return Row(name, target, len(agents), play)


def gymnasium_row(name: str, target: float | None, task: Task, num_envs: int) -> Row:
    env = HouseholdVectorEnv(task, num_envs, seed=1)
    env.reset()
    actions = draw_actions(env.market.action_nvec, env.num_envs)

    def play(steps: int) -> None:
        for k in range(steps):
            env.step(actions[k % len(actions)])

    return Row(name, target, env.num_envs, play)


def rows(folder: Path) -> list[Row]:
    cards = Path(peerwatt_tasks.__path__[0]) / "cards"

    def synthetic(name: str, **options) -> Task:
        (folder / name).mkdir()
        return synthetic_task(folder / name, **options)

    twenty = synthetic("twenty")
    fontana, pilot = (load_card(cards / f"{name}-v1.toml") for name in ("fontana", "pilot"))
    return [
        vector_row("64 x 20, all with battery", 12.0, twenty, 64),
        vector_row("1024 x 20, all with battery", None, twenty, 1024),
        vector_row("64 x 20, call auction", None, twenty, 64, mechanism="call"),
        vector_row("64 x 20, household noise", None, synthetic("noise", noise=0.1), 64),
        vector_row("64 x 20, no battery", None, synthetic("none", battery=False), 64),
        vector_row("64 x 4, all with battery", None, synthetic("four", households=4), 64),
        vector_row("fontana-v1, 64 x 15", None, fontana, 64),
        vector_row("pilot-v1, 64 x 8", None, pilot, 64),
        gymnasium_row("Gymnasium view, 64 x 20", None, twenty, 64),
        pettingzoo_row("PettingZoo view, 1 x 20", 0.5, twenty),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}; "
        f"median of {options.repeats}, million agent-steps per CPU second\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        table = rows(Path(folder))
        for _ in range(options.repeats):
            for row in table:
                row.measure()
    print(f"{'':30s}{'median':>8s}{'lowest':>8s}{'highest':>9s}{'target':>8s}")
    for row in table:
        target = "" if row.target is None else f"{row.target:8.1f}"
        print(
            f"{row.name:30s}{statistics.median(row.rates):8.2f}{min(row.rates):8.2f}"
            f"{max(row.rates):9.2f}{target}"
        )


if __name__ == "__main__":
    main()
