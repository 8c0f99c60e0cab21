"""Suites of cleared slots with known truth, generated anew from their name, and versioned by it.

Four parts. *series*: one thing changes, step by step, and the rest stays. *books*: random order
books, cleared by the market's kernel. *recorded*: slots of fontana-v1, of its validation split so
that the test split stays unseen, played by zero-intelligence traders. *extreme*: empty slots,
monopolies, prices at the ends of the band, and their like. The closed forms are the truth.

Energy is counted in quanta and prices in ticks of 0.0001, as in the kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peerwatt.criticbench.payloads import PAYLOADS
from peerwatt.criticbench.record import SuiteRecord
from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.env.records import slot_batch
from peerwatt.errors import unknown_name
from peerwatt.evaluation.protocol import play
from peerwatt.fairness import SlotBatch, feasible, score_slots
from peerwatt.market.clearing import clear, price_grid
from peerwatt.market.units import QUANTA_PER_KWH
from peerwatt.plugins.loader import find, load_mechanism, load_task

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TICK = 0.0001
LEVELS = 21


class Trade(NamedTuple):
    """Energy that changed hands, in quanta, at a price in ticks."""

    seller: int
    buyer: int
    quanta: int
    price: int


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


def joined(slots: Sequence[SlotBatch]) -> SlotBatch:
    """Return batches of one community size as one batch."""
    return SlotBatch(*(np.concatenate(column) for column in zip(*slots, strict=True)))


def _cleared(
    position: Any, order: Any, traded: Any, payment: Any, moments: Any, band: tuple[int, int]
) -> SlotBatch:
    """Return one slot from the kernel's integers.

    Args:
        position: [N] quanta, surplus positive, deficit negative; `order` is what was quoted of it.
        traded: [N] quanta, sold positive; `payment` in quanta x ticks, received positive.
        moments: volume, value and square of the trades, as the kernel counts them.
        band: feed-in and retail in ticks.
    """
    kwh, money = 1.0 / QUANTA_PER_KWH, TICK / QUANTA_PER_KWH
    volume, value, square = (int(x) for x in moments)
    mean, deviation = np.nan, np.nan
    if volume:
        mean = value / volume * TICK
        # Whole numbers of any size: exact where floats would cancel.
        deviation = (square * volume - value * value) ** 0.5 / volume * TICK
    fields: dict[str, Any] = {
        "feed_in": band[0] * TICK,
        "retail": band[1] * TICK,
        "reference": (band[0] + band[1]) / 2 * TICK,
        "volume": volume * kwh,
        "mean_price": mean,
        "price_deviation": deviation,
    }
    for (first, second), values, unit in (
        (("surplus", "deficit"), position, kwh),
        (("offered", "demanded"), order, kwh),
        (("sold", "bought"), traded, kwh),
        (("received", "paid"), payment, money),
    ):
        array = np.asarray(values, np.float64) * unit
        fields[first], fields[second] = np.maximum(array, 0.0), np.maximum(-array, 0.0)
    return SlotBatch(**{name: np.array([value], np.float64) for name, value in fields.items()})


def _traded(
    position: Any, trades: Sequence[Trade], band: tuple[int, int], order: Any = None
) -> SlotBatch:
    """Return the slot in which households with `position` made just these trades."""
    traded, payment = np.zeros((2, len(position)), np.int64)
    for trade in trades:
        traded[[trade.seller, trade.buyer]] += [trade.quanta, -trade.quanta]
        payment[[trade.seller, trade.buyer]] += np.array([1, -1]) * trade.quanta * trade.price
    moments = [sum(t.quanta * t.price**power for t in trades) for power in range(3)]
    return _cleared(position, position if order is None else order, traded, payment, moments, band)


def _matched(sold: Sequence[int], bought: Sequence[int], price: int) -> list[Trade]:
    """Return trades at `price` by which sellers 0.. sell `sold`, and the next ones buy `bought`."""
    trades, seller, left = [], 0, list(sold)
    for buyer, need in enumerate(bought, len(sold)):
        while need:
            quanta = min(need, left[seller])
            if quanta:
                trades.append(Trade(seller, buyer, quanta, price))
            need, left[seller] = need - quanta, left[seller] - quanta
            seller += left[seller] == 0
    return trades


def _band(generator: np.random.Generator) -> tuple[int, int]:
    """Draw feed-in and retail, whose half distance can be cut in thirds and eighths."""
    feed_in = int(generator.integers(0, 13)) * 100
    return feed_in, feed_in + 48 * int(generator.integers(15, 70))


def _sides(generator: np.random.Generator, unit: int) -> tuple[list[int], list[int]]:
    """Draw what 3 to 5 sellers have and as many buyers need, of equal sums, in multiples."""
    supply = generator.integers(2, 12, generator.integers(3, 6))
    demand = generator.permutation(supply)
    shift = int(generator.integers(0, demand.min()))
    demand[np.argmin(demand)] -= shift
    demand[np.argmax(demand)] += shift
    return [int(x) * unit for x in supply], [int(x) * unit for x in demand]


def _split(generator: np.random.Generator, total: int, count: int) -> list[int]:
    """Return `count` positive whole numbers that add up to `total`."""
    weights = generator.integers(2, 12, count)
    shares = [int(total * weight // weights.sum()) for weight in weights]
    return [*shares[:-1], total - sum(shares[:-1])]


def _net(supply: Sequence[int], demand: Sequence[int]) -> Ints:
    """Return positions: the sellers, then the buyers."""
    return np.array([*supply, *(-need for need in demand)], np.int64)


Kind = Callable[[np.random.Generator, tuple[int, int], int], Iterator[SlotBatch]]


def _grid_share(
    generator: np.random.Generator, band: tuple[int, int], steps: int
) -> Iterator[SlotBatch]:
    """The neighbours trade more and more, everyone the same share, at the middle price."""
    supply, demand = _sides(generator, 32 * steps)
    for step in range(steps + 1):
        sold, bought = ([x * step // steps for x in side] for side in (supply, demand))
        yield _traded(_net(supply, demand), _matched(sold, bought, sum(band) // 2), band)


def _seller_shut_out(
    generator: np.random.Generator, band: tuple[int, int], steps: int
) -> Iterator[SlotBatch]:
    """One seller sells less and less, the others sell that instead."""
    sellers = int(generator.integers(3, 6))
    unit = int(generator.integers(20, 60))
    half = steps * (sellers - 1) * unit
    demand = _split(generator, sellers * half, int(generator.integers(2, 6)))
    for step in range(steps + 1):
        sold = [half - step * (sellers - 1) * unit] + [half + step * unit] * (sellers - 1)
        position = _net([2 * half] * sellers, demand)
        yield _traded(position, _matched(sold, demand, sum(band) // 2), band)


def _drift(direction: int) -> Kind:
    """Return the series in which the price drifts from the middle to an end of the band."""

    def drift(
        generator: np.random.Generator, band: tuple[int, int], steps: int
    ) -> Iterator[SlotBatch]:
        supply, demand = _sides(generator, 256)
        eighths = int(generator.integers(4, 9))
        sold, bought = ([x * eighths // 8 for x in side] for side in (supply, demand))
        for step in range(steps + 1):
            price = sum(band) // 2 + direction * step * (band[1] - band[0]) // (2 * steps)
            yield _traded(_net(supply, demand), _matched(sold, bought, price), band)

    return drift


def _price_spread(
    generator: np.random.Generator, band: tuple[int, int], steps: int
) -> Iterator[SlotBatch]:
    """Everyone trades half above and half below the middle, ever farther from it."""
    supply, demand = _sides(generator, 256)
    middle = sum(band) // 2
    for step in range(steps + 1):
        distance = step * (band[1] - band[0]) // (2 * steps)
        trades = [
            trade._replace(quanta=trade.quanta // 2, price=middle + sign * distance)
            for trade in _matched(supply, demand, middle)
            for sign in (1, -1)
        ]
        yield _traded(_net(supply, demand), trades, band)


def _buyers_uneven(
    generator: np.random.Generator, band: tuple[int, int], steps: int
) -> Iterator[SlotBatch]:
    """One large buyer gets more and more of what small ones got."""
    small = int(generator.integers(2, 5))
    unit = int(generator.integers(20, 60))
    half = steps * unit
    demand = [2 * half] * small + [2 * half * small]
    supply = _split(generator, 2 * half * small, int(generator.integers(2, 6)))
    for step in range(steps + 1):
        bought = [half - step * unit] * small + [small * (half + step * unit)]
        yield _traded(_net(supply, demand), _matched(supply, bought, sum(band) // 2), band)


SERIES: dict[str, Kind] = {
    "grid-share": _grid_share,
    "seller-shut-out": _seller_shut_out,
    "price-up": _drift(1),
    "price-down": _drift(-1),
    "price-spread": _price_spread,
    "buyers-uneven": _buyers_uneven,
}


def _series(plan: _Plan) -> Iterator[tuple[Place, SlotBatch]]:
    for number, (name, kind) in enumerate(SERIES.items()):
        for index in range(plan.series):
            generator = np.random.default_rng([plan.version, 1, number, index])
            slots = list(kind(generator, _band(generator), plan.steps))
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
        band = _band(generator)
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
            slot = _cleared(position, order, done.traded[0], done.payment[0], moments, band)
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
            one = SlotBatch(*(field[row : row + 1] for field in slots))
            yield Place("recorded", f"fontana-{episode}"), one


def _extremes(plan: _Plan) -> Iterator[tuple[Place, SlotBatch]]:
    """Yield slots at the ends of what can be, the most telling ones first."""
    band, middle = (800, 2800), 1800
    kwh = QUANTA_PER_KWH

    def even(supply: list[int], demand: list[int], price: int = middle) -> SlotBatch:
        return _traded(_net(supply, demand), _matched(supply, demand, price), band)

    def only(supply: list[int], demand: list[int], trades: Sequence[Trade] = ()) -> SlotBatch:
        return _traded(_net(supply, demand), trades, band)

    three, four = [kwh, 2 * kwh, 3 * kwh], [2 * kwh, kwh, 2 * kwh, kwh]
    street = [kwh + 16 * home for home in range(20)]
    spread = [Trade(home, 3 + home, three[home] // 2, price) for home in range(3) for price in band]
    giant = [100 * kwh] + [kwh] * 5
    slots = {
        "none-traded": only(three, four),
        "empty": only([0] * 3, [0] * 3),
        "monopoly": _traded(
            _net([4 * kwh], four), _matched([2 * kwh], [kwh, 0, kwh, 0], middle), band
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
        "narrow-band": _traded(_net(three, four), _matched(three, four, 1201), (1200, 1202)),
        "wide-band": _traded(_net(three, four), _matched(three, four, 15_000), (0, 20_000)),
        "large": even([400 * kwh, 100 * kwh], [250 * kwh] * 2),
        "street": even(street, street[::-1]),
        "street-half-shut-out": only(
            street,
            street,
            _matched(
                [x * (i % 2) for i, x in enumerate(street)],
                [x * (i % 2) for i, x in enumerate(street)],
                middle,
            ),
        ),
        "one-buyer": _traded(
            _net([kwh] * 5, [4 * kwh]), _matched([kwh // 2] * 5, [5 * kwh // 2], middle), band
        ),
        "two-prices": only(three, three, spread),
        "giant": only(giant, giant[::-1], [Trade(0, 11, 100 * kwh, middle)]),
        "nobody-quotes": _traded(_net(three, four), (), band, np.zeros(7)),
    }
    for name in list(slots)[: plan.extremes]:
        yield Place("extreme", f"extreme-{name}"), slots[name]
