"""Cleared slots that are made by hand, and the series in which one thing changes at a time.

Energy is counted in quanta and prices in ticks of 0.0001, as in the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from peerwatt.fairness import SlotBatch
from peerwatt.market.units import QUANTA_PER_KWH

Ints = NDArray[np.int64]

TICK = 0.0001


class Trade(NamedTuple):
    """Energy that changed hands, in quanta, at a price in ticks."""

    seller: int
    buyer: int
    quanta: int
    price: int


def cleared(
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


def traded(
    position: Any, trades: Sequence[Trade], band: tuple[int, int], order: Any = None
) -> SlotBatch:
    """Return the slot in which households with `position` made just these trades."""
    traded, payment = np.zeros((2, len(position)), np.int64)
    for trade in trades:
        traded[[trade.seller, trade.buyer]] += [trade.quanta, -trade.quanta]
        payment[[trade.seller, trade.buyer]] += np.array([1, -1]) * trade.quanta * trade.price
    moments = [sum(t.quanta * t.price**power for t in trades) for power in range(3)]
    return cleared(position, position if order is None else order, traded, payment, moments, band)


def matched(sold: Sequence[int], bought: Sequence[int], price: int) -> list[Trade]:
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


def draw_band(generator: np.random.Generator) -> tuple[int, int]:
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


def net(supply: Sequence[int], demand: Sequence[int]) -> Ints:
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
        yield traded(net(supply, demand), matched(sold, bought, sum(band) // 2), band)


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
        position = net([2 * half] * sellers, demand)
        yield traded(position, matched(sold, demand, sum(band) // 2), band)


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
            yield traded(net(supply, demand), matched(sold, bought, price), band)

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
            for trade in matched(supply, demand, middle)
            for sign in (1, -1)
        ]
        yield traded(net(supply, demand), trades, band)


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
        yield traded(net(supply, demand), matched(supply, bought, sum(band) // 2), band)


SERIES: dict[str, Kind] = {
    "grid-share": _grid_share,
    "seller-shut-out": _seller_shut_out,
    "price-up": _drift(1),
    "price-down": _drift(-1),
    "price-spread": _price_spread,
    "buyers-uneven": _buyers_uneven,
}
