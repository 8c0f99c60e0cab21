"""Algorithms that die, fail or take long, for the runner."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peerwatt.plugins import AlgorithmSpec, hookimpl


@hookimpl
def peerwatt_algorithms():
    return [
        AlgorithmSpec(
            name="mortal", factory="mortal:Mortal", policy="mortal:Policy", summary="Dies."
        )
    ]


@dataclass(frozen=True)
class Mortal:
    deaths: int = 0
    """How often its process is killed."""
    folder: str = "."
    pause: float = 0.0
    fail: bool = False
    leave: bool = False

    def train(self, run):
        market = run.envs(1)
        state = run.resume()
        slots = 0
        if state is None:
            market.reset()
        else:
            slots = state["slots"]
        shape = (1, market.num_agents, len(market.action_nvec))
        while run.agent_steps + market.num_agents <= run.budget:
            market.step(run.generator.integers(0, market.action_nvec, shape))
            slots += 1
            if slots % 10 == 0:
                run.report(Policy(), slots=slots)
                run.checkpoint(lambda now=slots: {"slots": now})
                time.sleep(self.pause)
            if slots == 25:
                marks = list(Path(self.folder).glob(f"died-{run.seed}-*"))
                if len(marks) < self.deaths:
                    (Path(self.folder) / f"died-{run.seed}-{len(marks)}").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.fail:
                    raise ValueError("as told\nin two lines")
                if self.leave:
                    sys.exit(3)
        return Policy()


class Policy:
    def act(self, observations, action_mask, generator):
        return np.zeros((*observations.shape[:2], 3), np.int64)

    def save(self, folder):
        (folder / "policy.json").write_text("{}")

    @classmethod
    def load(cls, folder):
        return cls()
