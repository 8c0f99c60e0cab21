"""Algorithms that misbehave: told what they did, and nothing of theirs is published."""

import re
import shutil
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from peerwatt.errors import PeerWattError
from peerwatt.plugins import loader
from peerwatt.plugins.loader import Registered
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute, finished
from peerwatt.runs.executors import Job, Orders, failure_of
from peerwatt.runs.executors.in_process import InProcessExecutor
from peerwatt.runs.executors.worker import work
from peerwatt.runs.locks import BeingMade
from peerwatt.runs.runner import run_all
from peerwatt.runs.state import run_state
from peerwatt.runs.stopping import Stop
from peerwatt.runs.store import read_result, run_folder
from peerwatt_algorithms.mid_quote import MidQuote


@dataclass(frozen=True)
class Overdraws:
    def train(self, run):
        market = run.envs(10)
        market.reset()
        for _ in range(20):
            market.step(np.zeros((10, 8, 3), np.int64))
        return MidQuote(nvec=market.action_nvec)


@dataclass(frozen=True)
class Raises:
    def train(self, run):
        raise ZeroDivisionError("in train")


class OutOfSpace(MidQuote):
    def act(self, observations, action_mask, generator):
        return super().act(observations, action_mask, generator) + 100


@dataclass(frozen=True)
class PlaysOutOfSpace:
    def train(self, run):
        return OutOfSpace(nvec=run.envs(1).action_nvec)


@dataclass(frozen=True)
class ChangesTheTask:
    def train(self, run):
        run.task.community.load[:] = 0
        return MidQuote(nvec=run.envs(1).action_nvec)


@dataclass(frozen=True)
class BoastsAndReportsNonsense:
    def train(self, run):
        market = run.envs(1)
        policy = MidQuote(nvec=market.action_nvec)
        for _ in range(5):
            run.report(policy, agent_steps_by_my_count=1e9, loss=float("nan"))
        return policy


def hostile():
    return resolve(RunConfig(task="pilot-v1", algorithm="hostile", budget=1000))


@pytest.fixture
def attempt(monkeypatch, tmp_path):
    def run(algorithm, policy=MidQuote):
        spec = SimpleNamespace(
            name="hostile", trainable=True, load=lambda: algorithm, load_policy=lambda: policy
        )
        names = loader.registry()["algorithm"]
        monkeypatch.setitem(names, "hostile", Registered(spec, "acme", "1"))
        return hostile(), execute(hostile(), tmp_path)

    return run


@pytest.mark.parametrize(
    ("algorithm", "policy", "error", "words"),
    [
        (Overdraws, MidQuote, PeerWattError, "'hostile' played 1,600 agent-steps, more than its"),
        (Raises, MidQuote, ZeroDivisionError, "in train"),
        (PlaysOutOfSpace, OutOfSpace, PeerWattError, "leaves its space"),
        (ChangesTheTask, MidQuote, ValueError, "read-only"),
    ],
)
def test_a_misbehaving_algorithm_publishes_nothing(
    attempt, tmp_path, algorithm, policy, error, words
):
    with pytest.raises(error, match=words):
        attempt(algorithm, policy)
    run = hostile()
    assert not run_folder(tmp_path, run).exists()
    assert not finished(run, tmp_path)
    state = run_state(run, tmp_path)
    assert state.kind == "failed" and re.search(words, state.failure)
    # Nothing is left that would keep it from being done again.
    with pytest.raises(error, match=words):
        execute(run, tmp_path)


def test_the_harness_counts_the_agent_steps_itself(attempt):
    _, folder = attempt(BoastsAndReportsNonsense)
    result = read_result(folder)
    assert result.agent_steps == 0
    assert [point.agent_steps for point in result.curve] == [0]
    assert "NaN" not in (folder / "metrics.jsonl").read_text()


def test_a_damaged_result_is_made_anew_and_kept_aside(attempt, tmp_path, caplog):
    run, folder = attempt(BoastsAndReportsNonsense)
    assert set(read_result(folder).files) == {"metrics.jsonl", "policy.json"}
    assert finished(run, tmp_path)
    result = (folder / "result.json").read_text()
    damages = [
        lambda: (folder / "policy.json").unlink(),
        lambda: (folder / "metrics.jsonl").write_text(""),
        lambda: (folder / "result.json").write_text(result[:100]),
        lambda: (folder / "result.json").write_text(result.replace('"seed": 0', '"seed": 1')),
    ]
    for number, damage in enumerate(damages, 1):
        damage()
        assert not finished(run, tmp_path)
        execute(run, tmp_path)
        assert finished(run, tmp_path)
        assert f"what was there is .seed-000.damaged-{number}." in caplog.text
    assert len(list(folder.parent.glob(".seed-000.damaged-*"))) == len(damages)


def test_only_bad_input_is_told_as_such(attempt):
    class RemovesItsFolder(BoastsAndReportsNonsense):
        def train(self, run):
            shutil.rmtree(run._folder)
            return super().train(run)

    with pytest.raises(PeerWattError, match="somebody removed or moved it") as caught:
        attempt(RemovesItsFolder)
    assert not failure_of(caught.value).bad_input
    assert not failure_of(MemoryError()).bad_input and not failure_of(BeingMade("")).bad_input
    assert failure_of(PeerWattError("")).bad_input


@dataclass(frozen=True)
class ReturnsNothing:
    def train(self, run):
        return None


class Pickles(MidQuote):
    def save(self, folder):
        (folder / "policy.pkl").write_bytes(b"...")


@dataclass(frozen=True)
class SavesAPickle:
    def train(self, run):
        return Pickles(nvec=run.envs(1).action_nvec)


@pytest.mark.parametrize(
    ("algorithm", "says"),
    [
        (ReturnsNothing, "train returns None, expected a policy with act and save"),
        (SavesAPickle, "its policy wrote policy.pkl, expected policy.json"),
    ],
)
def test_what_is_no_policy_is_told_in_a_sentence(attempt, tmp_path, algorithm, says):
    with pytest.raises(PeerWattError, match=says):
        attempt(algorithm)
    assert not list(tmp_path.rglob("*.pkl"))
    assert run_state(hostile(), tmp_path).failure.startswith("algorithm 'hostile': ")


def test_runs_made_by_other_code_of_the_same_version_are_not_taken_over(
    attempt, tmp_path, monkeypatch
):
    source = iter("ab")
    monkeypatch.setattr(
        "peerwatt.runs.config.source_of",
        lambda distribution, module: (
            f"local folder, code sha256:{next(source) if distribution == 'acme' else ''}"
        ),
    )
    run, _ = attempt(BoastsAndReportsNonsense)  # resolves twice: made by code b
    with pytest.raises(PeerWattError, match="made by other code of acme 1 than is installed"):
        finished(run, tmp_path)
    other = RunConfig("pilot-v1", "zi-c")
    monkeypatch.setattr("peerwatt.runs.runner.resolve_all", lambda configs: [run, resolve(other)])
    done = run_all([], tmp_path, console=Console(quiet=True), executor=InProcessExecutor())
    assert len(done.folders) == 1  # the other run went on
    assert [failure.bad_input for failure in done.failures.values()] == [True]


def test_a_worker_of_other_code_of_peerwatt_refuses(tmp_path):
    failure = work(Job(0, hostile, ""), Orders(tmp_path, 1, code="0" * 64), print, Stop())
    assert "code was changed while the runs were made" in failure.text and not failure.bad_input
