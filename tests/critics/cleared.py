"""Random cleared slots in which some trade was feasible, of households of very unequal size."""

import numpy as np
from hypothesis import strategies as st

from peerwatt.fairness import SlotBatch

FEED_IN, RETAIL = 0.08, 0.28
SIZES = (1, 3, 17, 256, 1000, 5000)  # quanta


@st.composite
def cleared(draw, most=12):
    """One slot: everybody quotes a part of what she has, and some of it is traded."""
    size = st.sampled_from(SIZES)
    surplus = draw(st.lists(size, min_size=1, max_size=most))
    deficit = draw(st.lists(size, min_size=1, max_size=most))
    idle = draw(st.integers(0, 2))
    offered = [draw(st.integers(0, quanta)) for quanta in surplus]
    demanded = [draw(st.integers(0, quanta)) for quanta in deficit]
    sold, bought = np.zeros(len(surplus)), np.zeros(len(deficit))
    trades = []
    for _ in range(draw(st.integers(0, 6))):
        seller = draw(st.integers(0, len(surplus) - 1))
        buyer = draw(st.integers(0, len(deficit) - 1))
        most_now = min(offered[seller] - sold[seller], demanded[buyer] - bought[buyer])
        if most_now >= 1:
            quanta, ticks = draw(st.integers(1, int(most_now))), draw(st.integers(800, 2800))
            sold[seller] += quanta
            bought[buyer] += quanta
            trades.append((seller, len(surplus) + buyer, quanta / 1024, ticks / 10_000))
    no_seller, no_buyer, idle = [0] * len(surplus), [0] * len(deficit), [0] * idle
    return _slot(
        surplus=np.array([*surplus, *no_buyer, *idle]) / 1024,
        deficit=np.array([*no_seller, *deficit, *idle]) / 1024,
        offered=np.array([*offered, *no_buyer, *idle]) / 1024,
        demanded=np.array([*no_seller, *demanded, *idle]) / 1024,
        trades=trades,
        reference=draw(st.sampled_from((0.18, 0.12, 0.25))),
    )


def _slot(surplus, deficit, offered, demanded, trades, reference):
    sold, bought, received, paid = np.zeros((4, len(surplus)))
    for seller, buyer, kwh, price in trades:
        sold[seller] += kwh
        bought[buyer] += kwh
        received[seller] += kwh * price
        paid[buyer] += kwh * price
    kwh, price = np.array([trade[2:] for trade in trades]).reshape(-1, 2).T
    volume, mean, deviation = kwh.sum(), np.nan, np.nan
    if trades:
        mean = (kwh * price).sum() / volume
        deviation = np.sqrt((kwh * (price - mean) ** 2).sum() / volume)
    households = (surplus, deficit, offered, demanded, sold, bought, received, paid)
    fields = (FEED_IN, RETAIL, reference, *households, volume, mean, deviation)
    return SlotBatch(*(np.array(field, dtype=float)[None] for field in fields))
