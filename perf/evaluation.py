"""Seconds to evaluate a whole year of the fifteen Fontana homes, with every metric.

Run: python perf/evaluation.py
Played: 182 two-day episodes that cover 364 days (131,040 household-hours) with the scripted trader
`self-consumption`; measured: play, settlement, all metrics and fairness scores, and the 182 linear
programs of the optimum, which a second policy on the same scenarios would not need again. One
process, one thread; medians of repeats after a warm-up that loads the compiled kernels.
"""

import argparse
import statistics
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from peerwatt.env import Scenarios, VectorMarket
from peerwatt.evaluation import Evaluator
from peerwatt.plugins.loader import load_task
from peerwatt_algorithms.self_consumption import SelfConsumption


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    task = load_task("fontana-v1")
    # Day 0 is only yesterday's forecast: 182 windows of two days from day 1 on.
    starts = (1 + 2 * np.arange(182)) * task.slots_per_day
    year = Scenarios(np.arange(182, dtype=np.uint64), starts.astype(np.int64))
    policy = SelfConsumption(nvec=VectorMarket(task).action_nvec)
    Evaluator(task, "test", episodes=1)(policy, 0)
    rows = {"first policy (with the optimum)": [], "next policy (optimum known)": []}
    for _ in range(options.repeats):
        evaluator = Evaluator(task, "test", scenarios=year)
        for row in rows.values():
            wall, cpu = time.perf_counter(), time.process_time()
            evaluation = evaluator(policy, 0)
            row.append((time.perf_counter() - wall, time.process_time() - cpu))
    table = Table(title="One year of 15 Fontana homes, all metrics")
    for name in ("", "wall s", "CPU s", "range of wall s", "target"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        walls, cpus = zip(*row, strict=True)
        table.add_row(
            name,
            f"{statistics.median(walls):.2f}",
            f"{statistics.median(cpus):.2f}",
            f"{min(walls):.2f} - {max(walls):.2f}",
            "< 2",
        )
    Console().print(table)
    print(f"{len(evaluation.metrics)} metrics, welfare of the year {evaluation.welfare:.3f}")


if __name__ == "__main__":
    main()
