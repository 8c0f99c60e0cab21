"""Replaying entries: what is found, what is tolerated, and whose code runs."""

import json
import subprocess
import sys

import pytest

from peerwatt.runs.provenance import environment
from peerwatt.runs.result import EpisodeMetrics
from peerwatt.submissions.validate import read_entry
from peerwatt.submissions.verify import bias, compare


def test_a_score_edited_with_all_hashes_made_true_is_found_by_the_replay(learner, submit):
    true = json.loads(learner.result(1).read_text())["test"]["metrics"]["ftb"][3]
    false = true - 0.001
    learner.edit(learner.result(1), lambda r: r["test"]["metrics"]["ftb"].__setitem__(3, false))
    learner.seal()
    assert submit("validate", learner.root)[0] == 0
    code, out, _ = submit("verify", learner.folder)
    assert code == 1
    assert "seed 0: equal" in out and "NOT reproduced: 1 of 2 seeds differs" in out
    assert f"seed 1: ftb of episode 3: recorded {false}, replayed {true}" in out
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


FORGED = "Linux-99-forged"


def forge(shop, change):
    """Change the record of every seed, and let all be from a platform that there is not."""

    def edit(result):
        result["environment"]["platform"] = FORGED
        change(result["test"])

    for number in range(len(shop.seeds())):
        shop.edit(shop.result(number), edit)
    shop.seal()


def raise_price(test):
    test["metrics"]["fpp"][3] -= 0.001


def lower_every_cost(test):
    test["cost"] = [cost - 1e-8 for cost in test["cost"]]


def test_a_scripted_trader_is_replayed_exactly_on_whatever_platform(trader, submit):
    forge(trader, raise_price)
    assert submit("validate", trader.root)[0] == 0
    code, out, _ = submit("verify", trader.folder)
    assert code == 1 and "NOT reproduced: 2 of 2 seeds differ" in out
    assert "fpp of episode 3" in out and "must be equal on every platform" in out


def test_no_cost_of_a_scripted_trader_is_rounded(trader, submit):
    forge(trader, lower_every_cost)
    assert submit("validate", trader.root)[0] == 0
    code, out, _ = submit("verify", trader.folder)
    assert code == 1 and "cost of episode" in out


def test_a_tolerated_difference_is_told_with_its_excuse(learner, submit):
    forge(learner, raise_price)
    code, out, _ = submit("verify", learner.folder)
    assert code == 0 and "reproduced within tolerance, NOT exactly: 2 of 2 seeds" in out
    assert "largest difference 0.001: seed 0: fpp of episode 3" in out
    assert f"platform '{FORGED}' (here '{environment().platform}')" in out
    assert "seed 1: within tolerance; welfare recorded " in out


def test_a_small_gain_in_every_episode_of_a_learner_is_no_rounding(learner, submit):
    forge(learner, lower_every_cost)
    assert submit("validate", learner.root)[0] == 0
    code, out, _ = submit("verify", learner.folder)
    assert code == 1 and "seed 0: within tolerance" in out
    assert "worse than the record in 64 of the 64 episodes whose cost differs" in out


@pytest.mark.parametrize("nvec", [[1, 3, 1], [1, 1, 1]])
def test_the_name_of_a_scripted_trader_cannot_be_played_by_another(trader, submit, nvec):
    for seed in trader.seeds():
        trader.edit(seed / "policy.json", lambda c: c.update(nvec=nvec))
    trader.seal()
    assert submit("validate", trader.root)[0] == 0
    code, out, err = submit("verify", trader.folder)
    assert code == 2 and "reproduced" not in out
    assert "seed-000/policy.json: is not what 'mid-quote' of PeerWatt" in err


def test_the_ends_of_lines_are_those_of_the_platform(trader, submit):
    for seed in trader.seeds():
        text = (seed / "policy.json").read_bytes()
        (seed / "policy.json").write_bytes(text.replace(b"\n", b"\r\n"))
    trader.seal()
    code, out, _ = submit("verify", trader.folder)
    assert code == 0 and "reproduced exactly" in out


def test_a_learned_policy_must_fit_the_actions_of_the_task(learner, submit):
    def other_heads(content):
        content["nvec"] = [sum(content["nvec"]) - 2, 1, 1]

    for seed in learner.seeds():
        learner.edit(seed / "policy.json", other_heads)
    learner.seal()
    code, _, err = submit("verify", learner.folder)
    assert code == 2 and "action heads of" in err and "pilot-v1 has" in err


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
    assert one.elsewhere and one.failure is None and len(one.differences) == 1
    here = run(environment().platform)
    assert compare(here, here.result.test).failure is None
    two = compare(here, changed(here, "fpp", 2, 1e-9))
    assert not two.elsewhere and "fpp of episode 2" in two.failure
    assert "same platform: must be equal" in two.failure


def test_a_package_that_nobody_knows_is_no_other_platform(run):
    here = run(environment().platform)
    packages = {**environment().packages, "anything": "1.0"}
    place = environment().model_copy(update={"packages": packages})
    result = here.result.model_copy(update={"environment": place})
    claimed = type(here)(here.path, here.raw, result)
    assert compare(claimed, changed(claimed, "fpp", 2, 1e-9)).failure is not None


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


def tipped(run, *amounts):
    """A seed, replayed with the costs of its first episodes changed."""
    test = run.result.test.model_dump()
    for episode, amount in enumerate(amounts):
        test["cost"][episode] += amount
    return compare(run, EpisodeMetrics(**test))


def test_rounding_in_both_directions_is_no_bias(run):
    seeds = [tipped(run(), *pair) for pair in ((0.01, -0.02), (-0.01, 0.01), (0.02,), (0.01,))]
    assert [one.failure for one in seeds] == [None] * 4
    assert sum(one.dearer for one in seeds) == 4 and sum(one.cheaper for one in seeds) == 2
    assert bias(seeds) is None and bias([]) is None


def test_tips_that_all_favour_the_record_are_bias(run):
    seeds = [tipped(run(), 0.001, 0.001) for _ in range(3)]
    assert bias(seeds) is None  # 6 of 6: a coin does so once in 64
    seeds.append(tipped(run(), 0.001))
    assert "in 7 of the 7 episodes" in bias(seeds)
    assert bias([tipped(run(), -0.001, -0.001) for _ in range(4)]) is None


@pytest.mark.parametrize(
    ("share", "tolerated"), [(0.0004, True), (0.0006, False), (-0.0006, False)]
)
def test_the_mean_welfare_moves_little(run, share, tolerated):
    test = run().result.test
    amount = share * (sum(test.grid_cost) - sum(test.oracle_cost))
    seeds = [tipped(run(), amount) for _ in range(2)]
    assert [one.failure for one in seeds] == [None, None]
    told = bias(seeds)
    assert told is None if tolerated else "the mean of the recorded welfare" in told
