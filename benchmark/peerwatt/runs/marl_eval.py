"""Results in the nested JSON of marl-eval (`id-marl-eval`), for its plots and those of others.

    environment -> task -> algorithm -> seed_k
        -> step_i: {step_count, elapsed_time, metric: [value]}
        -> absolute_metrics: {metric: [value]}

A step is a validation in training, the absolute metrics are those of the test split, and each list
holds one value, for a metric of PeerWatt is a ratio of sums over episodes. marl-eval compares only
what has the same seeds, steps and metrics; what does not is told.

Source of the format: the README and `json_logger.py` of github.com/instadeepai/marl-eval, and
R. Gorsane et al., "Towards a standardised performance evaluation protocol for cooperative MARL",
NeurIPS 2022, arXiv 2209.10485.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError
from peerwatt.runs.entries import Board, Run
from peerwatt.runs.result import CurvePoint
from peerwatt.runs.store import CLOCK_FILE
from peerwatt.runs.summary import SCORES, WELFARE, run_values

ENVIRONMENT = "peerwatt"
METRICS = (WELFARE.key, *(score.key for score in SCORES))
"""What is recorded on the validation and on the test split alike."""
MOST_CLOCK = 5_000_000
"""Bytes of a clock that are read."""

Nested = dict[str, Any]


def marl_eval(boards: Sequence[Board]) -> tuple[Nested, list[str]]:
    """Return `boards` in marl-eval's form, and a sentence for each thing that it will stumble over.

    A scripted trader learns nothing, so its one validation stands at every step of the learners.

    Raises:
        PeerWattError: no run has a learning curve, or no metric is defined at every step.
    """
    notes: list[str] = []
    chosen: list[tuple[str, str, Run, list[CurvePoint]]] = []
    for board in boards:
        learner = next((e.first for e in board.entries if not e.scripted and e.first.curve), None)
        for entry in board.entries:
            for run in entry.runs:
                points = run.result.curve
                if not points:
                    notes.append(
                        f"{board.title}, {entry.label}, seed {run.result.seed}: has no learning "
                        "curve and was left out."
                    )
                    continue
                if entry.scripted and learner is not None:
                    steps = [point.agent_steps for point in learner.curve]
                    points = [points[-1].model_copy(update={"agent_steps": s}) for s in steps]
                chosen.append((board.title, entry.label, run, points))
    if not chosen:
        raise PeerWattError("no run has a learning curve, which marl-eval needs.")
    metrics = [name for name in METRICS if _defined(name, chosen)]
    if not metrics:
        raise PeerWattError(
            f"none of {', '.join(METRICS)} is defined at every step of every run, as marl-eval "
            "needs it; use another --format."
        )
    notes += [
        f"{name}: is undefined at some step of some run and was left out, for marl-eval knows no "
        "missing values."
        for name in METRICS
        if name not in metrics
    ]
    nested: Nested = {ENVIRONMENT: {}}
    for title, label, run, points in chosen:
        of_task = nested[ENVIRONMENT].setdefault(title, {})
        of_task.setdefault(label, {})[f"seed_{run.result.seed}"] = _steps(run, points, metrics)
    notes += _uneven(nested[ENVIRONMENT])
    return nested, notes


def _defined(metric: str, chosen: Sequence[tuple[str, str, Run, list[CurvePoint]]]) -> bool:
    """Whether a metric has a value at every step and on the test split of every run."""
    return all(
        run_values(run.result)[metric] is not None
        and all(_value(point, metric) is not None for point in points)
        for _, _, run, points in chosen
    )


def _value(point: CurvePoint, metric: str) -> float | None:
    return point.welfare if metric == WELFARE.key else point.scores.get(metric)


def _steps(run: Run, points: Sequence[CurvePoint], metrics: Sequence[str]) -> Nested:
    """Return the steps of one run, the absolute metrics last, where marl-eval looks for them."""
    counts = np.array([point.agent_steps for point in points], dtype=np.float64)
    told: Nested = {
        f"step_{index}": {
            "step_count": point.agent_steps,
            "elapsed_time": elapsed,
            **{metric: [_value(point, metric)] for metric in metrics},
        }
        for index, (point, elapsed) in enumerate(
            zip(points, _elapsed(run, counts).tolist(), strict=True)
        )
    }
    values = run_values(run.result)
    told["absolute_metrics"] = {metric: [values[metric]] for metric in metrics}
    return told


def _elapsed(run: Run, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seconds of training after `counts` agent-steps, [K].

    They are read between the reports of the run's clock; without one, training is taken to have
    gone at one speed.
    """
    steps = [0.0, float(run.result.agent_steps)]
    seconds = [0.0, run.result.timings.training_wall]
    clock = run.path.parent / CLOCK_FILE
    try:
        if clock.stat().st_size <= MOST_CLOCK:
            rows = [json.loads(line) for line in clock.read_text(encoding="utf-8").splitlines()]
            steps = [0.0, *(float(row["agent_steps"]) for row in rows)]
            seconds = [0.0, *(float(row["seconds"]) for row in rows)]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no clock, or none that can be read
    order = np.argsort(steps, kind="stable")
    return np.interp(counts, np.array(steps)[order], np.array(seconds)[order])


def _uneven(tasks: Nested) -> list[str]:
    """Tell what is not the same everywhere, where marl-eval needs it to be."""
    notes = []
    algorithms = {task: sorted(of_task) for task, of_task in tasks.items()}
    if len({tuple(names) for names in algorithms.values()}) > 1:
        listed = "; ".join(f"{task}: {', '.join(names)}" for task, names in algorithms.items())
        notes.append(
            "the algorithms are not the same on all tasks: marl-eval takes such tasks one at a "
            f"time ({listed})."
        )
    runs = [seeds for of_task in tasks.values() for seeds in of_task.values()]
    if len({tuple(seeds) for seeds in runs}) > 1:
        notes.append("the seeds are not the same everywhere, as marl-eval needs them to be.")
    if len({tuple(steps) for seeds in runs for steps in seeds.values()}) > 1:
        notes.append(
            "the runs do not all have as many validations: marl-eval takes only such tasks and "
            "algorithms together that have."
        )
    return notes
