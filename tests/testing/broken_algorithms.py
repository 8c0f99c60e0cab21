"""Algorithms that break one law each, beside a good one that they differ from in a line or two."""

import json
import pickle
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import random as global_random
from registering import register

from peerwatt.env import BATTERY_ACTIONS
from peerwatt.errors import PeerWattError
from peerwatt.plugins import AlgorithmSpec, hookimpl

IDLE = BATTERY_ACTIONS.index("idle")
REGISTERED = []


def registered(law, says, policy="Policy", **changes):
    changes["policy"] = f"{__name__}:{policy}"
    return register(REGISTERED, AlgorithmSpec, __name__, law, says, **changes)


@hookimpl
def peerwatt_algorithms():
    return [spec for *_, spec in REGISTERED]


class Policy:
    """Quotes the price level that was learned, at times another one."""

    def __init__(self, nvec, level):
        self.nvec = tuple(nvec)
        self.level = level
        self.calls = 0

    def act(self, observations, action_mask, generator):
        actions = np.zeros((*observations.shape[:2], 3), np.int64)
        explore = generator.random(actions.shape[:2]) < 0.1
        actions[..., 0] = np.where(explore, 0, self.level)
        actions[..., 1] = self.nvec[1] - 1
        actions[..., 2] = IDLE if self.nvec[2] > 1 else 0
        return actions

    def content(self):
        return {"nvec": self.nvec, "level": self.level}

    def save(self, folder):
        (folder / "policy.json").write_text(json.dumps(self.content()))

    @classmethod
    def load(cls, folder):
        try:
            content = json.loads((folder / "policy.json").read_text())
            return cls([int(k) for k in content["nvec"]], int(content["level"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PeerWattError(f"cannot load {folder}: {error!r}.") from None


@registered("", "")
@dataclass(frozen=True)
class Good:
    """Keeps the price level with the highest mean reward of a few it drew."""

    num_envs: int = 10
    policy = Policy

    def train(self, run):
        env = run.envs(self.num_envs)
        env.reset()
        policy = self.policy(env.action_nvec, 0)
        best = -np.inf
        while run.agent_steps + env.num_envs * env.num_agents <= run.budget:
            shape = (env.num_envs, env.num_agents, 3)
            actions = self.draw(run, env.action_nvec, shape)
            level = int(actions[0, 0, 0])
            reward = float(env.step(actions).reward.mean())
            if reward > best:
                best, policy.level = reward, level
            run.report(policy, reward=reward)
            self.after_report(policy)
        return policy

    def draw(self, run, nvec, shape):
        return run.generator.integers(0, nvec, shape)

    def after_report(self, policy):
        pass


# Laws of every kind


@registered("spec", "can be changed after it was made")
@dataclass
class Changeable:
    num_envs: int = 4
    policy = Policy
    train = Good.train


@registered("spec", "must be a dataclass")
class Plain:
    policy = Policy
    train = Good.train


@registered("spec", "does not exist", factory=f"{__name__}:Absent")
class Missing(Plain):
    pass


@registered("spec", "give its spec a summary", summary=" ")
@dataclass(frozen=True)
class Nameless(Good):
    pass


@registered("options", "option 'needed' has no default")
@dataclass(frozen=True)
class Needy:
    needed: int
    policy = Policy


@registered("options", "option 'sizes' cannot stand in the record")
@dataclass(frozen=True)
class NotForRecord(Good):
    sizes: Any = frozenset({1})


@registered("options", "annotate it, num_envs: int = 8, or as a ClassVar if")
@dataclass(frozen=True)
class NotAnnotated(Good):
    num_envs = 8


@registered("options", "annotate it, width: float | None = None")
@dataclass(frozen=True)
class NotAnnotatedEither(Good):
    width = None


@registered("options", "no command line can be made")
@dataclass(frozen=True)
class NotForCommandLine(Good):
    rule: "NoSuchType" = None  # noqa: F821


# Training


@registered("trains", "ValueError: too few homes at broken_algorithms.py")
@dataclass(frozen=True)
class OnlyLarge(Good):
    def train(self, run):
        if run.task.community.size < 3:
            raise ValueError("too few homes")
        return super().train(run)


@registered("trains", "train returned NoneType, which has no method 'act'")
@dataclass(frozen=True)
class Forgetful(Good):
    def train(self, run):
        super().train(run)


@registered("trains", "has no method `train`")
@dataclass(frozen=True)
class Idle:
    policy = Policy


@registered("trains", "broken_algorithms:Good has no class method `load`", policy="Good")
@dataclass(frozen=True)
class WithoutLoad(Good):
    pass


@registered("budget", "more than its budget of agent-steps on 2 households without storage: count")
@dataclass(frozen=True)
class Overdrawn(Good):
    def train(self, run):
        policy = super().train(run)
        env = run.envs(1)
        env.reset()
        env.step(np.zeros((1, env.num_agents, 3), np.int64))
        return policy


@registered("budget", "leave the environment alone, or register it with", trainable=False)
@dataclass(frozen=True)
class FalselyScripted(Good):
    def train(self, run):
        env = run.envs(1)
        env.reset()
        env.step(np.zeros((1, env.num_agents, 3), np.int64))
        return Policy(env.action_nvec, 0)


@registered("generators", "train draws from or seeds the generator of numpy.random that the whole")
@dataclass(frozen=True)
class DrawsFromNumpy(Good):
    def draw(self, run, nvec, shape):
        return global_random.randint(0, nvec, shape)


@registered("generators", "train draws from or seeds the generator of random that the whole")
@dataclass(frozen=True)
class DrawsFromPython(Good):
    def draw(self, run, nvec, shape):
        return np.array([random.randrange(int(k)) for k in nvec]) + np.zeros(shape, np.int64)


@registered("generators", "train draws from or seeds the generator of numpy.random")
@dataclass(frozen=True)
class SeedsNumpy(DrawsFromNumpy):
    def train(self, run):
        global_random.seed(run.seed)
        return super().train(run)


class Noting(Policy):
    note = 0

    def content(self):
        return {**super().content(), "note": self.note}


@registered(
    "same-seed", "policy.json differs between two trainings with the same seed", policy="Noting"
)
@dataclass(frozen=True)
class DrawsFromTheSystem(Good):
    policy = Noting

    def train(self, run):
        policy = super().train(run)
        policy.note = int(np.random.default_rng().integers(2**40))
        return policy


@registered("processes", "in two processes: let nothing depend on hash()", policy="Noting")
@dataclass(frozen=True)
class Hashes(Good):
    policy = Noting

    def train(self, run):
        policy = super().train(run)
        policy.note = hash("some word") % 2**40
        return policy


@registered("", "")
@dataclass(frozen=True)
class Resumable(Good):
    """The same, and goes on from a checkpoint."""

    def train(self, run):
        env = run.envs(self.num_envs)
        policy = self.policy(env.action_nvec, 0)
        best = -np.inf
        if (kept := run.resume()) is None:
            env.reset()
        else:
            best, policy.level = self.put_back(kept)
        while run.agent_steps + env.num_envs * env.num_agents <= run.budget:
            shape = (env.num_envs, env.num_agents, 3)
            actions = self.draw(run, env.action_nvec, shape)
            level = int(actions[0, 0, 0])
            reward = float(env.step(actions).reward.mean())
            if reward > best:
                best, policy.level = reward, level
            run.report(policy, reward=reward)
            run.checkpoint(lambda best=best: self.state(run, best, policy))
        return policy

    def put_back(self, kept):
        return kept["best"], kept["level"]

    def state(self, run, best, policy):
        return {"best": best, "level": policy.level}


@registered("resume", "policy.json differs if training is interrupted at checkpoint")
@dataclass(frozen=True)
class LosesItsLevel(Resumable):
    def put_back(self, kept):
        return kept["best"], kept["level"] + 1


@registered("resume", "policy.json differs if checkpoints are saved on the way")
@dataclass(frozen=True)
class DrawsForTheCheckpoint(Resumable):
    def state(self, run, best, policy):
        run.generator.random()
        return super().state(run, best, policy)


@registered("resume", "policy.json differs if training is interrupted at checkpoint")
@dataclass(frozen=True)
class DrawsAfterResuming(Resumable):
    def train(self, run):
        resume = run.resume

        def resume_and_draw():
            kept = resume()
            run.generator.random()
            return kept

        run.resume = resume_and_draw
        return super().train(run)


@registered("trains", "calls run.checkpoint but did not call run.resume")
@dataclass(frozen=True)
class NeverResumes(Good):
    def train(self, run):
        run.checkpoint(dict)
        return super().train(run)


class Counting(Policy):
    def act(self, observations, action_mask, generator):
        self.calls += 1
        return super().act(observations, action_mask, generator)


@registered(
    "validation", "policy.json differs if the policy is validated along the way", policy="Counting"
)
@dataclass(frozen=True)
class LearnsFromValidation(Good):
    policy = Counting

    def train(self, run):
        policy = super().train(run)
        policy.level = min(policy.calls, 1)
        return policy


# Play


class Fractional(Policy):
    def act(self, observations, action_mask, generator):
        return super().act(observations, action_mask, generator) * 1.0


@registered(
    "actions",
    "act returns float64 (4, 2, 3) on 2 households without storage: return int",
    policy="Fractional",
)
@dataclass(frozen=True)
class Floats(Good):
    policy = Fractional


class Beyond(Policy):
    def act(self, observations, action_mask, generator):
        actions = super().act(observations, action_mask, generator)
        actions[1, 0, 0] = 11
        return actions


@registered(
    "actions",
    "act returns price level 11 on 2 households without storage, where it must",
    policy="Beyond",
)
@dataclass(frozen=True)
class OutsideTheSpace(Good):
    policy = Beyond


class Charging(Policy):
    def act(self, observations, action_mask, generator):
        actions = super().act(observations, action_mask, generator)
        actions[..., 2] = self.nvec[2] - 1
        return actions


@registered(
    "actions",
    "act returns battery level 7 ('charge') for household 1 on 2 households with storage, "
    "which has no battery: a home without a battery may only 'idle', and action_mask tells",
    policy="Charging",
)
@dataclass(frozen=True)
class OutsideTheMask(Good):
    policy = Charging


class Scaling(Policy):
    def act(self, observations, action_mask, generator):
        observations *= 0.5
        return super().act(observations, action_mask, generator)


@registered("observations", "act changes the observations or the mask in place", policy="Scaling")
@dataclass(frozen=True)
class Mutates(Good):
    policy = Scaling


class WritingBack(Policy):
    def act(self, observations, action_mask, generator):
        observations[...] = observations
        return super().act(observations, action_mask, generator)


@registered("observations", "work on a copy): ValueError", policy="WritingBack")
@dataclass(frozen=True)
class NeedsToWrite(Good):
    policy = WritingBack


class Moody(Policy):
    def act(self, observations, action_mask, generator):
        actions = super().act(observations, action_mask, generator)
        actions[..., 0] = global_random.randint(self.nvec[0])
        return actions


@registered("generators", "act draws from or seeds the generator of numpy.random", policy="Moody")
@dataclass(frozen=True)
class PlaysFromNumpy(Good):
    policy = Moody


class Erratic(Policy):
    def act(self, observations, action_mask, generator):
        return super().act(observations, action_mask, np.random.default_rng())


@registered("same-play", "twice and differs in slot", policy="Erratic")
@dataclass(frozen=True)
class PlaysFromTheSystem(Good):
    policy = Erratic


class Remembering(Policy):
    def act(self, observations, action_mask, generator):
        actions = super().act(observations, action_mask, generator)
        self.calls += 1
        actions[..., 0] = self.calls // 30 % 2
        return actions


@registered("memory", "act remembers an earlier episode: ", policy="Remembering")
@dataclass(frozen=True)
class Remembers(Good):
    policy = Remembering


class Learning(Policy):
    """Plays otherwise from its second episode on, and then always so."""

    def act(self, observations, action_mask, generator):
        actions = super().act(observations, action_mask, generator)
        self.calls += 1
        actions[..., 1] -= self.calls > 24
        return actions


@registered("memory", "act remembers an earlier episode: ", policy="Learning")
@dataclass(frozen=True)
class Learns(Good):
    policy = Learning


class Comparing(Policy):
    def act(self, observations, action_mask, generator):
        actions = super().act(observations, action_mask, generator)
        actions[..., 0] = observations[..., 0] > observations[..., 0].mean()
        return actions


@registered(
    "rows",
    "row 1 of a batch does on 2 households without storage depends on what other",
    policy="Comparing",
)
@dataclass(frozen=True)
class LooksAside(Good):
    policy = Comparing


# Files


class Forgetting(Policy):
    def __init__(self, nvec, level):
        super().__init__(nvec, level)
        self.share = 0

    def act(self, observations, action_mask, generator):
        actions = super().act(observations, action_mask, generator)
        actions[..., 1] = self.share
        return actions


@registered(
    "round-trip",
    "2 households without storage differently in slot 0, quantity of house",
    policy="Forgetting",
)
@dataclass(frozen=True)
class SavesHalf(Good):
    policy = Forgetting

    def train(self, run):
        policy = super().train(run)
        policy.share = 1
        return policy


class Pickled(Policy):
    def save(self, folder):
        super().save(folder)
        (folder / "policy.pkl").write_bytes(pickle.dumps(self.nvec))

    @classmethod
    def load(cls, folder):
        policy = super().load(folder)
        try:
            assert (folder / "policy.pkl").stat().st_size > 15
        except (OSError, AssertionError):
            raise PeerWattError("no pickle") from None
        return policy


@registered(
    "files",
    "what no entry may hold: policy.pkl: does not belong here",
    policy="Pickled",
)
@dataclass(frozen=True)
class Pickles(Good):
    policy = Pickled


class Disguised(Policy):
    def save(self, folder):
        super().save(folder)
        (folder / "policy.safetensors").write_bytes(pickle.dumps(self.nvec))

    @classmethod
    def load(cls, folder):
        policy = super().load(folder)
        try:
            assert (folder / "policy.safetensors").stat().st_size > 15
        except (OSError, AssertionError):
            raise PeerWattError("no pickle") from None
        return policy


@registered("files", "policy.safetensors: is no safetensors file", policy="Disguised")
@dataclass(frozen=True)
class DisguisesPickles(Good):
    policy = Disguised


class Infinite(Policy):
    def content(self):
        return {**super().content(), "loss": float("nan")}


@registered("files", "policy.json: holds NaN, which is no number of JSON", policy="Infinite")
@dataclass(frozen=True)
class WritesNaN(Good):
    policy = Infinite


class Large(Policy):
    def content(self):
        return {**super().content(), "buffer": "0" * 5_000_000}


@registered("files", "bytes are more than it may have (5,000,000); make it", policy="Large")
@dataclass(frozen=True)
class SavesItsBuffer(Good):
    policy = Large


class Stateful(Policy):
    def content(self):
        state = np.random.default_rng(0).bit_generator.state["state"]
        return {**super().content(), "generator": state}


@registered("files", "policy.json: holds a number of 38 characters", policy="Stateful")
@dataclass(frozen=True)
class SavesItsGenerator(Good):
    policy = Stateful


class WithTensors(Policy):
    dtype, shape, size = "F32", [2, 0], 0

    def save(self, folder):
        super().save(folder)
        tensor = {"dtype": self.dtype, "shape": self.shape, "data_offsets": [0, self.size]}
        header = json.dumps({"w": tensor}).encode()
        raw = len(header).to_bytes(8, "little") + header + bytes(self.size)
        (folder / "policy.safetensors").write_bytes(raw)

    @classmethod
    def load(cls, folder):
        policy = super().load(folder)
        try:
            raw = (folder / "policy.safetensors").read_bytes()
            (stop,) = [
                t["data_offsets"][1] for t in json.loads(raw[8 : len(raw) - cls.size]).values()
            ]
            assert stop == cls.size
        except (OSError, ValueError, AssertionError):
            raise PeerWattError("no tensors") from None
        return policy


@registered("files", "tensor 'w': must have a shape of at most 8 positive", policy="WithTensors")
@dataclass(frozen=True)
class SavesAnEmptyTensor(Good):
    policy = WithTensors


class OddTensors(WithTensors):
    dtype, shape, size = "F8_E4M3", [4], 4


@registered("files", "tensor 'w': has a dtype that is not allowed", policy="OddTensors")
@dataclass(frozen=True)
class SavesOddTensors(Good):
    policy = OddTensors


class Scattered(Policy):
    def save(self, folder):
        super().save(folder)
        for home in range(8):
            (folder / f"home-{home}.json").write_text("{}\n")

    @classmethod
    def load(cls, folder):
        policy = super().load(folder)
        for home in range(8):
            file = folder / f"home-{home}.json"
            if not file.exists() or file.read_text() != "{}\n":
                raise PeerWattError(f"no {file.name}")
        return policy


@registered("files", "save writes 9 files for 2 households", policy="Scattered")
@dataclass(frozen=True)
class SavesNineFiles(Good):
    policy = Scattered


class Misnamed(Policy):
    def save(self, folder):
        (folder / "entry.json").write_text(json.dumps(self.content()))

    @classmethod
    def load(cls, folder):
        if not (folder / "entry.json").exists():
            raise PeerWattError("no entry.json")
        (folder / "entry.json").rename(folder / "policy.json")
        return super().load(folder)


@registered("files", "save writes entry.json, which has another meaning", policy="Misnamed")
@dataclass(frozen=True)
class SavesAnEntry(Good):
    policy = Misnamed


class Silent(Policy):
    def save(self, folder):
        pass

    @classmethod
    def load(cls, folder):
        return cls((1, 1, 1), 0)


@registered("files", "save writes nothing", trainable=False, policy="Silent")
@dataclass(frozen=True)
class SavesNothing(Good):
    policy = Silent

    def train(self, run):
        return Abstaining((1, 1, 1), 0)


class Abstaining(Silent):
    def act(self, observations, action_mask, generator):
        actions = np.zeros((*observations.shape[:2], 3), np.int64)
        actions[..., 2] = IDLE if action_mask.shape[1] in (18, 23) else 0
        return actions


Silent.act = Abstaining.act


class Trusting(Policy):
    @classmethod
    def load(cls, folder):
        content = json.loads((folder / "policy.json").read_text())
        return cls(content["nvec"], content["level"])


@registered(
    "damaged-files",
    "where policy.json is missing, load raises FileNotFoundError",
    policy="Trusting",
)
@dataclass(frozen=True)
class Trusts(Good):
    policy = Trusting


class Lenient(Policy):
    @classmethod
    def load(cls, folder):
        try:
            content = json.loads((folder / "policy.json").read_text())
        except (OSError, ValueError) as error:
            raise PeerWattError(str(error)) from None
        return cls(content.get("nvec", (1, 1, 1)), content.get("level", 0))


@registered(
    "damaged-files",
    "where policy.json holds {} only, load returns a policy all the same",
    policy="Lenient",
)
@dataclass(frozen=True)
class FillsIn(Good):
    policy = Lenient
