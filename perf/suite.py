"""What a suite gains by a second process, and what the runner costs: ratios, measured in one run.

    python perf/suite.py [--runs 20] [--seconds 60] [--rounds 1]
    python perf/suite.py --runs 8 --seconds 10 --rounds 3        # a quick look: about 10 minutes

The suite is IPPO on `pilot-v1`, with a budget of about so many seconds of one core. It is run three
times a round, in fresh folders and in another order each round: by `peerwatt run` with one worker
and with two, and bare, which is the same training, validation and test one after the other in one
process, without runner, store, progress, checkpoints and records. CPU time is that of the whole
process tree, start and imports included.

The overhead is judged with one worker: two that share caches, and perhaps a core, need more CPU
time each for the same work, and that is none of the runner's doing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from peerwatt.evaluation import Evaluator
from peerwatt.plugins.loader import load_task
from peerwatt.runs.config import resolve
from peerwatt.runs.speed_probe import training_rate
from peerwatt.runs.suites import suite_configs
from peerwatt.runs.training import TrainingRun

SUITE = """\
seeds = {runs}
budget = {budget}
[[entry]]
tasks = ["pilot-v1"]
algorithms = ["ippo"]
"""
ENVIRONMENT = {
    **os.environ,
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}
PEERWATT = (sys.executable, "-P", "-c", "from peerwatt.cli.main import main; main()")


class Cost(NamedTuple):
    """Seconds that a command took: on the clock, and of CPU in its whole process tree."""

    wall: float
    cpu: float


def timed(command: Sequence[str]) -> Cost:
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def bare(suite: str) -> None:
    """Train and evaluate every run of `suite`, and keep nothing."""
    for config in suite_configs(suite):
        run = resolve(config)
        training = TrainingRun(
            run.task,
            seed=config.seed,
            budget=run.budget,
            critic=run.critic,
            shaping=config.shaping,
            mechanism=run.mechanism,
            validations=config.validations,
        )
        policy = run.algorithm.train(training)
        training.finish(policy)
        Evaluator(load_task(config.task), "test", mechanism=run.mechanism)(policy, config.seed)


def measure(suite: Path, rounds: int) -> dict[str, list[Cost]]:
    """Return the cost of each way to do the suite, round by round."""
    costs: dict[str, list[Cost]] = {"bare": [], "1 worker": [], "2 workers": []}
    for k in range(rounds):
        names = list(costs)
        for name in names[k % 3 :] + names[: k % 3]:
            with tempfile.TemporaryDirectory() as results:
                workers = ["--workers", name[0], "--results", results]
                command = [*PEERWATT, "run", "--suite", str(suite), *workers]
                if name == "bare":
                    command = [sys.executable, __file__, "--bare", str(suite)]
                costs[name].append(timed(command))
            wall, cpu = costs[name][-1]
            print(f"  {name:10s}{wall:8.1f} s wall {cpu:8.1f} s CPU", flush=True)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bare", metavar="SUITE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare(options.bare)
        return
    budget = round(options.seconds * training_rate(load_task("pilot-v1")))
    print(f"{options.runs} runs of {budget:,} agent-steps, about {options.seconds:.0f} s each")
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "speed.toml"
        suite.write_text(SUITE.format(runs=options.runs, budget=budget), encoding="utf-8")
        costs = measure(suite, options.rounds)
    one, two, alone = costs["1 worker"], costs["2 workers"], costs["bare"]
    print(f"\n{'':42s}{'median':>8s}{'lowest':>8s}{'highest':>9s}{'target':>10s}")
    for name, ratios, target in (
        (
            "throughput, 2 workers / 1",
            [a.wall / b.wall for a, b in zip(one, two, strict=True)],
            ">= 1.8",
        ),
        (
            "throughput, 2 workers / bare",
            [a.wall / b.wall for a, b in zip(alone, two, strict=True)],
            "",
        ),
        (
            "CPU time, 1 worker / bare",
            [a.cpu / b.cpu for a, b in zip(one, alone, strict=True)],
            "<= 1.03",
        ),
        (
            "CPU time, 2 workers / bare",
            [a.cpu / b.cpu for a, b in zip(two, alone, strict=True)],
            "",
        ),
        ("cores in use with 2 workers (CPU / wall)", [a.cpu / a.wall for a in two], ""),
    ):
        print(
            f"{name:42s}{statistics.median(ratios):8.3f}{min(ratios):8.3f}{max(ratios):9.3f}"
            f"{target:>10s}"
        )


if __name__ == "__main__":
    main()
