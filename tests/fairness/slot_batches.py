"""Slot batches for the tests, built trade by trade so that they are consistent."""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from peerwatt.fairness import SlotBatch

FEED_IN, RETAIL = 0.08, 0.28
MIDDLE = (FEED_IN + RETAIL) / 2


class Trade(NamedTuple):
    seller: int
    buyer: int
    kwh: float
    price: float


def slot(net, trades=(), feed_in=FEED_IN, retail=RETAIL):
    """One slot in which household n has `net[n]` kWh to sell (> 0) or to buy (< 0)."""
    net = np.array(net, dtype=float)
    sold, bought, received, paid = np.zeros((4, len(net)))
    for trade in trades:
        sold[trade.seller] += trade.kwh
        bought[trade.buyer] += trade.kwh
        received[trade.seller] += trade.kwh * trade.price
        paid[trade.buyer] += trade.kwh * trade.price
    volume, mean, deviation = sum(trade.kwh for trade in trades), np.nan, np.nan
    if volume:
        mean = sum(trade.kwh * trade.price for trade in trades) / volume
        deviation = np.sqrt(sum(t.kwh * (t.price - mean) ** 2 for t in trades) / volume)
    surplus, deficit = np.maximum(net, 0.0), np.maximum(-net, 0.0)
    per_slot = (feed_in, retail, (feed_in + retail) / 2)
    households = (surplus, deficit, surplus, deficit, sold, bought, received, paid)
    fields = (*per_slot, *households, volume, mean, deviation)
    return SlotBatch(*(np.array(field, dtype=float)[None] for field in fields))


def join(slots):
    return SlotBatch(*(np.concatenate(column) for column in zip(*slots, strict=True)))


@st.composite
def single_slots(draw, households=None):
    """A random slot: nets in whole quanta, any feasible trades at any price of the band."""
    count = households or draw(st.integers(1, 8))
    net = np.array([draw(st.integers(-3000, 3000)) for _ in range(count)])
    left, trades = net.copy(), []
    for _ in range(draw(st.integers(0, 6))):
        sellers, buyers = np.flatnonzero(left > 0), np.flatnonzero(left < 0)
        if not len(sellers) or not len(buyers):
            break
        seller = int(draw(st.sampled_from(list(sellers))))
        buyer = int(draw(st.sampled_from(list(buyers))))
        quanta = draw(st.integers(1, int(min(left[seller], -left[buyer]))))
        left[seller] -= quanta
        left[buyer] += quanta
        ticks = draw(st.integers(800, 2800))
        trades.append(Trade(seller, buyer, quanta / 1024, ticks / 10_000))
    return slot(net / 1024, trades)


@st.composite
def batches(draw):
    households = draw(st.integers(1, 6))
    return join(draw(st.lists(single_slots(households), min_size=1, max_size=5)))
