"""Laws of critics, held on slots of played communities and on slots made up to be awkward."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.env.records import slot_batch
from peerwatt.errors import PeerWattError
from peerwatt.fairness import FairnessScores, SlotBatch, feasible
from peerwatt.fairness.scores import HOUSEHOLD_FIELDS
from peerwatt.testing import generators
from peerwatt.testing.communities import SIZES, Size, community
from peerwatt.testing.frame import Check, NotApplicable, Subject, during

TOLERANCE = 1e-9
"""How far equal scores may lie apart, for sums may be taken in another order."""

MAX_SECONDS = 20.0
"""What one batch of few slots may take, whatever is in it."""

MAX_SLOTS = 48


@cache
def _slots(size: Size) -> SlotBatch:
    """Return slots of a played community: with and without trade, feasible or not."""
    task = community(size)
    market = VectorMarket(task, scenarios=evaluation_scenarios(task, "test", 2))
    generator = np.random.default_rng(size.households)
    market.reset()
    batches = []
    for _ in range(task.horizon):
        shape = (market.num_envs, market.num_agents, 3)
        step = market.step(generator.integers(0, market.action_nvec, shape))
        batches.append(slot_batch(task, market.tables.ticks, step.slot))
    fields = (np.concatenate(column)[:MAX_SLOTS] for column in zip(*batches, strict=True))
    return SlotBatch(*fields)


def _made_up() -> SlotBatch:
    """Return slots of 4 households: none trades, one seller, sellers of unequal fill, no need."""
    surplus = np.array([[2.0, 1, 0, 0], [2, 0, 0, 0], [2, 1, 0, 0], [2, 1, 1, 1]])
    deficit = np.array([[0.0, 0, 1, 2], [0, 0, 1, 2], [0, 0, 1, 1], [0, 0, 0, 0]])
    sold = np.array([[0.0, 0, 0, 0], [1.5, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
    bought = np.array([[0.0, 0, 0, 0], [0, 0, 1, 0.5], [0, 0, 1, 1], [0, 0, 0, 0]])
    return _consistent(surplus, deficit, sold, bought, np.array([0.08, 0.28]), 0.2)


def _consistent(
    surplus: Any, deficit: Any, sold: Any, bought: Any, band: Any, price: float
) -> SlotBatch:
    """Return the slots in which all was quoted and all trades were made at one price."""
    count = len(surplus)
    volume = sold.sum(axis=1)
    mean = np.where(volume > 0, price, np.nan)
    return SlotBatch(
        feed_in=np.full(count, band[0]),
        retail=np.full(count, band[1]),
        reference=np.full(count, band.mean()),
        surplus=surplus,
        deficit=deficit,
        offered=surplus,
        demanded=deficit,
        sold=sold,
        bought=bought,
        received=sold * price,
        paid=bought * price,
        volume=volume,
        mean_price=mean,
        price_deviation=np.where(volume > 0, 0.0, np.nan),
    )


def _batches() -> Iterator[tuple[str, SlotBatch]]:
    for size in SIZES:
        yield f"slots of {size.title}", _slots(size)
    yield "made-up slots", _made_up()


def _copied(slots: SlotBatch) -> SlotBatch:
    return SlotBatch(*(field.copy() for field in slots))


def _taken(slots: SlotBatch, rows: Any) -> SlotBatch:
    return SlotBatch(*(field[rows] for field in slots))


def _score(examined: Subject, slots: SlotBatch, critic: Any = None) -> NDArray[np.float64]:
    """Return the scores [4, M] of a copy of `slots`, of the right type and shape."""
    critic = critic if critic is not None else examined.once("critic", examined.make)
    scores = critic.score(_copied(slots))
    examined.require(
        isinstance(scores, FairnessScores),
        f"score returns {type(scores).__name__}: return peerwatt.fairness.FairnessScores.",
    )
    count = len(slots.feed_in)
    for name, values in zip(FairnessScores._fields, scores, strict=True):
        array = np.asarray(values)
        examined.require(
            array.dtype.kind == "f" and array.shape == (count,),
            f"{name} of {count} slots is {array.dtype} {array.shape}: return floats ({count},).",
        )
    return np.array(scores, np.float64)


def _check_scores(examined: Subject) -> None:
    examined.require(
        callable(getattr(examined.spec.load(), "score", None)),
        f"{examined.spec.factory} has no method `score`: give it score(self, slots).",
    )
    for title, slots in _batches():
        with during(title):
            _score(examined, slots)


def _check_empty(examined: Subject) -> None:
    none = np.zeros(0, np.int64)
    with during("no slots at all"):
        _score(examined, _taken(_made_up(), none))


def _check_range(examined: Subject) -> None:
    for title, slots in _batches():
        scores = _score(examined, slots)
        bad = np.argwhere(~np.isnan(scores) & ~((scores >= 0) & (scores <= 1)))
        if len(bad):
            name = FairnessScores._fields[bad[0][0]]
            examined.require(
                False,
                f"{name} is {scores[tuple(bad[0])]:g} in {title}: scores lie in [0, 1], or are NaN "
                "where there is none; clip them.",
            )


def _check_undefined(examined: Subject) -> None:
    fbs = FairnessScores._fields.index("fbs")
    scores = [_score(examined, slots) for _, slots in _batches()]
    withheld = [np.isnan(values).all() for values in np.concatenate(scores, axis=1)]
    for (title, slots), found in zip(_batches(), scores, strict=True):
        defined = np.repeat((feasible(slots) > 0)[None], 4, axis=0)
        defined[fbs] &= (slots.surplus > 0).sum(axis=1) > 1
        for index, name in enumerate(FairnessScores._fields):
            why = (
                "where no trade is feasible (nobody, or everybody, has a surplus)"
                + " or only one household has a surplus" * (index == fbs)
            )
            examined.require(
                np.isnan(found[index][~defined[index]]).all(),
                f"{name} has a value in {title} {why}: return NaN there, for there is nothing to "
                "be fair about.",
            )
            examined.require(
                examined.spec.abstains
                or withheld[index]
                or not np.isnan(found[index][defined[index]]).any(),
                f"{name} is NaN in {title} where it is defined: return a number (0 if nothing was "
                "traded), or register the critic with abstains=True.",
            )


def _deterministic(examined: Subject) -> None:
    if not examined.spec.deterministic:
        raise NotApplicable("it is registered with deterministic=False")


def _equal(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool(np.allclose(one, other, rtol=0, atol=TOLERANCE, equal_nan=True))


def _check_repeatable(examined: Subject) -> None:
    _deterministic(examined)
    for title, slots in _batches():
        with generators.seeded(1):
            one = _score(examined, slots)
        with generators.seeded(2):
            again = _score(examined, slots)
            other = _score(examined, slots, examined.make())
        examined.require(
            _equal(one, again) and _equal(one, other),
            f"it scores the same {title} differently another time: keep nothing between calls and "
            "draw no random numbers, or register it with deterministic=False.",
        )


def _check_slot_order(examined: Subject) -> None:
    _deterministic(examined)
    generator = np.random.default_rng(0)
    for title, slots in _batches():
        order = generator.permutation(len(slots.feed_in))
        examined.require(
            _equal(_score(examined, slots)[:, order], _score(examined, _taken(slots, order))),
            f"the scores of {title} change with the order of the slots: score each slot alone.",
        )


def _check_households(examined: Subject) -> None:
    _deterministic(examined)
    for title, slots in _batches():
        places = np.arange(slots.surplus.shape[1])
        order = np.concatenate([places[1::2], places[::2]])
        other = slots._replace(
            **{name: getattr(slots, name)[:, order] for name in HOUSEHOLD_FIELDS}
        )
        examined.require(
            _equal(_score(examined, slots), _score(examined, other)),
            f"the scores of {title} change when the households change places: fairness must not "
            "depend on who comes first.",
        )


def _check_one_by_one(examined: Subject) -> None:
    _deterministic(examined)
    for title, slots in _batches():
        rows = range(len(slots.feed_in))
        alone = [_score(examined, _taken(slots, slice(m, m + 1))) for m in rows]
        examined.require(
            _equal(_score(examined, slots), np.concatenate(alone, axis=1)),
            f"a slot of {title} is scored differently in a batch than alone: normalise by nothing "
            "that other slots hold.",
        )


def _check_unchanged(examined: Subject) -> None:
    critic = examined.make()
    for title, slots in _batches():
        seen = _copied(slots)
        critic.score(seen)
        for name, now, then in zip(SlotBatch._fields, seen, slots, strict=True):
            examined.require(
                np.array_equal(now, then, equal_nan=True),
                f"score changes slots.{name} in place: work on a copy.",
            )
            now.setflags(write=False)
        with during(f"{title}, read-only: work on a copy"):
            critic.score(seen)


def _hostile() -> Iterator[tuple[str, SlotBatch]]:
    """Yield slots as they should never be."""
    slots = _made_up()
    for name in SlotBatch._fields:
        for value in (np.nan, np.inf, -np.inf, -1.0, 1e300):
            bad = _copied(slots)
            getattr(bad, name)[...] = value
            yield f"{name} = {value:g}", bad
    for value in (np.nan, np.inf, -1.0, 1e300, 0.0):
        yield f"{value:g} everywhere", SlotBatch(*(np.full(f.shape, value) for f in slots))
    yield "retail = feed_in", slots._replace(retail=slots.feed_in, reference=slots.feed_in)
    yield (
        "one household",
        SlotBatch(
            *(
                f[:, :1] if name in HOUSEHOLD_FIELDS else f
                for name, f in zip(slots._fields, slots, strict=True)
            )
        ),
    )


def _check_hostile(examined: Subject) -> None:
    for title, slots in _hostile():
        began = time.perf_counter()
        with warnings.catch_warnings(), np.errstate(all="ignore"), during(title):
            warnings.simplefilter("ignore")
            try:
                scores = _score(examined, slots)
            except (PeerWattError, ValueError):
                scores = np.full((4, 1), np.nan)
        seconds = time.perf_counter() - began
        examined.require(
            seconds < MAX_SECONDS,
            f"slots with {title} take {seconds:.0f} s: refuse with a ValueError what makes no "
            "sense, before you compute.",
        )
        examined.require(
            (np.isnan(scores) | ((scores >= 0) & (scores <= 1))).all(),
            f"slots with {title} get scores outside [0, 1]: clip them, return NaN, or refuse the "
            "slots with a ValueError.",
        )


CHECKS = (
    Check(
        "scores",
        "It returns FairnessScores: four arrays of floats, one value per slot.",
        _check_scores,
    ),
    Check("empty", "Of no slots it returns no scores.", _check_empty, needs=("scores",)),
    Check("range", "Scores lie in [0, 1] or are NaN.", _check_range, needs=("scores",)),
    Check(
        "undefined",
        "A score is NaN exactly where it is undefined, or where the critic may abstain.",
        _check_undefined,
        needs=("scores",),
    ),
    Check(
        "repeatable",
        "The same slots get the same scores every time.",
        _check_repeatable,
        needs=("scores",),
    ),
    Check(
        "slot-order",
        "The order of the slots decides nothing.",
        _check_slot_order,
        needs=("scores", "repeatable"),
    ),
    Check(
        "households",
        "The order of the households decides nothing.",
        _check_households,
        needs=("scores", "repeatable"),
    ),
    Check(
        "one-by-one",
        "A batch of slots is scored as each slot alone.",
        _check_one_by_one,
        needs=("scores", "repeatable", "slot-order"),
    ),
    Check(
        "unchanged",
        "The slots are not changed, and may be read-only.",
        _check_unchanged,
        needs=("scores",),
    ),
    Check(
        "hostile",
        "Values that make no sense get scores in [0, 1], NaN or a ValueError, soon.",
        _check_hostile,
        needs=("scores",),
    ),
)
