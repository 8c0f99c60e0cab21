"""Laws of tasks: what a run may rely on, and what makes runs of the same task comparable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import combinations
from typing import Any

import numpy as np

from peerwatt.community import Split, Task
from peerwatt.community.card import SPLITS
from peerwatt.community.task import EFFICIENCY_ONE
from peerwatt.env import Scenarios, Slot, VectorMarket, evaluation_scenarios
from peerwatt.evaluation import Evaluation, Evaluator
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import build, load_mechanism, registry
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.training import TrainingRun
from peerwatt.testing.communities import digest
from peerwatt.testing.frame import Check, Subject, during

_HELD_OUT: tuple[Split, ...] = ("validation", "test")
_TOLERANCE = 1e-9  # of costs, relative: the optimum is a solver's


def _load(examined: Subject) -> Task:
    task = examined.spec.load()()
    examined.require(
        isinstance(task, Task),
        f"{examined.spec.factory} returns {type(task).__name__}: return a peerwatt.community.Task, "
        "such as load_card(path) gives.",
    )
    loaded: Task = task
    return loaded


def _task(examined: Subject) -> Task:
    return examined.once("task", lambda: _load(examined))


def _check_loads(examined: Subject) -> None:
    _task(examined)


def _check_name(examined: Subject) -> None:
    task = _task(examined)
    examined.require(
        task.name == examined.spec.name,
        f"its card is named {task.name!r}: give spec and card one name.",
    )


def _check_community(examined: Subject) -> None:
    task = _task(examined)
    community = task.community
    days, n = len(community.sunny), community.size
    slots = days * task.slots_per_day
    shapes: dict[str, tuple[int, ...]] = {
        "load": (slots, n), "pv": (slots, n), "retail": (slots,),
        "capacity": (n,), "power": (n,), "efficiency": (n,), "lowest": (n,), "highest": (n,),
        "sunny": (days,), "weekday": (days,),
    }  # fmt: skip
    for name, shape in shapes.items():
        array = getattr(community, name)
        examined.require(
            isinstance(array, np.ndarray) and array.dtype.kind == "i" and array.shape == shape,
            f"community.{name} is {array.dtype} {array.shape}: expected integers {shape}.",
        )
        examined.require(not (array < 0).any(), f"community.{name} is negative somewhere.")
    examined.require(
        len(community.homes) == n, f"it has {len(community.homes)} homes and {n} groups."
    )
    energy = (
        3.0 * np.maximum(community.load, community.pv).sum(axis=1).max() + community.power.sum()
    )
    examined.require(
        energy * float(community.retail.max()) ** 2 < 2.0**62,
        "its energy and prices are too large for exact 64-bit money: state a larger tariff.tick.",
    )
    examined.require(
        community.feed_in < community.retail.min(),
        f"the feed-in tariff of {community.feed_in} ticks is not below the lowest retail price of "
        f"{community.retail.min()}: no trade inside the community would pay.",
    )
    examined.require(
        (community.lowest <= community.highest).all()
        and (community.highest <= community.capacity).all(),
        "the bounds of a state of charge leave 0..capacity: mend lowest and highest.",
    )
    has = community.capacity > 0
    examined.require(
        (community.efficiency[has] > 0).all() and (community.efficiency <= EFFICIENCY_ONE).all(),
        f"an efficiency leaves 1..{EFFICIENCY_ONE} (in 1/{EFFICIENCY_ONE}): a battery would make "
        "energy of nothing.",
    )


_DIGEST = """
import json, sys
path, name = json.loads(sys.argv[1])
sys.path[:] = path
from peerwatt.plugins.loader import find
from peerwatt.testing.communities import digest
task = find("task", name).spec.load()()
print(json.dumps([task.content_hash, digest(task)]))
"""


def _check_hash(examined: Subject) -> None:
    task = _task(examined)
    again = _load(examined)
    name = f"{examined.plugin.distribution}:{examined.spec.name}"
    done = subprocess.run(
        [sys.executable, "-c", _DIGEST, json.dumps([sys.path, name])],
        capture_output=True,
        text=True,
        timeout=300,
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    examined.require(done.returncode == 0, f"it cannot be loaded in another process: {last}.")
    there = tuple(json.loads(done.stdout.splitlines()[-1]))
    here = (task.content_hash, digest(task))
    for place, found in (
        ("a second time", (again.content_hash, digest(again))),
        ("in another process", there),
    ):
        examined.require(
            found[1] == here[1],
            f"loaded {place} it has another content: make it from files or a fixed seed, and let "
            "nothing depend on time, random numbers or the order of a set.",
        )
        examined.require(
            found[0] == here[0],
            f"loaded {place} it has another content hash, of the same content: hash the card and "
            "the data only, as load_card does.",
        )
    examined.require(
        len(here[0]) == 64 and set(here[0]) <= set("0123456789abcdef"),
        f"its content hash {here[0]!r} is no SHA-256 in hexadecimal.",
    )


def _check_read_only(examined: Subject) -> None:
    community = _task(examined).community
    for field in fields(community):
        value = getattr(community, field.name)
        examined.require(
            not isinstance(value, np.ndarray) or not value.flags.writeable,
            f"community.{field.name} can be written to, so an algorithm could change the task: "
            "call setflags(write=False).",
        )


def _check_splits(examined: Subject) -> None:
    task = _task(examined)
    slots, day, horizon = len(task.community.retail), task.slots_per_day, task.horizon
    seen: dict[Split, set[int]] = {}
    for split in SPLITS:
        training, held_out = task.training_starts(split), task.evaluation_starts(split)
        needed = task.card.evaluation.episodes if split in _HELD_OUT else 1
        examined.require(
            len(held_out) >= needed and (split in _HELD_OUT or len(training)),
            f"its {split} split has {len(held_out)} windows and needs {needed}: give it more data, "
            "or fewer evaluation.episodes.",
        )
        # The forecast is of the day before; only training looks at the slot after.
        windows = [(start - day, start + horizon + 1) for start in training.tolist()]
        windows += [(start - day, start + horizon) for start in held_out.tolist()]
        examined.require(
            all(first >= 0 and last <= slots for first, last in windows),
            f"a window of its {split} split leaves the profiles of {slots} slots.",
        )
        weeks = set(task.weeks(split))
        rows = {row for first, last in windows for row in range(first, last)}
        examined.require(
            {row // (7 * day) for row in rows} <= weeks,
            f"a window of its {split} split, the day before or the slot after it, lies outside the "
            f"weeks of that split.",
        )
        examined.require(
            (np.diff(np.sort(held_out)) >= horizon).all(),
            f"windows of the evaluation on its {split} split overlap.",
        )
        seen[split] = rows
    for one, other in combinations(SPLITS, 2):
        examined.require(
            not seen[one] & seen[other],
            f"its {one} and {other} splits share slots: deal every week to one split.",
        )


def _random_play(market: VectorMarket, slots: int) -> Iterator[tuple[Any, ...]]:
    """Yield copies of all that the communities of `market` show under random actions.

    What community b does is the same whatever the number of communities.
    """
    n = market.num_agents
    draws = [np.random.default_rng([3, b]) for b in range(market.num_envs)]
    yield (market.reset().copy(),)
    for _ in range(slots):
        actions = np.stack([draw.integers(0, market.action_nvec, (n, 3)) for draw in draws])
        step = market.step(actions)
        records = (field.reshape(market.num_envs, -1).copy() for field in step.slot)
        yield (step.observation.copy(), step.reward.copy(), step.truncated.copy(), *records)


def _alike(one: Iterator[tuple[Any, ...]], other: Iterator[tuple[Any, ...]], b: int) -> bool:
    """Return whether community `b` shows the same in both."""
    return all(
        all(np.array_equal(x[b], y[b]) for x, y in zip(here, there, strict=True))
        for here, there in zip(one, other, strict=True)
    )


def _check_seeds(examined: Subject) -> None:
    task = _task(examined)
    slots = 2 * task.horizon + 3

    def play(seed: int) -> Iterator[tuple[Any, ...]]:
        return _random_play(VectorMarket(task, seed=seed), slots)

    examined.require(
        _alike(play(1), play(1), 0),
        "the same seed and actions give other episodes: keep no state in the task.",
    )
    examined.require(
        not _alike(play(1), play(2), 0),
        "two seeds give the same episodes: give it more than one training window, or "
        "profiles.train_noise.",
    )


def _check_batches(examined: Subject) -> None:
    task = _task(examined)
    slots = task.horizon + 3
    for b, small, large in ((0, 1, 8), (2, 3, 8)):
        examined.require(
            _alike(
                _random_play(VectorMarket(task, small, seed=1), slots),
                _random_play(VectorMarket(task, large, seed=1), slots),
                b,
            ),
            f"community {b} plays differently among {small} and among {large}.",
        )


def _check_conservation(examined: Subject) -> None:
    task = _task(examined)
    community = task.community
    name, options = task.card.market.mechanism_choice
    promised = load_mechanism(name, options).properties
    balanced = "budget-balanced" in promised
    never_pays = balanced or "no-deficit" in promised
    market = VectorMarket(task, 4, seed=1)
    charged = np.tile(community.lowest, (4, 1))
    steps = _random_play(market, task.horizon + 3)
    next(steps)
    for _, _, truncated, *records in steps:
        slot = Slot(*records)
        sold, bought = np.maximum(slot.traded, 0), np.maximum(-slot.traded, 0)
        rest = slot.position - slot.traded
        paid_in = slot.payment.sum(axis=1)
        laws = {
            "a household's energy does not add up: load + charge + sold + exported must equal PV + "
            "discharge + bought + imported": np.array_equal(
                slot.load + slot.charge + sold + np.maximum(rest, 0),
                slot.pv + slot.discharge + bought + np.maximum(-rest, 0),
            ),
            "what is bought is not what is sold": np.array_equal(
                sold.sum(axis=1), bought.sum(axis=1)
            ),
            f"the payments of its mechanism {name!r} do not add up to zero": (
                not balanced or not paid_in.any()
            ),
            f"its mechanism {name!r} pays out more than it takes": (
                not never_pays or not (paid_in > 0).any()
            ),
        }
        charged = charged + slot.stored
        laws["a state of charge leaves its bounds"] = bool(
            ((charged >= community.lowest) & (charged <= community.highest)).all()
        )
        charged[truncated] = community.lowest
        for broken, holds in laws.items():
            examined.require(holds, f"{broken}, under random play.")


def _trader(task: Task, name: str) -> Any:
    """Return the policy of the scripted trader `name` of PeerWatt for `task`."""
    plugin = registry().qualified["algorithm"][f"{PROJECT}:{name}"]
    critic: Any = None  # shapes nothing: scripted traders are not rewarded
    run = TrainingRun(task, seed=0, budget=0, critic=critic, shaping=Shaping(), validations=0)
    return build("algorithm", plugin, {}).train(run)


def _check_evaluation(examined: Subject) -> None:
    task, again = _task(examined), _load(examined)
    for split in _HELD_OUT:
        one, other = (evaluation_scenarios(each, split) for each in (task, again))
        examined.require(
            all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)),
            f"its {split} scenarios change from one load to the next.",
        )
    few = evaluation_scenarios(task, "validation", 1)
    trader = _trader(task, "zi-c")
    first, second = (
        Evaluator(each, "validation", scenarios=few)(trader, 0) for each in (task, again)
    )
    examined.require(
        np.array_equal(first.savings, second.savings),
        "the same policy is evaluated differently another time: keep no state in the task.",
    )


def _check_scale(examined: Subject) -> None:
    task = _task(examined)
    scenarios: Scenarios = evaluation_scenarios(task, "test")
    evaluator = Evaluator(task, "test", scenarios=scenarios)
    lossy = _loses_by_storing(task)
    for name, plugin in registry()["algorithm"].items():
        if plugin.distribution != PROJECT or plugin.spec.trainable:
            continue
        with during(f"played by {name}"):
            result: Evaluation = evaluator(_trader(task, name), 0)
        cost, grid, least = (
            float(values.sum()) for values in (result.cost, result.grid_cost, result.oracle_cost)
        )
        slack = _TOLERANCE * max(1.0, float(np.abs(result.grid_cost).sum()))
        examined.require(
            least <= cost + slack,
            f"the trader {name} pays {cost:.6g} on the test split, less than the optimum of "
            f"{least:.6g}: the optimum does not know all that the community can do.",
        )
        cycles = result.metrics["battery_cycles"]
        stores = bool(np.nansum(cycles) > 0 or result.metrics["stored_at_end_kwh"].any())
        if stores and (lossy or result.metrics["stored_at_end_kwh"].any()):
            continue
        examined.require(
            cost <= grid + slack,
            f"the trader {name} pays {cost:.6g} on the test split, more than the {grid:.6g} of the "
            "grid alone: every kWh that is traded should be worth retail less feed-in.",
        )
        if name == "grid-only":
            examined.require(
                abs(cost - grid) <= slack, "grid-only pays another bill than that of the grid."
            )


def _loses_by_storing(task: Task) -> bool:
    """Return whether a kWh that is stored and then used may be worth less than if exported."""
    community = task.community
    efficiency = community.efficiency / EFFICIENCY_ONE
    return bool((community.retail.min() * efficiency**2 < community.feed_in).any())


_COMMUNITY = ("loads", "community")

CHECKS = (
    Check("loads", "The factory returns a task.", _check_loads),
    Check(
        "name",
        "Its card has the name under which it is registered.",
        _check_name,
        needs=("loads",),
    ),
    Check(
        "community",
        "Its community is integers of the right shapes, with prices and bounds that make sense.",
        _check_community,
        needs=("loads",),
    ),
    Check(
        "content-hash",
        "It has the same content and hash whenever and wherever it is loaded.",
        _check_hash,
        needs=_COMMUNITY,
    ),
    Check("read-only", "Nobody can change its data.", _check_read_only, needs=_COMMUNITY),
    Check(
        "splits",
        "Splits share no slot, and every window lies inside the weeks of its split.",
        _check_splits,
        needs=_COMMUNITY,
    ),
    Check(
        "seeds",
        "The same seed gives the same whole episodes, and another seed others.",
        _check_seeds,
        needs=(*_COMMUNITY, "splits"),
    ),
    Check(
        "batches",
        "A community plays the same whatever the number of communities beside it.",
        _check_batches,
        needs=(*_COMMUNITY, "splits", "seeds"),
    ),
    Check(
        "conservation",
        "Under random play energy and money are conserved, and batteries stay in bounds.",
        _check_conservation,
        needs=(*_COMMUNITY, "splits"),
    ),
    Check(
        "evaluation",
        "Every evaluation meets the same scenarios.",
        _check_evaluation,
        needs=(*_COMMUNITY, "splits"),
    ),
    Check(
        "scale",
        "On the test split the optimum costs no more than any scripted trader, and none of them "
        "more than the grid alone. (A trader that stores may, where a battery loses more than "
        "storing wins, or where energy is left in it at the end.)",
        _check_scale,
        needs=(*_COMMUNITY, "splits", "evaluation"),
    ),
)
