"""Execute one run: train, save, load what was saved, evaluate it, write the record."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from peerwatt.env import VectorMarket
from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation import Evaluation, Evaluator, Policy
from peerwatt.fairness.session import opened, savable
from peerwatt.fairness.transcript import TRANSCRIPT_FILE
from peerwatt.plugins.loader import load_task
from peerwatt.runs.config import ResolvedRun, command_of
from peerwatt.runs.criticism import Criticism
from peerwatt.runs.executors import CHECKPOINT_SECONDS, failure_of
from peerwatt.runs.files import sync_file, write_whole
from peerwatt.runs.locks import BeingMade, held
from peerwatt.runs.provenance import environment, fingerprint
from peerwatt.runs.result import CriticUsage, EpisodeMetrics, RunResult, Timings
from peerwatt.runs.resume import Checkpoints
from peerwatt.runs.sinks import QueuedSink
from peerwatt.runs.stopping import Stop
from peerwatt.runs.store import (
    CLOCK_FILE,
    METRICS_FILE,
    RESULT_FILE,
    run_folder,
    work_folder,
)
from peerwatt.runs.training import TrainingRun
from peerwatt.runs.work import (
    WORK_FILES,
    Attempt,
    begin,
    forget,
    now,
    publish,
    read_attempt,
    record_failure,
    whole_result,
)

__all__ = ["WORK_FILES", "episode_record", "execute", "finished", "warm_up"]

POLICY_FILE = "policy.json"
TENSORS = ".safetensors"
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
    run: ResolvedRun,
    results: Path,
    progress: Progress | None = None,
    *,
    again: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    stop: Stop | None = None,
    saved: Callable[[], None] | None = None,
) -> Path:
    """Do `run`, or what is left of it, and return its folder.

    The folder appears only when everything in it is complete; until then `work_folder` holds all
    there is. The policy that is scored is the one read back from the files, so that a result never
    depends on anything that was not saved.

    Args:
        run: the run.
        results: folder of all results.
        progress: told how far the training is.
        again: whether a finished run is done anew on purpose, so that a critic forgets what it had
            spent. Where that was interrupted, it is gone on with.
        checkpoint_seconds: least time between two checkpoints.
        stop: asks the run to save a checkpoint and to end.
        saved: called after each checkpoint.

    Raises:
        PeerWattError: the algorithm overdrew its budget or returned no usable policy, the disk
            refuses, or another process is at the run.
        RunStopped: `stop` was asked for, and the run is not finished.
    """
    folder, work = run_folder(results, run), work_folder(results, run)
    with held(results, run, stop=stop), threadpool_limits(1):
        earlier = read_attempt(work)
        with _told(folder):
            published = publish(run, results)
        if published and (not again or earlier is None or earlier.again):
            return folder
        if not again and finished(run, results):
            if earlier is None and not (work / TRANSCRIPT_FILE).exists():
                # What was killed before it was an attempt to make the run again.
                shutil.rmtree(work, ignore_errors=True)
            return folder
        with _told(folder):
            attempt = begin(run, results, again)
        try:
            _make(run, results, attempt, progress, checkpoint_seconds, stop, saved)
        except (Exception, SystemExit) as error:
            failure = failure_of(error)
            record_failure(work, failure.text, failure.bad_input)
            raise
        with _told(folder):
            publish(run, results)
    return folder


def _make(
    run: ResolvedRun,
    results: Path,
    attempt: Attempt,
    progress: Progress | None,
    checkpoint_seconds: float,
    stop: Stop | None,
    saved: Callable[[], None] | None,
) -> None:
    """Train, evaluate and write the record into the work folder of `run`."""
    folder, work = run_folder(results, run), work_folder(results, run)
    checkpoints = Checkpoints(work, fingerprint(run), seconds=checkpoint_seconds, saved=saved)
    with _told(folder):
        if checkpoints.kept is None:
            forget(folder, work)
        else:
            checkpoints.cut()
        (work / METRICS_FILE).touch()
        (work / CLOCK_FILE).touch()
    sink = QueuedSink(run.config.sink or "", run.sink)
    head = _head(run)
    criticism = Criticism(
        run,
        work,
        results,
        head,
        fresh=attempt.again and attempt.begun == 1,
        going_on=checkpoints.kept is not None,
    )
    with contextlib.closing(criticism), _finishing(sink) as finish:
        sink.start(
            {
                **head,
                "environment": environment().model_dump(mode="json"),
                "folder": str(folder),
                "files": str(work),
                "resumed": checkpoints.agent_steps,
                "attempt": f"{attempt.id}-{attempt.begun}",
            }
        )
        with opened(run.critic, criticism.session) as critic:
            training = _training(run, work, critic, checkpoints, sink, progress, stop)
            policy: Policy = run.algorithm.train(training)
            training_wall = training.seconds - training.evaluation_seconds
            training.finish(_usable(policy, run))
        if training.agent_steps > run.budget:
            raise PeerWattError(
                f"algorithm {run.algorithm_record.name!r} played {training.agent_steps:,} "
                f"agent-steps, more than its budget of {run.budget:,}."
            )
        with _told(folder):
            files = _save(policy, work, run)
        test, test_wall = _tested(run, work)
        usage, notes = criticism.usage(critic)
        notes = checkpoints.notes + notes
        spent = checkpoints.spent
        timings = Timings(
            wall=spent["wall"],
            cpu=spent["cpu"],
            training_wall=training_wall,
            evaluation_wall=test_wall + training.evaluation_seconds,
            agent_steps_per_second=(
                training.agent_steps / training_wall if training.agent_steps else None
            ),
            interruptions=attempt.begun - 1,
        )
        digests = {
            name: hashlib.sha256((work / name).read_bytes()).hexdigest()
            for name in sorted([*files, METRICS_FILE])
        }
        result = _record(run, training, test, timings, digests, usage, notes)
        finish(result)
        result = result.model_copy(update={"notes": notes + sink.notes})
        with _told(folder):
            for name in (*result.files, CLOCK_FILE, TRANSCRIPT_FILE):
                sync_file(work / name)
            write_whole(work / RESULT_FILE, (result.model_dump_json(indent=1) + "\n").encode())


def _training(
    run: ResolvedRun,
    work: Path,
    critic: Any,
    checkpoints: Checkpoints,
    sink: QueuedSink,
    progress: Progress | None,
    stop: Stop | None,
) -> TrainingRun:
    """Return the training of `run`, which begins where its checkpoint is."""
    return TrainingRun(
        run.task,
        seed=run.config.seed,
        budget=run.budget,
        critic=critic,
        shaping=run.config.shaping,
        mechanism=run.mechanism,
        validations=run.config.validations,
        folder=work,
        sink=sink,
        progress=None if progress is None else _with_calls(progress, critic),
        checkpoints=checkpoints if savable(critic) else None,
        stop=stop,
    )


def _tested(run: ResolvedRun, work: Path) -> tuple[Evaluation, float]:
    """Load the policy in `work` and play the test; return that and the seconds it took."""
    loaded: Policy = run.algorithm_plugin.spec.load_policy().load(work)
    began = time.perf_counter()
    # A task read anew: whatever training did to its own copy, the test is the card's.
    task = load_task(run.config.task)
    test = Evaluator(task, "test", mechanism=run.mechanism)(loaded, run.config.seed)
    return test, time.perf_counter() - began


def _record(
    run: ResolvedRun,
    training: TrainingRun,
    test: Evaluation,
    timings: Timings,
    files: dict[str, str],
    usage: CriticUsage | None,
    notes: list[str],
) -> RunResult:
    """Return the record of `run`; `files` are the SHA-256 of those that it made."""
    return RunResult(
        task=run.task_record,
        mechanism=run.mechanism_record,
        algorithm=run.algorithm_record,
        critic=run.critic_record,
        shaping={**vars(run.config.shaping)},
        seed=run.config.seed,
        budget=run.budget,
        agent_steps=training.agent_steps,
        validations=run.config.validations,
        config_hash=run.config_hash,
        households=list(run.task.community.groups),
        test=episode_record(test),
        curve=training.curve,
        timings=timings,
        environment=environment(),
        files=files,
        command=command_of(run),
        critic_usage=usage,
        notes=notes,
        created_utc=now(),
    )


def _usable(policy: Policy, run: ResolvedRun) -> Policy:
    """Return what an algorithm returned if it can be played and saved."""
    if not all(callable(getattr(policy, method, None)) for method in ("act", "save")):
        name = run.algorithm_record.name
        raise PeerWattError(
            f"algorithm {name!r}: train returns {shown(repr(policy), 60)}, expected a policy with "
            f"act and save; `peerwatt plugins doctor {name}` tells more."
        )
    return policy


def _save(policy: Policy, work: Path, run: ResolvedRun) -> list[str]:
    """Save `policy` in `work`; return the names of its files.

    Raises:
        PeerWattError: others could not safely read them: what it says must be JSON or tensors.
    """
    draft = work / ".policy"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir()
    policy.save(draft)
    names = sorted(file.name for file in draft.iterdir())
    others = [name for name in names if name != POLICY_FILE and not name.endswith(TENSORS)]
    if others or not (draft / POLICY_FILE).is_file():
        name = run.algorithm_record.name
        wrote = ", ".join(map(shown, others)) or f"no {POLICY_FILE}"
        shutil.rmtree(draft)
        raise PeerWattError(
            f"algorithm {name!r}: its policy wrote {wrote}, expected {POLICY_FILE} and, for large "
            f"arrays, *{TENSORS}; `peerwatt plugins doctor {name}` tells more."
        )
    for left in work.iterdir():  # of a policy that was saved just before an interruption
        if left.name == POLICY_FILE or left.name.endswith(TENSORS):
            left.unlink()
    for name in names:
        os.replace(draft / name, work / name)
    draft.rmdir()
    return names


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise PeerWattError(
            f"{folder}: files of this run went away while it was made, as if its folder had been "
            "removed: start the same command again."
        ) from error
    except OSError as error:
        raise PeerWattError(
            f"cannot write {folder}: {error.strerror or error}; see to the disk, or name another "
            "folder with --results."
        ) from error


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
def _finishing(sink: QueuedSink) -> Iterator[Callable[[RunResult], None]]:
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


def finished(run: ResolvedRun, results: Path) -> bool:
    """Return whether `results` holds a valid result of just this run, with all its files.

    A run that is being done anew with `--again` is not finished until that is.

    Raises:
        PeerWattError: it does, but was made by other code of the same version.
    """
    folder, work = run_folder(results, run), work_folder(results, run)
    if (work / RESULT_FILE).exists():  # killed on the way to its place
        with contextlib.suppress(BeingMade), held(results, run, seconds=0), _told(folder):
            publish(run, results)
    attempt = read_attempt(work)
    if attempt is not None and attempt.again:
        return False
    result = whole_result(run, folder)
    if result is None:
        return False
    for here, then in (
        (run.algorithm_record, result.algorithm),
        (run.critic_record, result.critic),
        (run.mechanism_record, result.mechanism),
    ):
        if here.source != then.source and all("sha256:" in str(p.source) for p in (here, then)):
            raise PeerWattError(
                f"{folder} was made by other code of {here.distribution} {here.version} than is "
                "installed: raise its version, or repeat the runs with --again."
            )
    return True


def warm_up(run: ResolvedRun) -> None:
    """Compile the kernels once, so that parallel workers find them in numba's cache."""
    market = VectorMarket(run.task, 1, mechanism=run.mechanism)
    market.reset()
    market.step(np.zeros((1, market.num_agents, 3), np.int64))
