"""`TrainingRun`: all that an algorithm may touch. The harness shapes, logs and evaluates."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peerwatt.community import Task
from peerwatt.env import Step, VectorMarket
from peerwatt.env.records import slot_batch
from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation import Evaluator, Policy
from peerwatt.fairness import Critic, Shaping
from peerwatt.market import CompiledMechanism, Mechanism
from peerwatt.runs.result import CurvePoint
from peerwatt.runs.sinks import GuardedSink

SCORES = ("ftg", "fbs", "fpp", "ftb")
Progress = Callable[[int], None]
TICK_SECONDS = 1.0


class ShapedMarket(VectorMarket):
    """A `VectorMarket` whose rewards carry the bonus of a critic.

    The bonus follows the share of the training budget that has been played. Roles come from the
    net load before the battery, which no action can change: households that have a surplus are
    sellers, those with a deficit buyers.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        critic: Critic,
        shaping: Shaping,
        budget: int,
        tick: Callable[[], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(task, num_envs, **kwargs)
        self._tick = tick
        self._critic = critic
        self._shaping = shaping
        self._budget = budget
        self.agent_steps = 0

    def step(self, actions: ArrayLike) -> Step:
        """Play one slot; see `VectorMarket.step`. The reward is shaped."""
        step = super().step(actions)
        progress = min(1.0, self.agent_steps / self._budget) if self._budget else 1.0
        self.agent_steps += self.num_envs * self.num_agents
        if not any(self._shaping.coefficients(progress)):
            return step
        scores = self._critic.score(slot_batch(self.task, self.tables.ticks, step.slot))
        if [np.shape(score) for score in scores] != [(self.num_envs,)] * len(SCORES):
            raise PeerWattError(
                f"the critic's score returns {shown(repr(scores), 80)}, "
                f"expected FairnessScores of four arrays [{self.num_envs}]; `peerwatt plugins "
                "doctor` tells more."
            )
        if self._tick is not None:
            self._tick()
        net = (step.slot.pv - step.slot.load).reshape(self.num_envs, self.num_agents)
        bonus = self._shaping.bonus(scores, net > 0, net < 0, progress)
        return step._replace(reward=step.reward + bonus)


class TrainingRun:
    """One training: the task, the seed, and the harness's services.

    Attributes:
        task: the task to learn.
        seed: the run's seed.
        generator: the only source of randomness of the algorithm.
        device: where tensors live; always "cpu" for now.
        budget: agent-steps that may be played; 0 for scripted traders.
    """

    device = "cpu"

    def __init__(
        self,
        task: Task,
        *,
        seed: int,
        budget: int,
        critic: Critic,
        shaping: Shaping,
        mechanism: str | Mechanism | CompiledMechanism | None = None,
        validations: int = 10,
        metrics_file: Path | None = None,
        sink: GuardedSink | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.task = task
        self.seed = seed
        self.budget = budget
        self.generator = np.random.default_rng([seed, 0xA160])
        self.curve: list[CurvePoint] = []
        self.evaluation_seconds = 0.0
        self._critic = critic
        self._shaping = shaping
        self._mechanism = mechanism
        self._markets: list[ShapedMarket] = []
        self._validations = validations
        self._evaluator = Evaluator(task, "validation", mechanism=mechanism)
        self._metrics_file = metrics_file
        self._sink = sink
        self._progress = progress
        self._started = self._told = time.perf_counter()

    def envs(self, num_envs: int) -> ShapedMarket:
        """Return `num_envs` communities to train on; their rewards are shaped by the critic."""
        market = ShapedMarket(
            self.task,
            num_envs,
            critic=self._critic,
            shaping=self._shaping,
            budget=self.budget,
            tick=self._tick if self._progress is not None else None,
            seed=self.seed,
            mechanism=self._mechanism,
        )
        self._markets.append(market)
        return market

    @property
    def agent_steps(self) -> int:
        """Agent-steps played so far, counted by the harness."""
        return sum(market.agent_steps for market in self._markets)

    def report(self, policy: Policy, **metrics: float) -> None:
        """Log `metrics` and, when one is due, evaluate `policy` on the validation split.

        How far the training is, the harness counts itself.

        Args:
            policy: the policy as it is now; it is only played.
            metrics: numbers to log, once per iteration.
        """
        agent_steps = self.agent_steps
        row: dict[str, Any] = {
            "agent_steps": agent_steps,
            "seconds": round(time.perf_counter() - self._started, 3),
            **{name: _or_none(float(value)) for name, value in metrics.items()},
        }
        if self._validations and agent_steps * self._validations >= len(self.curve) * self.budget:
            point = self._validate(agent_steps, policy)
            row |= {"validation_welfare": point.welfare}
            row |= {f"validation_{name}": score for name, score in point.scores.items()}
        if self._metrics_file is not None:
            with self._metrics_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
        if self._sink is not None:
            self._sink.log(row)
        self._tell_progress()

    def _tick(self) -> None:
        """Tell progress between two reports, for with a critic that is slow these are rare."""
        if time.perf_counter() - self._told > TICK_SECONDS:
            self._tell_progress()

    def _tell_progress(self) -> None:
        if self._progress is not None:
            self._told = time.perf_counter()
            self._progress(self.agent_steps)

    def finish(self, policy: Policy) -> None:
        """End the learning curve with the policy that `train` returned; called by the harness."""
        if self._validations and (not self.curve or self.curve[-1].agent_steps < self.agent_steps):
            self._validate(self.agent_steps, policy)

    def _validate(self, agent_steps: int, policy: Policy) -> CurvePoint:
        before = time.perf_counter()
        evaluation = self._evaluator(policy, self.seed)
        scores = {name: _or_none(evaluation.score(name)) for name in SCORES}
        welfare = _or_none(evaluation.welfare)
        point = CurvePoint(agent_steps=agent_steps, welfare=welfare, scores=scores)
        self.curve.append(point)
        self.evaluation_seconds += time.perf_counter() - before
        return point


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
