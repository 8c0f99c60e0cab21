"""A command for the tests of Ray: executes runs and prints what happens, a line of JSON each."""

import dataclasses
import json
import sys
from pathlib import Path

from peerwatt.errors import PeerWattError
from peerwatt.runs.config import RunConfig
from peerwatt.runs.executors import Job, Orders
from peerwatt.runs.executors.ray import RayExecutor

SMALL = {"num_envs": 4, "rollout_slots": 24, "hidden": (8,)}


def config(seed, budget):
    options = tuple(SMALL.items())
    return RunConfig("pilot-v1", "ippo", seed=seed, budget=budget, algorithm_options=options)


def main(results, address, budget, *executor):
    """Execute two runs, two at once."""
    jobs = [Job(seed, config(seed, int(budget)), f"seed {seed}") for seed in range(2)]
    orders = Orders(results=Path(results), workers=2, checkpoint_seconds=0.5)
    try:
        options = json.loads(executor[0]) if executor else {}
        for event in RayExecutor(address or None, **options).run(jobs, orders):
            print(json.dumps([type(event).__name__, *dataclasses.astuple(event)]), flush=True)
    except PeerWattError as error:
        print(json.dumps(["Refused", str(error)]), flush=True)
    except KeyboardInterrupt:
        print(json.dumps(["Interrupted"]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
