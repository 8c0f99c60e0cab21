"""Suites of cleared slots with known truth, generated anew from their name, and versioned by it.

Four parts. *series*: one thing changes, step by step, and the rest stays. *books*: random order
books, cleared by the market's kernel. *recorded*: slots of fontana-v1, of its validation split so
that the test split stays unseen, played by zero-intelligence traders. *extreme*: empty slots,
monopolies, prices at the ends of the band, and their like. The closed forms are the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from peerwatt.criticbench.payloads import PAYLOADS
from peerwatt.criticbench.record import SuiteRecord
from peerwatt.criticbench.series import (
    SERIES,
    Ints,
    Trade,
    cleared,
    draw_band,
    matched,
    net,
    traded,
)
from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.env.records import slot_batch
from peerwatt.errors import unknown_name
from peerwatt.evaluation.protocol import play
from peerwatt.fairness import SlotBatch, feasible, score_slots
from peerwatt.fairness.critic import joined
from peerwatt.market.clearing import clear, price_grid
from peerwatt.market.units import QUANTA_PER_KWH
from peerwatt.plugins.loader import find, load_mechanism, load_task

Floats = NDArray[np.float64]

LEVELS = 21


class Place(NamedTuple):
    """Where a slot stands in its suite."""

    part: str
    cluster: str
    step: int | None = None


@dataclass(frozen=True, eq=False)
class Suite:
    """M slots in a fixed shuffled order, communities of one size together."""

    name: str
    places: tuple[Place, ...]  # [M]
    slots: tuple[SlotBatch, ...]  # [M] batches of one slot each
    truth: Floats  # [M, 4] closed forms, NaN where undefined
    repeated: tuple[int, ...]
    """Slots that are asked about several times and in several ways."""
    noted: tuple[int, ...]
    """Other slots, which are shown with every text of `PAYLOADS`."""
    content_hash: str

    @property
    def record(self) -> SuiteRecord:
        """What a record says of the suite."""
        return SuiteRecord(
            name=self.name,
            content_hash=self.content_hash,
            slots=len(self.slots),
            parts=dict(sorted(Counter(place.part for place in self.places).items())),
        )


@dataclass(frozen=True)
class _Plan:
    """How much of everything a suite holds."""

    version: int
    series: int  # of each kind
    steps: int  # of each series, one slot less than it has
    groups: int  # of books
    books: int  # in each group
    episodes: int
    recorded: int  # slots of each episode
    extremes: int
    repeated: int
    noted: int


PLANS = {
    "standard-v1": _Plan(1, 5, 8, 10, 8, 10, 8, 20, 120, 20),
    "small-v1": _Plan(2, 1, 3, 4, 2, 4, 1, 5, 12, 4),
}


def suite_names() -> tuple[str, ...]:
    """Return the names of the suites."""
    return tuple(PLANS)


@cache
def load_suite(name: str) -> Suite:
    """Generate the suite called `name`.

    Raises:
        PeerWattError: there is none.
    """
    if name not in PLANS:
        raise unknown_name("suite of critics", name, PLANS)
    plan = PLANS[name]
    found = [*_series(plan), *_books(plan), *_recorded(plan), *_extremes(plan)]
    order = np.random.default_rng([plan.version, 0]).permutation(len(found))
    # Neighbours share a call where a critic is asked about several slots at once.
    ordered = sorted((found[i] for i in order), key=lambda item: item[1].surplus.shape[1])
    distinct = {_content(slot): (place, slot) for place, slot in ordered}
    if len(distinct) < len(found):
        raise AssertionError(f"{name} holds a slot twice")
    places, slots = zip(*ordered, strict=True)
    repeated = _spread(places, plan.repeated, range(len(places)))
    # Others, lest a slot that shares a call has other neighbours with a note than without.
    others = set(range(len(places))) - set(repeated)
    noted = _spread(places, plan.noted, [i for i in others if places[i].part != "extreme"])
    texts = [payload._asdict() for payload in PAYLOADS]
    told = json.dumps([name, places, repeated, noted, texts])
    digest = hashlib.sha256("\n".join([told, *map(_content, slots)]).encode())
    return Suite(
        name=name,
        places=places,
        slots=slots,
        truth=np.concatenate([np.stack(score_slots(slot), axis=1) for slot in slots]),
        repeated=repeated,
        noted=noted,
        content_hash=digest.hexdigest(),
    )


def _content(slot: SlotBatch) -> str:
    """Return every number of `slot` to nine digits, whatever the platform's last bit."""
    return json.dumps(
        [
            [None if np.isnan(x) else round(float(x) * 1e9) for x in np.ravel(field)]
            for field in slot
        ]
    )


def _spread(places: Sequence[Place], most: int, rows: Iterable[int]) -> tuple[int, ...]:
    """Return `most` of the slots in `rows`: one of each cluster, then another, and so on."""
    turns: list[list[int]] = []
    taken: Counter[str] = Counter()
    for row in sorted(rows):
        turn = taken[places[row].cluster]
        taken[places[row].cluster] += 1
        turns += [[]] * (turn == len(turns))
        turns[turn] = [*turns[turn], row]
    chosen: list[int] = []
    for turn_rows in turns:
        left = min(most - len(chosen), len(turn_rows))
        chosen += [turn_rows[k * len(turn_rows) // left] for k in range(left)]
    return tuple(sorted(chosen))


def batches(slots: Sequence[SlotBatch], most: int) -> Iterator[tuple[list[int], SlotBatch]]:
    """Yield neighbours of one community size as batches of at most `most`, with their indices."""
    group: list[int] = []
    for index, slot in enumerate(slots):
        full = len(group) == most
        if group and (full or slots[group[0]].surplus.shape != slot.surplus.shape):
            yield group, joined([slots[i] for i in group])
            group = []
        group.append(index)
    if group:
        yield group, joined([slots[i] for i in group])


def _series(plan: _Plan) -> Iterator[tuple[Place, SlotBatch]]:
    for number, (name, kind) in enumerate(SERIES.items()):
        for index in range(plan.series):
            generator = np.random.default_rng([plan.version, 1, number, index])
            slots = list(kind(generator, draw_band(generator), plan.steps))
            order = generator.permutation(slots[0].surplus.shape[1])
            for step, slot in enumerate(slots):
                yield Place("series", f"{name}-{index}", step), with_households(slot, order)


def with_households(slots: SlotBatch, order: Ints) -> SlotBatch:
    """Return `slots` with their households in another order."""
    return SlotBatch(*(field[:, order] if field.ndim == 2 else field for field in slots))


def _books(plan: _Plan) -> Iterator[tuple[Place, SlotBatch]]:
    mechanisms = load_mechanism("cda"), load_mechanism("call")
    for group in range(plan.groups):
        generator = np.random.default_rng([plan.version, 2, group])
        band = draw_band(generator)
        ticks = price_grid(*band, LEVELS)[0]
        n = int(generator.integers(4, 17))
        position = generator.integers(50, 4000, n) * generator.permutation(
            np.where(np.arange(n) < generator.integers(2, n), 1, -1)
        )
        for book in range(plan.books):
            quoted = np.sort(generator.choice([0.0, 0.5, 1.0], (n, 2), p=[0.15, 0.2, 0.65]))[:, 1]
            order = np.trunc(position * quoted).astype(np.int64)
            level = generator.integers(0, LEVELS, n)
            done = clear(
                mechanisms[book % 2],
                order[None],
                level[None],
                ticks,
                generator.permutation(n)[None],
            )
            moments = (done.volume[0], done.value[0], done.square[0])
            slot = cleared(position, order, done.traded[0], done.payment[0], moments, band)
            yield Place("books", f"books-{group}"), slot


def _recorded(plan: _Plan) -> Iterator[tuple[Place, SlotBatch]]:
    task = load_task("fontana-v1")
    scenarios = evaluation_scenarios(task, "validation", plan.episodes)
    market = VectorMarket(task, scenarios=scenarios, mechanism="cda")
    trader = find("algorithm", "zi-c").spec.load()(nvec=market.action_nvec)
    generator = np.random.default_rng([plan.version, 3])
    slots = slot_batch(task, market.tables.ticks, play(market, trader, generator))
    possible = (feasible(slots) > 0).reshape(task.horizon, plan.episodes)
    for episode in range(plan.episodes):
        times = np.flatnonzero(possible[:, episode])
        for time in np.sort(generator.choice(times, plan.recorded, replace=False)):
            row = time * plan.episodes + episode
            one = slots.taken(slice(row, row + 1))
            yield Place("recorded", f"fontana-{episode}"), one


def _extremes(plan: _Plan) -> Iterator[tuple[Place, SlotBatch]]:
    """Yield slots at the ends of what can be, the most telling ones first."""
    band, middle = (800, 2800), 1800
    kwh = QUANTA_PER_KWH

    def even(supply: list[int], demand: list[int], price: int = middle) -> SlotBatch:
        return traded(net(supply, demand), matched(supply, demand, price), band)

    def only(supply: list[int], demand: list[int], trades: Sequence[Trade] = ()) -> SlotBatch:
        return traded(net(supply, demand), trades, band)

    three, four = [kwh, 2 * kwh, 3 * kwh], [2 * kwh, kwh, 2 * kwh, kwh]
    street = [kwh + 16 * home for home in range(20)]
    spread = [Trade(home, 3 + home, three[home] // 2, price) for home in range(3) for price in band]
    giant = [100 * kwh] + [kwh] * 5
    slots = {
        "none-traded": only(three, four),
        "empty": only([0] * 3, [0] * 3),
        "monopoly": traded(
            net([4 * kwh], four), matched([2 * kwh], [kwh, 0, kwh, 0], middle), band
        ),
        "at-retail": even(three, four, band[1]),
        "one-sells-all": only(
            [3 * kwh] * 6, [kwh] * 3, [Trade(4, 6 + b, kwh, middle) for b in range(3)]
        ),
        "at-feed-in": even(three, four, band[0]),
        "no-surplus": only([], four),
        "no-deficit": only(three, []),
        "pair": even([kwh], [kwh]),
        "pair-none-traded": only([kwh], [kwh]),
        "one-quantum": even([1], [1], 2000),
        "narrow-band": traded(net(three, four), matched(three, four, 1201), (1200, 1202)),
        "wide-band": traded(net(three, four), matched(three, four, 15_000), (0, 20_000)),
        "large": even([400 * kwh, 100 * kwh], [250 * kwh] * 2),
        "street": even(street, street[::-1]),
        "street-half-shut-out": only(
            street,
            street,
            matched(
                [x * (i % 2) for i, x in enumerate(street)],
                [x * (i % 2) for i, x in enumerate(street)],
                middle,
            ),
        ),
        "one-buyer": traded(
            net([kwh] * 5, [4 * kwh]), matched([kwh // 2] * 5, [5 * kwh // 2], middle), band
        ),
        "two-prices": only(three, three, spread),
        "giant": only(giant, giant[::-1], [Trade(0, 11, 100 * kwh, middle)]),
        "nobody-quotes": traded(net(three, four), (), band, np.zeros(7)),
    }
    for name in list(slots)[: plan.extremes]:
        yield Place("extreme", f"extreme-{name}"), slots[name]
