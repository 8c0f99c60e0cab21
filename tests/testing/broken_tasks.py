"""Tasks that break one law each, beside a good one that they differ from in a line or two."""

import dataclasses
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from registering import register

from peerwatt.community import Task, load_card
from peerwatt.plugins import MechanismSpec, TaskSpec, hookimpl
from peerwatt.testing.communities import Size, write_card

REGISTERED = []


def registered(law, says, **changes):
    def rename(made):
        name = {"name": f"{made.__name__.replace('_', '-')}-v1"}
        return register(REGISTERED, TaskSpec, __name__, law, says, **(name | changes))(made)

    return rename


@hookimpl
def peerwatt_tasks():
    return [spec for *_, spec in REGISTERED]


@hookimpl
def peerwatt_mechanisms():
    factory = f"{__name__}:Embezzler"
    return [MechanismSpec(name="embezzler", factory=factory, summary="Pays sellers nothing.")]


def embezzle(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Let the first two fitting orders trade a quantum; the buyer's money goes nowhere."""
    traded[:] = 0
    payment[:] = 0
    for i in range(order.size):
        for j in range(order.size):
            if order[i] > 0 and order[j] < 0:
                traded[i], traded[j] = 1, -1
                payment[j] = -ticks[0]
                return 1, ticks[0] // 2, ticks[0] * ticks[0] // 2
    return 0, 0, 0


@dataclasses.dataclass(frozen=True)
class Embezzler:
    properties: ClassVar[frozenset] = frozenset({"budget-balanced"})
    clear: ClassVar = staticmethod(embezzle)

    def parameters(self):
        return ()


def make(name, kind=Task, edit=lambda card: card, **changes):
    """Return a task of `kind` whose community differs in `changes`."""
    with TemporaryDirectory() as folder:
        path = write_card(Path(folder), Size(5, True, 5, 3))
        path.write_text(edit(path.read_text().replace("conformance-5-storage", name)))
        task = load_card(path)
    community = dataclasses.replace(task.community, **changes)
    return kind(task.card, community, task.content_hash)


@registered("", "")
def good():
    return make("good")


@registered("spec", "must be a function without arguments", factory=f"{__name__}:REGISTERED")
def no_function():
    pass


@registered("loads", "returns dict: return a peerwatt.community.Task")
def no_task():
    return {}


@registered("name", "its card is named 'good-v1': give spec and card one name")
def misnamed():
    return make("good")


@registered("community", "community.load is int32 (600, 5): expected integers (672, 5)")
def short():
    return make("short", load=np.ones((600, 5), np.int32))


@registered("community", "community.load is float64 (672, 5)")
def fractional():
    return make("fractional", load=np.ones((672, 5)))


@registered("community", "community.pv is negative somewhere")
def negative():
    return make("negative", pv=np.full((672, 5), -1, np.int32))


@registered("community", "the bounds of a state of charge leave 0..capacity")
def overfull():
    return make("overfull", highest=np.full(5, 10**6))


@registered("community", "a battery would make energy of nothing")
def perpetual():
    return make("perpetual", efficiency=np.full(5, 1 << 17))


@registered("community", "is not below the lowest retail price")
def generous():
    return make("generous", feed_in=10**6)


@registered("community", "too large for exact 64-bit money")
def precise():
    return make("precise", retail=np.full(672, 1 << 30))


@registered("content-hash", "another content hash, of the same content")
def stamped():
    return dataclasses.replace(make("stamped"), content_hash=f"{time.time_ns():064x}")


@registered("content-hash", "loaded in another process it has another content: make it from files")
def by_process():
    generator = np.random.default_rng(os.getpid())
    return make("by-process", load=generator.integers(0, 2000, (672, 5), np.int32))


@registered("content-hash", "'abc' is no SHA-256 in hexadecimal")
def unhashed():
    return dataclasses.replace(make("unhashed"), content_hash="abc")


@registered("read-only", "community.load can be written to")
def writable():
    task = make("writable")
    object.__setattr__(task.community, "load", task.community.load.copy())
    return task


class Leaking(Task):
    def training_starts(self, split="train"):
        return np.concatenate(
            [super(Leaking, self).training_starts(s) for s in ("train", "validation")]
        )


@registered(
    "splits", "window of its train split, the day before or the slot after it, lies outside"
)
def leaking():
    return make("leaking", Leaking)


class Overlapping(Task):
    def evaluation_starts(self, split):
        return super().evaluation_starts(split)[0] + np.arange(6)


@registered("splits", "overlap")
def overlapping():
    return make("overlapping", Overlapping)


class Moody(Task):
    def training_starts(self, split="train"):
        return np.random.default_rng().permutation(super().training_starts(split))[:2]


@registered("seeds", "the same seed and actions give other episodes")
def moody():
    return make("moody", Moody)


class Single(Task):
    def training_starts(self, split="train"):
        return super().training_starts(split)[:1]


@registered("seeds", "two seeds give the same episodes")
def single():
    quiet = {"train_noise = 0.1": "train_noise = 0.0", "[market]": '[market]\nmechanism = "call"'}

    def edit(card):
        for old, new in quiet.items():
            card = card.replace(old, new)
        return card

    return make("single", Single, edit, pv=np.zeros((672, 5), np.int32))


class Counting(Task):
    def training_starts(self, split="train"):
        batch = sys._getframe(1).f_locals.get("num_envs", 1)
        return np.roll(super().training_starts(split), batch)


@registered("batches", "community 0 plays differently among 1 and among 8")
def counting():
    return make("counting", Counting)


@registered("conservation", "the payments of its mechanism 'embezzler' do not add up to zero")
def embezzled():
    add = '[market]\nmechanism = "embezzler"'
    return make("embezzled", edit=lambda card: card.replace("[market]", add))


class Shifting(Task):
    loads: ClassVar[list[int]] = []

    def evaluation_starts(self, split):
        self.loads.append(1)
        return np.roll(super().evaluation_starts(split), len(self.loads))


@registered("evaluation", "scenarios change from one load to the next")
def shifting():
    return make("shifting", Shifting)


class Reversed(Task):
    @property
    def money_unit(self):
        return -super().money_unit


@registered("scale", "the trader grid-only pays -")
def reversed_money():
    return make("reversed-money", Reversed)
