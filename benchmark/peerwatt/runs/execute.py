"""Execute one run: train, save, load what was saved, evaluate it, write the record."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from peerwatt.env import VectorMarket
from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation import Evaluation, Evaluator, Policy
from peerwatt.fairness.session import opened
from peerwatt.plugins.loader import load_task
from peerwatt.runs.config import ResolvedRun, command_of
from peerwatt.runs.criticism import Criticism
from peerwatt.runs.provenance import environment
from peerwatt.runs.result import EpisodeMetrics, RunResult, Timings
from peerwatt.runs.sinks import GuardedSink
from peerwatt.runs.store import METRICS_FILE, RESULT_FILE, read_result, run_folder, written_at_once
from peerwatt.runs.training import TrainingRun

Progress = Callable[[int, int], None]
"""Takes the agent-steps played, and the calls that the critic made, which is 0 for most."""


def episode_record(evaluation: Evaluation) -> EpisodeMetrics:
    """Turn an evaluation into the part of a result that records it."""
    return EpisodeMetrics(
        episodes=len(evaluation.cost),
        cost=evaluation.cost.tolist(),
        grid_cost=evaluation.grid_cost.tolist(),
        oracle_cost=evaluation.oracle_cost.tolist(),
        savings=evaluation.savings.tolist(),
        grid_bills=evaluation.grid_bills.tolist(),
        metrics={
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            for name, values in evaluation.metrics.items()
        },
    )


def execute(
    run: ResolvedRun, results: Path, progress: Progress | None = None, *, again: bool = False
) -> Path:
    """Do `run` and return its folder, which appears only when everything in it is complete.

    The policy that is scored is the one read back from the files, so that a result never depends
    on anything that was not saved.

    Args:
        run: the run.
        results: folder of all results.
        progress: told how far the training is.
        again: whether the run is done anew on purpose, so that a critic forgets what it had spent.

    Raises:
        PeerWattError: the algorithm overdrew its budget or returned no usable policy.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    folder = run_folder(results, run)
    sink = GuardedSink(run.config.sink or "", run.sink)
    head = _head(run)
    criticism = Criticism(run, folder, results, head, again)
    with (
        contextlib.closing(criticism),
        written_at_once(folder) as draft,
        _finishing(sink) as finish,
    ):
        sink.start({**head, "folder": str(folder)})
        metrics_file = draft / METRICS_FILE
        metrics_file.touch()
        with opened(run.critic, criticism.session) as critic:
            training = TrainingRun(
                run.task,
                seed=run.config.seed,
                budget=run.budget,
                critic=critic,
                shaping=run.config.shaping,
                mechanism=run.mechanism,
                validations=run.config.validations,
                metrics_file=metrics_file,
                sink=sink,
                progress=None if progress is None else _with_calls(progress, critic),
            )
            began = time.perf_counter()
            policy: Policy = run.algorithm.train(training)
            training_wall = time.perf_counter() - began - training.evaluation_seconds
        name = run.algorithm_record.name
        doctor = f"`peerwatt plugins doctor {name}` tells more"
        if not all(callable(getattr(policy, method, None)) for method in ("act", "save")):
            raise PeerWattError(
                f"algorithm {name!r}: train returns {shown(repr(policy), 60)}, expected a policy "
                f"with act and save; {doctor}."
            )
        training.finish(policy)
        if training.agent_steps > run.budget:
            raise PeerWattError(
                f"algorithm {name!r} played {training.agent_steps:,} "
                f"agent-steps, more than its budget of {run.budget:,}."
            )
        policy.save(draft)
        _check_files(draft, name, doctor)
        loaded: Policy = run.algorithm_plugin.spec.load_policy().load(draft)
        began = time.perf_counter()
        # A task read anew: whatever training did to its own copy, the test is the card's.
        task = load_task(run.config.task)
        test = Evaluator(task, "test", mechanism=run.mechanism)(loaded, run.config.seed)
        evaluation_wall = time.perf_counter() - began + training.evaluation_seconds
        steps = training.agent_steps
        usage, notes = criticism.usage(critic)
        result = RunResult(
            task=run.task_record,
            mechanism=run.mechanism_record,
            algorithm=run.algorithm_record,
            critic=run.critic_record,
            shaping={**vars(run.config.shaping)},
            seed=run.config.seed,
            budget=run.budget,
            agent_steps=steps,
            validations=run.config.validations,
            config_hash=run.config_hash,
            households=list(run.task.community.groups),
            test=episode_record(test),
            curve=training.curve,
            timings=Timings(
                wall=time.perf_counter() - wall,
                cpu=time.process_time() - cpu,
                training_wall=training_wall,
                evaluation_wall=evaluation_wall,
                agent_steps_per_second=steps / training_wall if steps else None,
            ),
            environment=environment(),
            files={
                file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                for file in sorted(draft.iterdir())
            },
            command=command_of(run),
            critic_usage=usage,
            notes=notes,
            created_utc=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        finish(result)
        result = result.model_copy(update={"notes": notes + sink.notes})
        (draft / RESULT_FILE).write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    criticism.publish(folder)
    return folder


def _with_calls(progress: Progress, critic: Any) -> Callable[[int], None]:
    def tell(agent_steps: int) -> None:
        usage = critic.usage()
        progress(agent_steps, 0 if usage is None else usage.calls)

    return tell


def _head(run: ResolvedRun) -> dict[str, Any]:
    """Return what is known of the record before the run begins."""
    parts = {
        "task": run.task_record,
        "mechanism": run.mechanism_record,
        "algorithm": run.algorithm_record,
        "critic": run.critic_record,
    }
    return {
        **{name: part.model_dump(mode="json") for name, part in parts.items()},
        "shaping": {**vars(run.config.shaping)},
        "seed": run.config.seed,
        "budget": run.budget,
        "config_hash": run.config_hash,
    }


@contextlib.contextmanager
def _finishing(sink: GuardedSink) -> Iterator[Callable[[RunResult], None]]:
    """Tell `sink` the result by the function yielded, or that the run failed."""
    told = False

    def finish(result: RunResult) -> None:
        nonlocal told
        told = True
        sink.finish(result.model_dump(mode="json"))

    try:
        yield finish
    finally:
        if not told:
            sink.finish(None)


def _check_files(draft: Path, name: str, doctor: str) -> None:
    """Refuse a policy that others could not safely read: what it says must be JSON or tensors."""
    others = sorted(
        file.name
        for file in draft.iterdir()
        if file.name not in (METRICS_FILE, "policy.json") and file.suffix != ".safetensors"
    )
    if others or not (draft / "policy.json").is_file():
        wrote = ", ".join(map(shown, others)) or "no policy.json"
        raise PeerWattError(
            f"algorithm {name!r}: its policy wrote {wrote}, expected policy.json and, for large "
            f"arrays, *.safetensors; {doctor}."
        )


def finished(run: ResolvedRun, results: Path) -> bool:
    """Return whether `results` holds a valid result of just this run, with all its files.

    Raises:
        PeerWattError: it does, but was made by other code of the same version.
    """
    folder = run_folder(results, run)
    if not (folder / RESULT_FILE).exists():
        return False
    result = read_result(folder)
    complete = all((folder / name).is_file() for name in result.files)
    if not complete or result.config_hash != run.config_hash:
        return False
    for now, then in (
        (run.algorithm_record, result.algorithm),
        (run.critic_record, result.critic),
        (run.mechanism_record, result.mechanism),
    ):
        if now.source != then.source and all("sha256:" in str(p.source) for p in (now, then)):
            raise PeerWattError(
                f"{folder} was made by other code of {now.distribution} {now.version} than is "
                "installed: raise its version, or repeat the runs with --again."
            )
    return True


def warm_up(run: ResolvedRun) -> None:
    """Compile the kernels once, so that parallel workers find them in numba's cache."""
    market = VectorMarket(run.task, 1, mechanism=run.mechanism)
    market.reset()
    market.step(np.zeros((1, market.num_agents, 3), np.int64))
