"""What the same algorithm, seeds and budget reach in training under each critic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peerwatt.criticbench.record import Arm, Estimate, Influence
from peerwatt.criticbench.subject import Examined
from peerwatt.errors import PeerWattError
from peerwatt.evaluation.statistics import Interval, bootstrap_difference, bootstrap_iqm
from peerwatt.plugins.loader import find, load_task
from peerwatt.runs.config import ResolvedRun, RunConfig, resolve
from peerwatt.runs.execute import finished
from peerwatt.runs.executors import Failure
from peerwatt.runs.runner import run_all
from peerwatt.runs.store import read_result, run_folder
from peerwatt.runs.summary import run_values

MEASURES = (
    *("welfare", "ftg", "fbs", "fpp", "ftb"),
    *("mean_saving", "worst_off", "losers", "gini", "operator"),
)
REFERENCES = ("none", "rule")
Key = tuple[str, tuple[tuple[str, Any], ...]]
"""Name and options of a critic."""


@dataclass(frozen=True)
class Training:
    """What is trained under every critic."""

    task: str
    algorithm: str = "ippo"
    seeds: int = 5
    budget: int = 500_000
    workers: int | None = None

    def check(self) -> None:
        """Refuse what cannot be trained, before anything is measured.

        Raises:
            PeerWattError: a name is unknown, or the algorithm does not learn.
        """
        load_task(self.task)
        if not find("algorithm", self.algorithm).spec.trainable:
            raise PeerWattError(
                f"--algorithm {self.algorithm}: does not learn, so that no critic can influence "
                "it; name one that does, such as ippo."
            )


def influence(
    training: Training, subjects: Sequence[Examined], results: Path, *, again: bool = False
) -> tuple[list[Influence | None], dict[str, Failure]]:
    """Train with no critic, the rule critic and each of `subjects`; finished runs are kept.

    Returns one record per critic, None where a run that it needs has failed, and the failures.

    Raises:
        PeerWattError: bad names, options or results folder.
    """
    names: dict[Key, str] = {(name, ()): name for name in REFERENCES}
    names |= {(subject.record.name, subject.options): subject.label for subject in subjects}
    configs = {
        key: [
            RunConfig(
                task=training.task,
                algorithm=training.algorithm,
                critic=key[0],
                critic_options=key[1],
                seed=seed,
                budget=training.budget,
            )
            for seed in range(training.seeds)
        ]
        for key in names
    }
    done = run_all(
        [config for entry in configs.values() for config in entry],
        results,
        workers=training.workers,
        again=again,
    )
    runs = {key: [resolve(config) for config in entry] for key, entry in configs.items()}
    arms = {key: _arm(names[key], entry, results) for key, entry in runs.items()}
    none, rule = (arms[name, ()] for name in REFERENCES)
    found: list[Influence | None] = []
    for subject in subjects:
        arm = arms[subject.record.name, subject.options]
        if none is None or rule is None or arm is None:
            found.append(None)
            continue
        run = runs["none", ()][0]
        found.append(
            recomputed(
                Influence(
                    task=run.task_record.name,
                    task_hash=run.task_record.content_hash,
                    algorithm=run.algorithm_record.name,
                    mechanism=run.mechanism_record.name,
                    budget=run.budget,
                    none=none,
                    rule=rule,
                    critic=arm,
                    against_none={},
                    against_rule={},
                )
            )
        )
    return found, done.failures


def recomputed(found: Influence) -> Influence:
    """Return `found` with means and differences computed from the values of its seeds."""
    arms = {
        "none": _with_means(found.none),
        "rule": _with_means(found.rule),
        "critic": _with_means(found.critic),
    }
    differences = {
        "against_none": _against(found.critic, found.none),
        "against_rule": _against(found.critic, found.rule),
    }
    return found.model_copy(update=arms | differences)


def _with_means(arm: Arm) -> Arm:
    iqm = {
        name: _estimate(bootstrap_iqm(_floats(seeds), np.random.default_rng(0)))
        for name, seeds in arm.values.items()
    }
    return arm.model_copy(update={"iqm": iqm})


def _arm(label: str, runs: Sequence[ResolvedRun], results: Path) -> Arm | None:
    """Return what the seeds reached; None unless all of them are done."""
    if not all(finished(run, results) for run in runs):
        return None
    per_seed = [run_values(read_result(run_folder(results, run))) for run in runs]
    return Arm(
        critic=label,
        config_hash=runs[0].config_hash,
        seeds=[run.config.seed for run in runs],
        values={name: [seed[name] for seed in per_seed] for name in MEASURES},
        iqm={},
    )


def _against(arm: Arm, other: Arm) -> dict[str, Estimate]:
    return {
        name: _estimate(
            bootstrap_difference(
                _floats(arm.values[name]), _floats(other.values[name]), np.random.default_rng(0)
            )
        )
        for name in arm.values
        if name in other.values
    }


def _floats(values: Sequence[float | None]) -> list[float]:
    """Return the values, NaN for one that is undefined: so is then what rests on it."""
    return [math.nan if value is None else value for value in values]


def _estimate(interval: Interval) -> Estimate:
    return Estimate(
        **{name: x if math.isfinite(x) else None for name, x in interval._asdict().items()}
    )
