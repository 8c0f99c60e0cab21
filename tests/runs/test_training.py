"""The harness's promises to whoever trains: determinism, isolation, shaping, budget."""

import functools
import json
import math

import numpy as np
import pytest

from peerwatt.env import VectorMarket
from peerwatt.errors import PeerWattError
from peerwatt.evaluation import Evaluator
from peerwatt.evaluation.metrics import METRICS
from peerwatt.fairness import FairnessScores, Shaping
from peerwatt.plugins.loader import load_task
from peerwatt.runs.checkpoint import pack, unpack
from peerwatt.runs.given import KEPT, Given, means
from peerwatt.runs.resume import Checkpoints
from peerwatt.runs.stopping import RunStopped, Stop
from peerwatt.runs.training import ShapedMarket, TrainingRun
from peerwatt_algorithms.ippo import IPPO, IPPOPolicy
from peerwatt_critics.none import NoCritic
from peerwatt_critics.rule import RuleCritic

SMALL = IPPO(num_envs=4, rollout_slots=24, hidden=(8,))
NO_WARM_UP = Shaping(warm=0.0, ramp=0.01)


@pytest.fixture(scope="module")
def task():
    return load_task("fontana-v1")


def train(task, *, seed=1, critic=None, shaping=NO_WARM_UP, algorithm=SMALL, **kwargs):
    budget = 4 * 24 * 15 * 6
    run = TrainingRun(
        task, seed=seed, budget=budget, critic=critic or NoCritic(), shaping=shaping, **kwargs
    )
    return run, algorithm.train(run)


def parameters(policy):
    return b"".join(p.numpy().tobytes() for p in policy.network.parameters)


def test_same_seed_same_bytes_and_other_seed_other_bytes(task):
    first = parameters(train(task)[1])
    assert parameters(train(task)[1]) == first
    assert parameters(train(task, seed=2)[1]) != first


def test_evaluation_on_or_off_changes_no_parameter(task):
    run, policy = train(task, validations=6)
    run.finish(policy)
    assert len(run.curve) == 6
    assert run.curve[-1].agent_steps == run.agent_steps
    silent, other = train(task, validations=0)
    assert not silent.curve
    assert parameters(policy) == parameters(other)


@pytest.mark.parametrize("critic", [NoCritic, RuleCritic])
def test_neither_number_nor_length_of_evaluations_changes_a_parameter(task, monkeypatch, critic):
    plain = parameters(train(task, validations=0, critic=critic())[1])
    for validations in (1, 10):
        assert parameters(train(task, validations=validations, critic=critic())[1]) == plain
    monkeypatch.setattr(
        "peerwatt.runs.training.Evaluator", functools.partial(Evaluator, episodes=3)
    )
    assert parameters(train(task, validations=3, critic=critic())[1]) == plain


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_reports_tell_what_critics_gave_and_every_metric_of_validations(task, tmp_path):
    for name in ("plain", "shaped"):
        (tmp_path / name).mkdir()
    train(task, folder=tmp_path / "plain", validations=2)
    shaping = Shaping(ftg=1, fbs=0, fpp=0, ftb=0, warm=0.5, ramp=0)
    run, _ = train(
        task, folder=tmp_path / "shaped", critic=Everything(), shaping=shaping, validations=2
    )
    plain, shaped = rows(tmp_path / "plain"), rows(tmp_path / "shaped")
    assert not any(name.startswith("critic_") for row in plain for name in row)
    assert not any(name.startswith("critic_") for row in shaped[:3] for name in row)
    names = ("critic_ftg", "critic_fbs", "critic_fpp", "critic_ftb", "critic_bonus")
    assert [[row[name] for name in names] for row in shaped[3:]] == [[1.0] * 5] * 3
    validated = [row for row in shaped if "validation_welfare" in row]
    assert len(validated) == len(run.curve) > 1
    expected = {"welfare", *METRICS}
    for row in validated:
        assert {n.removeprefix("validation_") for n in row if "validation_" in n} == expected
    assert not any("seconds" in row for row in shaped)
    clock = (tmp_path / "shaped" / "clock.jsonl").read_text().splitlines()
    steps = [json.loads(line)["agent_steps"] for line in clock]
    assert steps == [row["agent_steps"] for row in shaped]


def test_what_critics_gave_is_summed_alike_with_and_without_interruption():
    random = np.random.default_rng(0)
    slots = 2 * KEPT + 5
    scores = random.random((slots, 4, 3))
    scores[random.random(scores.shape) < 0.3] = np.nan
    scores[:, 3] = np.nan
    scores[::4] = np.nan
    bonuses = random.random((slots, 3, 5)).astype(np.float32)
    bonuses[::4] = 0  # of a slot without scores
    plain, stopped = Given(3, 5), Given(3, 5)
    for slot, bonus in zip(scores, bonuses, strict=True):
        for given in (plain, stopped):
            assert given.defined(FairnessScores(*slot)) == (not np.isnan(slot).all())
            if not np.isnan(slot).all():
                given.add(bonus)
        kept, stopped = unpack(pack(stopped.snapshot())), Given(3, 5)
        stopped.restore(kept)
    found = means([plain, Given(1, 5)])
    assert means([stopped, Given(1, 5)]) == found
    assert found["critic_ftb"] is None
    expected = [*np.nanmean(scores[:, :3], axis=(0, 2)), bonuses.mean()]
    names = ("critic_ftg", "critic_fbs", "critic_fpp", "critic_bonus")
    assert [found[name] for name in names] == pytest.approx(expected, rel=1e-6)
    assert means([plain]) == {}


def test_an_algorithm_that_makes_other_environments_cannot_resume(task, tmp_path):
    def run_with(*sizes):
        checkpoints = Checkpoints(tmp_path, {}, 0.0)
        run = TrainingRun(
            task,
            seed=1,
            budget=100,
            critic=NoCritic(),
            shaping=Shaping(),
            checkpoints=checkpoints,
        )
        for size in sizes:
            run.envs(size).reset()
        return run

    run = run_with(2, 3)
    assert run.resume() is None
    run.checkpoint(lambda: {"x": 1})
    run = run_with(2, 3)
    assert run.resume() == {"x": 1}
    with pytest.raises(PeerWattError, match=r"calls run\.resume twice"):
        run.resume()
    with pytest.raises(PeerWattError, match=r"calls run\.envs after run\.resume"):
        run.envs(1)
    with pytest.raises(PeerWattError, match="with 1 environments made, but the checkpoint has 2"):
        run_with(2).resume()
    with pytest.raises(PeerWattError, match="num_envs 3, but that of the snapshot has 2"):
        run_with(3, 2).resume()


def test_a_stop_waits_for_the_next_checkpoint_but_not_long(task, tmp_path, monkeypatch):
    stop = Stop()
    run = TrainingRun(
        task,
        seed=1,
        budget=10**6,
        critic=NoCritic(),
        shaping=Shaping(),
        checkpoints=Checkpoints(tmp_path, {}, math.inf),
        stop=stop,
    )
    env = run.envs(1)
    run.resume()
    env.reset()
    actions = np.zeros((1, 15, 3), np.int64)
    stop.ask()
    env.step(actions)
    with pytest.raises(RunStopped):
        run.checkpoint(dict)
    assert Checkpoints(tmp_path, {}, 0.0).agent_steps == 15
    monkeypatch.setattr("peerwatt.runs.training.STOP_SECONDS", 0.0)
    with pytest.raises(RunStopped):
        env.step(actions)


def test_the_curve_ends_with_the_returned_policy(task):
    """A budget that is no multiple of a rollout ends between two validations."""
    budget = 4 * 24 * 15 * 6 + 100
    run = TrainingRun(
        task, seed=1, budget=budget, critic=NoCritic(), shaping=NO_WARM_UP, validations=3
    )
    policy = SMALL.train(run)
    steps = [point.agent_steps for point in run.curve]
    assert steps[-1] < run.agent_steps < budget
    run.finish(policy)
    assert [point.agent_steps for point in run.curve] == [*steps, run.agent_steps]


def test_other_environments_in_the_process_change_nothing(task):
    first = parameters(train(task)[1])
    neighbour = VectorMarket(task, 3, seed=1)
    neighbour.reset()
    np.random.seed(0)
    neighbour.step(np.zeros((3, 15, 3), np.int64))
    assert parameters(train(task)[1]) == first


def test_the_critic_none_adds_nothing_and_the_rule_critic_something(task):
    plain, shaped = train(task)[1], train(task, critic=RuleCritic())[1]
    assert parameters(plain) != parameters(shaped)
    off = Shaping(ftg=0, fbs=0, fpp=0, ftb=0)
    assert parameters(train(task, critic=RuleCritic(), shaping=off)[1]) == parameters(plain)


class Everything:
    """Gives every score its largest value."""

    def score(self, slots):
        ones = np.ones(len(slots.feed_in))
        return FairnessScores(ones, ones, ones, ones)


def test_bonus_goes_to_the_roles_of_the_net_load_and_follows_the_ramp(task):
    shaping = Shaping(ftg=1, fbs=10, fpp=100, ftb=1000, warm=0.0, ramp=1.0)
    budget = 4 * 15 * 10
    shaped = ShapedMarket(task, 4, critic=Everything(), shaping=shaping, budget=budget, seed=3)
    plain = VectorMarket(task, 4, seed=3)
    shaped.reset(), plain.reset()
    actions = np.zeros((4, 15, 3), np.int64)
    for step in range(10):
        ours, theirs = shaped.step(actions), plain.step(actions)
        net = (theirs.slot.pv - theirs.slot.load).reshape(4, 15)
        expected = (101 + 10 * (net > 0) + 1000 * (net < 0)) * step / 10
        np.testing.assert_allclose(ours.reward - theirs.reward, expected, rtol=1e-4, atol=1e-3)


def test_the_policy_that_was_saved_plays_as_the_one_in_memory(task, tmp_path):
    _, policy = train(task)
    policy.save(tmp_path)
    again = IPPOPolicy.load(tmp_path)
    evaluator = Evaluator(task, "validation", episodes=4)
    for kind in (policy, again):
        kind.greedy = False
    np.testing.assert_array_equal(evaluator(policy, 0).cost, evaluator(again, 0).cost)


@pytest.mark.parametrize("damage", ["missing", "pickle", "shape", "nan", "json"])
def test_a_damaged_policy_is_refused(task, tmp_path, damage):
    from safetensors.numpy import load_file, save_file

    _, policy = train(task)
    policy.save(tmp_path)
    file = tmp_path / "policy.safetensors"
    tensors = load_file(file)
    if damage == "missing":
        file.unlink()
    elif damage == "pickle":
        file.write_bytes(b"\x80\x04\x95")
    elif damage == "json":
        (tmp_path / "policy.json").write_text('{"sizes": [1]}')
    else:
        tensors["0"] = (
            tensors["0"][:, :, :-1].copy() if damage == "shape" else tensors["0"] * np.nan
        )
        save_file(tensors, file)
    with pytest.raises(PeerWattError, match="cannot load the ippo policy"):
        IPPOPolicy.load(tmp_path)


def test_a_budget_below_one_rollout_is_an_error(task):
    run = TrainingRun(task, seed=0, budget=10, critic=NoCritic(), shaping=NO_WARM_UP)
    with pytest.raises(PeerWattError, match="budget 10 is less than one rollout"):
        SMALL.train(run)


def test_kl_stop_and_clip_scaling_take_effect(task):
    import dataclasses

    plain = parameters(train(task)[1])
    stopped = dataclasses.replace(SMALL, target_kl=1e-9)
    scaled = dataclasses.replace(SMALL, scale_clip_by_agents=True)
    assert parameters(train(task, algorithm=stopped)[1]) != plain
    assert parameters(train(task, algorithm=scaled)[1]) != plain
