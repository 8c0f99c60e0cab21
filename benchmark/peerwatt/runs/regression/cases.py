"""The cases of golden files: what each deterministic layer does with made-up input.

A case that changes gets another name, so that what two files both name is comparable. All draws
are those of `SEED`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.env import BATTERY_ACTIONS, OBSERVATION_NAMES, Slot, VectorMarket
from peerwatt.evaluation import Evaluation, Evaluator
from peerwatt.fairness import Shaping
from peerwatt.market import QUANTA_PER_KWH, clear, price_grid
from peerwatt.plugins.loader import Kind, build, find, load_mechanism, load_task, registry
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.execute import episode_record
from peerwatt.runs.result import RunResult
from peerwatt.runs.summary import run_values
from peerwatt.runs.training import TrainingRun

SEED = 1
SIZES = ((2, 3), (5, 5), (12, 21), (40, 64))
"""Households and price levels of the books."""
BOOKS = 64
"""Books of each size."""
OPTIONS: Mapping[str, Mapping[str, Any]] = {"call": {"theta": 0.25}}
"""Of each mechanism that takes options, others than the default ones."""
ENVS = 4
"""Communities of a task that are played at random, for an episode and a half."""
DIGITS = 12

Numbers = dict[str, float | None]


def own(kind: Kind) -> list[str]:
    """Return the names of PeerWatt's own plugins of a kind."""
    found = registry().qualified[kind]
    return sorted(plugin.spec.name for plugin in found.values() if plugin.distribution == PROJECT)


def clearings() -> dict[str, dict[str, str]]:
    """Return the digests of what each mechanism makes of the books, by their size."""
    cases = {name: dict(_clearing(name, {})) for name in own("mechanism")}
    for name, options in OPTIONS.items():
        told = ", ".join(f"{key} = {value}" for key, value in options.items())
        cases[f"{name} with {told}"] = dict(_clearing(name, options))
    return cases


def _clearing(name: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield "12 households, 21 price levels" and the digest of what `name` makes of such books."""
    mechanism = load_mechanism(f"{PROJECT}:{name}", options)
    for n, levels in SIZES:
        generator = np.random.default_rng([n, levels, SEED])
        # Whole, half and odd quanta: large ties and none.
        step = generator.choice([QUANTA_PER_KWH, QUANTA_PER_KWH // 2, 1], (BOOKS, 1))
        most = 4 * QUANTA_PER_KWH // step
        order = step * np.rint((2 * generator.random((BOOKS, n)) - 1) * most).astype(np.int64)
        level = generator.integers(0, levels, (BOOKS, n))
        arrival = generator.permuted(np.tile(np.arange(n), (BOOKS, 1)), axis=1)
        cleared = clear(mechanism, order, level, price_grid(800, 3000, levels)[0], arrival)
        yield f"{n} households, {levels} price levels", _digest(*cleared)


def random_play(name: str) -> tuple[dict[str, str], Numbers]:
    """Play task `name` at random, with its own mechanism.

    Returns:
        The digest of each integer record of the kernel, and of the mask and of the ends of
        episodes; and a weighted mean of each feature of the observations and of the rewards. The
        weights are random ones, so that a mean shows a change of any value.
    """
    task = load_task(f"{PROJECT}:{name}")
    market = VectorMarket(task, ENVS, seed=SEED)
    generator = np.random.default_rng(SEED)
    storage = task.community.has_storage
    idle = BATTERY_ACTIONS.index("idle") if storage else 0
    records: list[Slot] = []
    seen = [market.reset().copy()]
    final, reward, grid_reward, truncated = [], [], [], []
    for _ in range(3 * task.horizon // 2):
        shape = (ENVS, market.num_agents)
        actions = np.stack([generator.integers(0, most, shape) for most in market.action_nvec], -1)
        actions[..., 2] = np.where(task.community.capacity > 0, actions[..., 2], idle)
        step = market.step(actions)
        records.append(Slot(*(field.copy() for field in step.slot)))
        seen.append(step.observation.copy())
        final.append(step.final_observation[step.truncated])
        reward.append(step.reward.copy())
        grid_reward.append(step.grid_reward.copy())
        truncated.append(step.truncated.copy())
    digests = {
        field: _digest(*(getattr(record, field) for record in records)) for field in Slot._fields
    }
    digests |= {"truncated": _digest(*truncated), "action_mask": _digest(market.action_mask)}
    means: Numbers = {
        f"{which} {feature}": _weighted(values[..., i])
        for which, values in (
            ("observation", np.stack(seen)),
            ("final observation", np.concatenate(final)),
        )
        for i, feature in enumerate(OBSERVATION_NAMES)
    }
    means |= {"reward": _weighted(np.stack(reward))}
    means |= {"grid_reward": _weighted(np.stack(grid_reward))}
    return digests, _rounded(means)


def scripted(task_name: str, trader: str) -> tuple[Numbers, Numbers]:
    """Play the test split of a task with a scripted trader.

    Returns:
        Sums of the costs and means of every metric of the episodes; and what tables show of such a
        run.
    """
    task = load_task(f"{PROJECT}:{task_name}")
    training = TrainingRun(
        task,
        seed=0,
        budget=0,
        critic=build("critic", find("critic", f"{PROJECT}:none"), {}),
        shaping=Shaping(),
        mechanism=None,
        validations=0,
    )
    policy = build("algorithm", find("algorithm", f"{PROJECT}:{trader}"), {}).train(training)
    played = Evaluator(task, "test")(policy, seed=0)
    return _rounded(_metrics(played)), _rounded(_scores(played))


def _metrics(played: Evaluation) -> Numbers:
    values: Numbers = {
        name: math.fsum(getattr(played, name)) for name in ("cost", "grid_cost", "oracle_cost")
    }
    for name, episodes in played.metrics.items():
        defined = episodes[np.isfinite(episodes)]
        values[name] = math.fsum(defined) / defined.size if defined.size else None
    return values


def _scores(played: Evaluation) -> Numbers:
    # They are made of the episodes alone.
    return run_values(RunResult.model_construct(test=episode_record(played)))


def _weighted(values: NDArray[np.float32]) -> float:
    weights = 0.5 + np.random.default_rng(SEED).random(values.shape)
    return math.fsum((weights * values).reshape(-1)) / values.size


def _rounded(values: Numbers) -> Numbers:
    return {
        name: None if value is None else float(f"{value:.{DIGITS}g}")
        for name, value in values.items()
    }


def _digest(*arrays: NDArray[Any]) -> str:
    """Return the SHA-256 of integers, whatever the byte order of the machine."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    return digest.hexdigest()
