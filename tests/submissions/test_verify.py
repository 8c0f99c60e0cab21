"""Replaying entries: what is found, what is tolerated, and whose code runs."""

import json
import subprocess
import sys

import pytest

from peerwatt.runs.provenance import environment
from peerwatt.runs.result import EpisodeMetrics
from peerwatt.submissions.validate import read_entry
from peerwatt.submissions.verify import compare


def test_a_score_edited_with_all_hashes_made_true_is_found_by_the_replay(learner, submit):
    true = json.loads(learner.result(1).read_text())["test"]["metrics"]["ftg"][3]
    false = true - 0.001
    learner.edit(learner.result(1), lambda r: r["test"]["metrics"]["ftg"].__setitem__(3, false))
    learner.seal()
    assert submit("validate", learner.root)[0] == 0
    code, out, _ = submit("verify", learner.folder)
    assert code == 1
    assert "seed 0: equal" in out and "NOT reproduced: 1 of 2 seeds differ" in out
    assert f"seed 1: ftg of episode 3: recorded {false}, replayed {true}" in out
    assert "same platform" in out


def test_a_policy_exchanged_with_all_hashes_made_true_is_found_by_the_replay(learner, submit):
    for name in ("policy.safetensors", "policy.json"):
        one, other = (learner.seed(n) / name for n in (0, 1))
        swapped = one.read_bytes(), other.read_bytes()
        other.write_bytes(swapped[0])
        one.write_bytes(swapped[1])
    learner.seal()
    assert submit("validate", learner.root)[0] == 0
    code, out, _ = submit("verify", learner.folder)
    assert code == 1 and "NOT reproduced: 2 of 2 seeds differ" in out


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c.update(households=0), "0 is no whole number from 1"),
        (lambda c: c.update(households=True), "True is no whole number"),
        (lambda c: c.update(sizes=[10**9, 10**9]), "is no whole number from 1"),
        (lambda c: c.update(sizes=[100_000, 100_000]), "do not have the shapes"),
        (lambda c: c.update(nvec=[10**9] * 3), "is no whole number from 1"),
        (lambda c: c.update(nvec=[]), "0 heads"),
        (lambda c: c.pop("greedy"), "greedy"),
    ],
)
def test_a_policy_that_would_be_vast_is_refused_small(learner, submit, change, problem):
    for seed in learner.seeds():
        learner.edit(seed / "policy.json", change)
    learner.seal()
    code, _, err = submit("verify", learner.folder)
    assert code == 2 and "cannot be replayed" in err and problem in err


def test_a_stranger_s_code_runs_only_when_told_to(learner, submit):
    def stranger(content):
        content["algorithm"].update(distribution="ada-traders", version="1.2")

    learner.edit_all(stranger)
    learner.seal()
    assert submit("validate", learner.root)[0] == 0
    code, out, err = submit("verify", learner.folder)
    assert code == 2 and out == ""
    assert "the algorithm 'ippo' of ada-traders 1.2" in err and "--run-code" in err
    code, out, err = submit("verify", learner.folder, "--run-code")
    assert "runs code of a stranger: the algorithm 'ippo' of ada-traders 1.2" in out
    assert code == 2 and "pip install 'ada-traders==1.2'" in err


STRANGER = """
from peerwatt.plugins import AlgorithmSpec, hookimpl

@hookimpl
def peerwatt_algorithms():
    path = "peerwatt_algorithms.ippo:IPPO"
    return [AlgorithmSpec(name="ippo", factory=path, policy=path + "Policy", summary="Ada's.")]
"""


def test_a_stranger_s_module_is_imported_only_when_told_to(learner, tmp_path):
    learner.edit_all(lambda c: c["algorithm"].update(distribution="ada-traders", version="1.2"))
    learner.seal()
    site = tmp_path / "site"
    (site / "ada_traders-1.2.dist-info").mkdir(parents=True)
    (site / "ada_traders.py").write_text(STRANGER)
    for name, text in (
        ("METADATA", "Metadata-Version: 2.1\nName: ada-traders\nVersion: 1.2\n"),
        ("entry_points.txt", "[peerwatt]\nada = ada_traders\n"),
    ):
        (site / "ada_traders-1.2.dist-info" / name).write_text(text)
    script = f"""
import os, sys
sys.path.append({str(site)!r})
from peerwatt.cli.main import dispatch
from peerwatt.errors import PeerWattError
folder = {str(learner.folder)!r}
dispatch(["submit", "validate", folder])
assert not {{"torch", "safetensors"}} & set(sys.modules), "needed to validate"
try:
    dispatch(["submit", "verify", folder])
except PeerWattError as error:
    print(error)
assert "ada_traders" not in sys.modules
os.environ.pop("PEERWATT_PLUGINS")
dispatch(["submit", "verify", folder, "--run-code"])
assert "ada_traders" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "say --run-code" in done.stdout
    assert "reproduced exactly: 2 of 2 seeds" in done.stdout


def test_another_version_is_told(trader, submit):
    trader.edit_all(lambda c: c["algorithm"].update(version="0.0.9"))
    trader.seal()
    code, out, err = submit("verify", trader.folder)
    assert code == 0 and "reproduced exactly" in out
    assert "was version 0.0.9, and 0.1.0 is installed" in err


@pytest.fixture
def run(packed):
    """A function that changes where a run was made, and returns it with its true episodes."""
    first = read_entry(packed["ippo"]).runs[0]

    def make(platform="Windows-3.11"):
        place = first.result.environment.model_copy(update={"platform": platform})
        result = first.result.model_copy(update={"environment": place})
        return type(first)(first.path, first.raw, result)

    return make


def changed(run, name, episode, amount):
    test = run.result.test.model_dump()
    column = test[name] if name in test else test["metrics"][name]
    column[episode] += amount
    return EpisodeMetrics(**test)


def test_rounding_is_tolerated_on_another_platform_only(run):
    there = run()
    one = compare(there, changed(there, "fpp", 2, 1e-9))
    assert not one.must_be_exact and one.failure is None and len(one.differences) == 1
    here = run(environment().platform)
    assert compare(here, here.result.test).failure is None
    two = compare(here, changed(here, "fpp", 2, 1e-9))
    assert two.must_be_exact and two.failure.metric == "fpp"


@pytest.mark.parametrize(
    ("name", "amount", "tolerated"),
    [
        ("ftg", -0.04, True),  # a near tie that tipped
        ("ftg", -0.06, False),
        ("cost", 0.01, True),
        ("cost", 5.0, False),
        ("volume_kwh", -0.01, True),
        ("grid_cost", 0.001, False),  # no policy can change it
        ("oracle_cost", 0.001, False),
    ],
)
def test_the_tolerance_on_another_platform(run, name, amount, tolerated):
    there = run()
    outcome = compare(there, changed(there, name, 5, amount))
    assert (outcome.failure is None) == tolerated
    assert outcome.differences[0].metric == name and outcome.differences[0].episode == 5


def test_few_episodes_may_tip(run):
    there = run()
    test = there.result.test.model_dump()
    for episode in range(3):  # of 32: two may
        test["metrics"]["ftb"][episode] -= 0.01
    outcome = compare(there, EpisodeMetrics(**test))
    assert "3 episodes differ, where 2 may" in outcome.failure
