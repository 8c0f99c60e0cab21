"""Laws of critics, held on slots of played communities and on slots made up to be awkward."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.env.records import slot_batch
from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness import FairnessScores, SlotBatch, feasible
from peerwatt.fairness.critic import joined
from peerwatt.fairness.scores import HOUSEHOLD_FIELDS
from peerwatt.fairness.session import CriticSession, CriticUsage, checked, opened, savable
from peerwatt.fairness.transcript import Transcript
from peerwatt.testing import generators
from peerwatt.testing.communities import SIZES, Size, community
from peerwatt.testing.frame import Check, NotApplicable, Subject, during

TOLERANCE = 1e-9
"""How far equal scores may lie apart, for sums may be taken in another order."""

MAX_SECONDS = 20.0
"""What one batch of few slots may take, whatever is in it."""

MAX_SLOTS = 48
MAX_ASKED = 2
"""Slots of a batch for a critic that asks a model."""
CALLS = 70
"""Calls of a run that is interrupted."""
CUTS = (0, 1, 32, 33, CALLS - 1)
"""Calls after which it is."""


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
    return joined(batches).taken(slice(MAX_SLOTS))


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


def _batches(examined: Subject) -> Iterator[tuple[str, SlotBatch]]:
    """Yield batches of slots: few to a critic whose every answer may cost something."""
    most = MAX_ASKED if examined.spec.asks else MAX_SLOTS
    for size in SIZES:
        yield f"slots of {size.title}", _slots(size).taken(slice(most))
    yield "made-up slots", _made_up()


def _copied(slots: SlotBatch) -> SlotBatch:
    return SlotBatch(*(field.copy() for field in slots))


@contextlib.contextmanager
def _at_work(examined: Subject, seed: int = 0, **session: Any) -> Iterator[Any]:
    """Yield the critic, opened as for a run of `seed` if it is of that kind."""
    if examined.spec.asks and not examined.options:
        raise NotApplicable(
            "it asks others: give the options that say whom, as in --critic.model NAME"
        )
    generator = np.random.default_rng([seed, 0xC417])
    with opened(
        examined.make(), CriticSession(generator=generator, seed=seed, **session)
    ) as critic:
        yield critic


def _score(examined: Subject, critic: Any, slots: SlotBatch) -> NDArray[np.float64]:
    """Return the scores [4, M] of a copy of `slots`, of the right type and shape."""
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
    factory = examined.spec.load()
    examined.require(
        any(callable(getattr(factory, method, None)) for method in ("score", "open")),
        f"{examined.spec.factory} has no method `score`: give it score(self, slots), or "
        "open(self, session) if it keeps anything between calls.",
    )
    with _at_work(examined) as critic:
        for title, slots in _batches(examined):
            with during(title):
                _score(examined, critic, slots)


def _check_empty(examined: Subject) -> None:
    none = np.zeros(0, np.int64)
    with _at_work(examined) as critic, during("no slots at all"):
        _score(examined, critic, _made_up().taken(none))


def _all_scores(examined: Subject) -> list[NDArray[np.float64]]:
    """Return the scores of all batches by one critic."""
    with _at_work(examined) as critic:
        return [_score(examined, critic, slots) for _, slots in _batches(examined)]


def _check_range(examined: Subject) -> None:
    for (title, _), scores in zip(_batches(examined), _all_scores(examined), strict=True):
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
    scores = _all_scores(examined)
    withheld = [np.isnan(values).all() for values in np.concatenate(scores, axis=1)]
    for (title, slots), found in zip(_batches(examined), scores, strict=True):
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
    if hasattr(examined.spec.load(), "open"):
        _check_same_seed(examined)
        return
    _deterministic(examined)
    with _at_work(examined) as critic, _at_work(examined) as another:
        for title, slots in _batches(examined):
            with generators.seeded(1):
                one = _score(examined, critic, slots)
            with generators.seeded(2):
                again = _score(examined, critic, slots)
                other = _score(examined, another, slots)
            examined.require(
                _equal(one, again) and _equal(one, other),
                f"it scores the same {title} differently another time: keep nothing between calls "
                "and draw no random numbers, or register it with deterministic=False.",
            )


def _check_same_seed(examined: Subject) -> None:
    """Hold a critic that is opened to the seed of its session; a model may answer otherwise."""
    scores, asked = [], 0
    for place in (1, 2):
        with generators.seeded(place), _at_work(examined) as critic:
            scores.append([_score(examined, critic, slots) for _, slots in _batches(examined)])
            asked += critic.usage().calls
    if asked and not examined.spec.deterministic:
        raise NotApplicable("it asked a model, which may answer differently another time")
    for (title, _), one, other in zip(_batches(examined), *scores, strict=True):
        examined.require(
            _equal(one, other),
            f"opened twice with the same seed, it scores the same {title} differently: draw from "
            "session.generator alone, and let no clock decide anything.",
        )


def _check_slot_order(examined: Subject) -> None:
    _deterministic(examined)
    generator = np.random.default_rng(0)
    with _at_work(examined) as critic:
        for title, slots in _batches(examined):
            order = generator.permutation(len(slots.feed_in))
            scores = _score(examined, critic, slots)
            examined.require(
                _equal(scores[:, order], _score(examined, critic, slots.taken(order))),
                f"the scores of {title} change with the order of the slots: score each slot alone.",
            )


def _check_households(examined: Subject) -> None:
    _deterministic(examined)
    with _at_work(examined) as critic:
        for title, slots in _batches(examined):
            places = np.arange(slots.surplus.shape[1])
            order = np.concatenate([places[1::2], places[::2]])
            other = slots._replace(
                **{name: getattr(slots, name)[:, order] for name in HOUSEHOLD_FIELDS}
            )
            examined.require(
                _equal(_score(examined, critic, slots), _score(examined, critic, other)),
                f"the scores of {title} change when the households change places: fairness must "
                "not depend on who comes first.",
            )


def _check_one_by_one(examined: Subject) -> None:
    _deterministic(examined)
    with _at_work(examined) as critic:
        for title, slots in _batches(examined):
            rows = range(len(slots.feed_in))
            alone = [_score(examined, critic, slots.taken(slice(m, m + 1))) for m in rows]
            examined.require(
                _equal(_score(examined, critic, slots), np.concatenate(alone, axis=1)),
                f"a slot of {title} is scored differently in a batch than alone: normalise by "
                "nothing that other slots hold.",
            )


def _check_unchanged(examined: Subject) -> None:
    with _at_work(examined) as critic:
        for title, slots in _batches(examined):
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
    with _at_work(examined) as critic:
        for title, slots in _hostile():
            _hold_hostile(examined, critic, title, slots)


def _hold_hostile(examined: Subject, critic: Any, title: str, slots: SlotBatch) -> None:
    began = time.perf_counter()
    with warnings.catch_warnings(), np.errstate(all="ignore"), during(title):
        warnings.simplefilter("ignore")
        try:
            scores = _score(examined, critic, slots)
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


def _only_opened(examined: Subject) -> None:
    if not hasattr(examined.spec.load(), "open"):
        raise NotApplicable("it has no `open`, and so nothing to tell of itself or to end")


def _check_usage(examined: Subject) -> None:
    _only_opened(examined)
    with _at_work(examined) as critic:
        nothing = _usage(critic, "before it scored anything")
        examined.require(
            nothing.slots == 0,
            f"usage tells of {nothing.slots} slots before any was scored: start at 0 when opened.",
        )
        for _, slots in _batches(examined):
            critic.score(_copied(slots))
    usage = _usage(critic, "after close")
    put = sum(len(slots.feed_in) for _, slots in _batches(examined))
    examined.require(
        usage.slots == put,
        f"usage tells of {usage.slots} slots where {put} were to be scored: count each slot that "
        "is handed to score.",
    )
    examined.require(
        usage.slots == usage.parts,
        f"usage tells of {usage.slots} slots, but undefined, skipped, scored, student, fallback "
        f"and abstained add up to {usage.parts}: give every slot one fate.",
    )


def _usage(critic: Any, when: str) -> CriticUsage:
    with during(f"usage {when}"):
        return checked(critic.usage())


def _check_closing(examined: Subject) -> None:
    _only_opened(examined)
    for finished in (True, False):
        with _at_work(examined) as critic:
            critic.score(_made_up())
            with during(f"close(finished={finished}), and close again: let it do nothing then"):
                critic.close(finished)
                critic.close(finished)


def _run(size: Size) -> list[SlotBatch]:
    """Return what a critic is shown in a run of `CALLS` calls."""
    slots = _slots(size)
    rows = np.arange(4)
    return [slots.taken((4 * call + rows) % len(slots.feed_in)) for call in range(CALLS)]


def _check_resumed(examined: Subject) -> None:
    _only_opened(examined)
    calls = _run(SIZES[-1])
    with generators.seeded(1), _at_work(examined) as critic:
        for name, other in (("state", "restore"), ("restore", "state")):
            examined.require(
                not hasattr(critic, name) or hasattr(critic, other),
                f"it has {name} but no {other}: give it both, or neither.",
            )
        if not savable(critic):
            raise NotApplicable("it cannot be saved: an interrupted run begins anew")
        expected, states = [], {}
        for number, slots in enumerate(calls):
            if number in CUTS:
                with during(f"state after {number} calls"):
                    states[number] = _kept(examined, critic.state(), "state")
            expected.append(_score(examined, critic, slots))
            if not examined.spec.deterministic and critic.usage().calls:
                raise NotApplicable("it asked a model, which may answer differently another time")
    for cut, state in states.items():
        with generators.seeded(2), _at_work(examined) as critic:
            with during(f"restore of what it was after {cut} calls"):
                critic.restore(state)
            for number in range(cut, CALLS):
                examined.require(
                    np.array_equal(
                        _score(examined, critic, calls[number]), expected[number], equal_nan=True
                    ),
                    f"interrupted after {cut} calls and restored, it scores call {number + 1} "
                    "otherwise than without: put all that scores depend on into state, the "
                    "generator (session.generator.bit_generator.state) included.",
                )


def _kept(examined: Subject, value: Any, place: str) -> Any:
    """Return a copy of `value`, a part of a state that can be saved."""
    if isinstance(value, Mapping):
        examined.require(
            all(isinstance(key, str) for key in value),
            f"{shown(place, 100)} has a key that is no text: write str(key).",
        )
        return {key: _kept(examined, part, f"{place}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(examined, part, f"{place}[{n}]") for n, part in enumerate(value)]
    array = isinstance(value, np.ndarray | np.generic)
    examined.require(
        not value.dtype.hasobject
        if array
        else value is None or isinstance(value, bool | int | float | str | bytes),
        f"{shown(place, 100)} holds a {type(value).__name__}, which cannot be saved: keep to "
        "dicts, lists, numbers, texts, bytes and numpy arrays.",
    )
    return value.copy() if array else value


def _check_files(examined: Subject) -> None:
    with _at_work(examined) as critic:  # whatever is compiled once is compiled here
        critic.score(_made_up())
    with TemporaryDirectory() as temporary, _living_in(Path(temporary) / "home") as home:
        given = Path(temporary) / "given"
        given.mkdir()
        with _at_work(examined) as critic:
            critic.score(_made_up())
        transcript = Transcript(given / "critic.jsonl", {})
        with (
            contextlib.closing(transcript),
            _at_work(examined, store=given, transcript=transcript) as critic,
        ):
            critic.score(_made_up())
        written = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
    examined.require(
        not written,
        f"it writes {written[:1]} into the working directory or the user's own: write "
        "into session.store, and if that is None nothing.",
    )


@contextlib.contextmanager
def _living_in(home: Path) -> Iterator[Path]:
    """Make `home`, and let it be the working directory and the user's own for the block."""
    home.mkdir()
    names = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(home)))
    try:
        with contextlib.chdir(home):
            yield home
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


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
        "usage",
        "An opened critic counts every slot once, and tells so after it was closed, too.",
        _check_usage,
        needs=("scores",),
    ),
    Check(
        "repeatable",
        "The same slots get the same scores every time, or at least from the same seed.",
        _check_repeatable,
        needs=("scores", "usage"),
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
    Check(
        "closing",
        "An opened critic can be closed after success and failure, and once more.",
        _check_closing,
        needs=("scores",),
    ),
    Check(
        "resumed",
        "An opened critic that can be saved goes on, restored, as if it had not been interrupted.",
        _check_resumed,
        needs=("scores", "usage", "repeatable"),
    ),
    Check(
        "files",
        "Nothing is written but into the store and the transcript.",
        _check_files,
        needs=("scores",),
    ),
)
