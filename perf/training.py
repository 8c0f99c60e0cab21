"""Agent-steps per CPU-second of IPPO, end to end, at 64 communities x 20 households with battery.

Run: python perf/training.py
Counted: everything that a training does (rollouts, sampling, environment, GAE, 4 epochs x 4
minibatches, logging), without evaluation. One process, one thread; CPU time, median of repeats.
"""

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from card import synthetic_task
from rich.console import Console
from rich.table import Table

from peerwatt.fairness import Shaping
from peerwatt.runs import TrainingRun
from peerwatt_algorithms.ippo import IPPO
from peerwatt_critics.none import NoCritic
from peerwatt_critics.rule import RuleCritic

ROLLOUT = 96


def measure(task, critic, budget, seed, rollout):
    run = TrainingRun(
        task,
        seed=seed,
        budget=budget,
        critic=critic,
        shaping=Shaping(warm=0.0, ramp=0.01),
        validations=0,
    )
    algorithm = IPPO(num_envs=64, rollout_slots=rollout, epochs=4, minibatches=4)
    began = time.process_time()
    algorithm.train(run)
    return run.agent_steps / (time.process_time() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=4)
    options = parser.parse_args()
    table = Table(title="IPPO, 64 x 20, battery, CDA, 4 epochs x 4 minibatches")
    for name in ("critic", "agent-steps per CPU-second", "range", "target"):
        table.add_column(name, justify="right")
    with TemporaryDirectory() as folder:
        task = synthetic_task(Path(folder))
        budget = 64 * 20 * ROLLOUT * options.iterations
        for name, critic in (("none", NoCritic()), ("rule", RuleCritic())):
            measure(task, critic, 64 * 20 * ROLLOUT, 0, ROLLOUT)  # compile
            speeds = [
                measure(task, critic, budget, seed, ROLLOUT) for seed in range(options.repeats)
            ]
            median = statistics.median(speeds)
            low, high = min(speeds) / 1000, max(speeds) / 1000
            table.add_row(name, f"{median / 1000:.0f} k", f"{low:.0f} - {high:.0f} k", ">= 80 k")
    Console().print(table)


if __name__ == "__main__":
    main()
