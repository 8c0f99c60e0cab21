"""`TrainingRun`: all that an algorithm may touch. The harness shapes, logs and evaluates."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from peerwatt.community import Task
from peerwatt.env import Step, VectorMarket
from peerwatt.env.records import slot_batch
from peerwatt.errors import PeerWattError, shown, told
from peerwatt.evaluation import Evaluation, Evaluator, Policy
from peerwatt.fairness import Critic, Shaping
from peerwatt.market import CompiledMechanism, Mechanism
from peerwatt.runs import generators
from peerwatt.runs.given import SCORES, Given, means
from peerwatt.runs.result import CurvePoint
from peerwatt.runs.resume import Checkpoints
from peerwatt.runs.sinks import QueuedSink
from peerwatt.runs.stopping import RunStopped, Stop
from peerwatt.runs.store import CLOCK_FILE, METRICS_FILE
from peerwatt.runs.untrusted import opener

Progress = Callable[[int], None]
TICK_SECONDS = 1.0
STOP_SECONDS = 5.0
"""How long a run that was asked to stop may go on to its next checkpoint."""


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
        before: Callable[[], None] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(task, num_envs, **kwargs)
        self._tick = tick
        self._before = before
        self._critic = critic
        self._shaping = shaping
        self._budget = budget
        self.agent_steps = 0
        self.given = Given(self.num_envs, self.num_agents)

    def step(self, actions: ArrayLike) -> Step:
        """Play one slot; see `VectorMarket.step`. The reward is shaped."""
        if self._before is not None:
            self._before()
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
        if not self.given.defined(scores):
            return step
        net = (step.slot.pv - step.slot.load).reshape(self.num_envs, self.num_agents)
        bonus = self._shaping.bonus(scores, net > 0, net < 0, progress)
        self.given.add(bonus)
        return step._replace(reward=step.reward + bonus)

    def snapshot(self) -> dict[str, Any]:
        """Return copies of all that the slots to come depend on, for `restore`."""
        given = self.given.snapshot()
        return {**super().snapshot(), "agent_steps": self.agent_steps, "given": given}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from where `snapshot` was taken; see `VectorMarket.restore`."""
        super().restore(snapshot)
        self.agent_steps = snapshot["agent_steps"]
        self.given.restore(snapshot["given"])


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
        folder: Path | None = None,
        sink: QueuedSink | None = None,
        progress: Progress | None = None,
        checkpoints: Checkpoints | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.task = task
        self.seed = seed
        self.budget = budget
        self.generator = np.random.default_rng([seed, 0xA160])
        self.curve: list[CurvePoint] = []
        self.evaluation_seconds = 0.0
        self._critic: Any = critic
        self._shaping = shaping
        self._mechanism = mechanism
        self._markets: list[ShapedMarket] = []
        self._validations = validations
        self._evaluator = Evaluator(task, "validation", mechanism=mechanism)
        self._folder = folder
        self._sink = sink
        self._progress = progress
        self._checkpoints = checkpoints
        self._stop = stop
        self._stop_seen: float | None = None
        self._resumed = False
        self._started = self._told = time.perf_counter()

    def envs(self, num_envs: int) -> ShapedMarket:
        """Return `num_envs` communities to train on; their rewards are shaped by the critic.

        Raises:
            PeerWattError: `resume` was called before: no checkpoint could be gone on with.
        """
        if self._resumed:
            raise PeerWattError(
                "the algorithm calls run.envs after run.resume, which has to put all environments "
                "where they were: make all of them before."
            )
        market = ShapedMarket(
            self.task,
            num_envs,
            critic=self._critic,
            shaping=self._shaping,
            budget=self.budget,
            tick=self._tick if self._progress is not None else None,
            before=self._heed_stop if self._stop is not None else None,
            seed=self.seed,
            mechanism=self._mechanism,
        )
        self._markets.append(market)
        return market

    @property
    def agent_steps(self) -> int:
        """Agent-steps played so far, counted by the harness."""
        return sum(market.agent_steps for market in self._markets)

    @property
    def seconds(self) -> float:
        """Seconds since the training began, less those between an interruption and going on."""
        return time.perf_counter() - self._started

    def resume(self) -> dict[str, Any] | None:
        """Return what `checkpoint` was handed last, if the run was interrupted, and None if not.

        Call it once, when all environments are made and whatever draws at the beginning has drawn.
        If it returns a state, put that in place and do not reset the environments: they and
        `generator` are where they were, and the next `step` is the one that did not come.
        Sequences come back as lists, all else as it was.

        Raises:
            PeerWattError: the environments are not those that the checkpoint is of, or it was
                called before.
        """
        if self._resumed:
            raise PeerWattError(
                "the algorithm calls run.resume twice, which would put it back to the checkpoint "
                "again: call it once, before the first iteration."
            )
        self._resumed = True
        kept = None if self._checkpoints is None else self._checkpoints.kept
        if self._checkpoints is None or kept is None:
            return None
        state = kept["training"]
        if len(state["markets"]) != len(self._markets):
            raise PeerWattError(
                f"run.resume was called with {len(self._markets)} environments made, but the "
                f"checkpoint has {len(state['markets'])}: make all of them before."
            )
        try:
            for market, snapshot in zip(self._markets, state["markets"], strict=True):
                market.restore(snapshot)
            generators.restore(self.generator, state["generator"])
            self.curve = [CurvePoint(**point) for point in state["curve"]]
            if kept["critic"] is not None:
                self._critic.restore(kept["critic"])
        except Exception as error:  # a checkpoint that somebody else has made, say
            known = isinstance(error, PeerWattError)
            reason = str(error).removesuffix(".") if known else told(error)
            raise PeerWattError(
                f"the run cannot go on from its checkpoint: {reason}; repeat it with --again, or "
                f"remove {self._folder}."
            ) from error
        self.evaluation_seconds = state["evaluation_seconds"]
        self._started = time.perf_counter() - state["seconds"]
        with _told(self._folder):
            self._checkpoints.cut()
        self._tell_progress()
        kept_state: dict[str, Any] = kept["algorithm"]
        return kept_state

    def checkpoint(self, state: Callable[[], Mapping[str, Any]]) -> None:
        """Save the run if that is due, and stop it if that was asked for.

        Call it once per iteration, at a point from which `train` can go on with what `state`
        returns, with the environments and `generator` as they are.

        Args:
            state: returns all else that `train` needs: nested dicts and lists of None, bool, int,
                float, str, bytes and numpy arrays. It is only called if a checkpoint is due.

        Raises:
            PeerWattError: `resume` was not called before, or the state cannot be saved.
            RunStopped: it was asked for; the run goes on from here when it is started again.
        """
        if not self._resumed:
            raise PeerWattError(
                "the algorithm calls run.checkpoint but did not call run.resume, so that it could "
                "never go on: call it before the first iteration."
            )
        asked = self._stop is not None and self._stop.asked
        if self._checkpoints is not None and (asked or self._checkpoints.due):
            self._checkpoints.save(
                {
                    "algorithm": state(),
                    "agent_steps": int(self.agent_steps),
                    "critic": self._critic.state() if hasattr(self._critic, "state") else None,
                    "training": {
                        "markets": [market.snapshot() for market in self._markets],
                        "generator": generators.state(self.generator),
                        "curve": [point.model_dump() for point in self.curve],
                        "evaluation_seconds": self.evaluation_seconds,
                        "seconds": self.seconds,
                    },
                }
            )
        if asked:
            raise RunStopped

    def _heed_stop(self) -> None:
        """End the run some time after that was asked for, if no checkpoint comes."""
        assert self._stop is not None
        if not self._stop.asked:
            return
        now = time.monotonic()
        if self._stop_seen is None:
            self._stop_seen = now
        # Without checkpoints there is nothing to wait for.
        saves = self._resumed and self._checkpoints is not None
        if not saves or now - self._stop_seen > STOP_SECONDS:
            raise RunStopped

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
            **{name: _or_none(float(value)) for name, value in metrics.items()},
            **means([market.given for market in self._markets]),
        }
        if self._validations and agent_steps * self._validations >= len(self.curve) * self.budget:
            row |= {f"validation_{name}": value for name, value in self._validate(policy).items()}
        time_row = {"agent_steps": agent_steps, "seconds": round(self.seconds, 3)}
        if self._folder is not None:
            with _told(self._folder):
                for name, content in ((METRICS_FILE, row), (CLOCK_FILE, time_row)):
                    place = self._folder / name
                    with open(place, "a", encoding="utf-8", opener=opener) as file:
                        file.write(json.dumps(content, allow_nan=False) + "\n")
        if self._sink is not None:
            self._sink.log({**time_row, **row})
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
        """End the learning curve with the policy that `train` returned; called by the harness.

        Raises:
            PeerWattError: the run was to go on from a checkpoint, and `train` did not ask for it.
        """
        if self._checkpoints is not None and self._checkpoints.kept and not self._resumed:
            raise PeerWattError(
                "the algorithm called run.checkpoint before the interruption but not run.resume "
                "after it: call it whenever `train` begins, and repeat the run with --again."
            )
        if self._validations and (not self.curve or self.curve[-1].agent_steps < self.agent_steps):
            self._validate(policy)

    def _validate(self, policy: Policy) -> dict[str, float | None]:
        """Add a point to the curve; return welfare and all metrics, means over the episodes."""
        before = time.perf_counter()
        evaluation = self._evaluator(policy, self.seed)
        found = {"welfare": _or_none(evaluation.welfare)}
        found |= {name: _mean(evaluation, name) for name in evaluation.metrics}
        scores = {name: found[name] for name in SCORES}
        self.curve.append(
            CurvePoint(agent_steps=self.agent_steps, welfare=found["welfare"], scores=scores)
        )
        self.evaluation_seconds += time.perf_counter() - before
        return found


def _mean(evaluation: Evaluation, name: str) -> float | None:
    if name in SCORES:
        return _or_none(evaluation.score(name))
    values = evaluation.metrics[name]
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else None


@contextlib.contextmanager
def _told(folder: Path | None) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise PeerWattError(
            f"{folder} went away while the run was made: somebody removed or moved it; start the "
            "same command again."
        ) from error
    except OSError as error:
        raise PeerWattError(
            f"cannot write the reports of the run to {folder}: {error.strerror}; see to the disk "
            "and start the same command again: it goes on from the last checkpoint."
        ) from error


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
