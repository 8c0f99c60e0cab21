"""Plain, slow, obviously right references of the market mechanisms: one book, Python integers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple


class Trade(NamedTuple):
    seller: int
    buyer: int
    quanta: int
    price: int


class Resting(NamedTuple):
    """An order in the book; `turn` is when it came."""

    household: int
    level: int
    turn: int


class Outcome(NamedTuple):
    traded: list[int]
    payment: list[int]
    volume: int
    value: int
    square: int
    trades: list[Trade]


def outcome(n: int, trades: list[Trade]) -> Outcome:
    """Add up a list of trades."""
    traded, payment = [0] * n, [0] * n
    for seller, buyer, quanta, price in trades:
        traded[seller] += quanta
        traded[buyer] -= quanta
        payment[seller] += quanta * price
        payment[buyer] -= quanta * price
    return Outcome(
        traded,
        payment,
        sum(t.quanta for t in trades),
        sum(t.quanta * t.price for t in trades),
        sum(t.quanta * t.price**2 for t in trades),
        trades,
    )


def clear_cda(order: list[int], level: list[int], ticks: list[int], arrival: list[int]) -> Outcome:
    """Continuous double auction: best price first, then earliest; the resting order's price."""
    left = [abs(quantity) for quantity in order]
    bids: list[Resting] = []
    offers: list[Resting] = []
    trades: list[Trade] = []
    for turn, me in enumerate(arrival):
        is_bid = order[me] < 0
        while left[me] > 0:
            if is_bid:
                crossing = [r for r in offers if r.level <= level[me]]
                best = min(crossing, key=lambda r: (r.level, r.turn), default=None)
            else:
                crossing = [r for r in bids if r.level >= level[me]]
                best = min(crossing, key=lambda r: (-r.level, r.turn), default=None)
            if best is None:
                (bids if is_bid else offers).append(Resting(me, level[me], turn))
                break
            other = best.household
            quanta = min(left[me], left[other])
            seller, buyer = (other, me) if is_bid else (me, other)
            trades.append(Trade(seller, buyer, quanta, ticks[best.level]))
            left[me] -= quanta
            left[other] -= quanta
            if left[other] == 0:
                (offers if is_bid else bids).remove(best)
    return outcome(len(order), trades)


def matched(
    order: list[int], level: list[int], arrival: list[int]
) -> tuple[list[tuple[int, int, int]], list[int], list[int]]:
    """Match the best bid and the best offer, earliest first, as long as they cross.

    Returns (seller, buyer, quanta) of each match, and the bids and offers with something left.
    """
    turn = {household: k for k, household in enumerate(arrival)}
    bids = sorted((i for i in arrival if order[i] < 0), key=lambda i: (-level[i], turn[i]))
    offers = sorted((i for i in arrival if order[i] > 0), key=lambda i: (level[i], turn[i]))
    left = [abs(quantity) for quantity in order]
    pairs = []
    while bids and offers and level[bids[0]] >= level[offers[0]]:
        seller, buyer = offers[0], bids[0]
        quanta = min(left[seller], left[buyer])
        pairs.append((seller, buyer, quanta))
        left[seller] -= quanta
        left[buyer] -= quanta
        if left[seller] == 0:
            offers.pop(0)
        if left[buyer] == 0:
            bids.pop(0)
    return pairs, bids, offers


def clear_call(
    order: list[int],
    level: list[int],
    ticks: list[int],
    arrival: list[int],
    theta: Fraction = Fraction(1, 2),
) -> Outcome:
    """Call auction: the best bids meet the best offers, all at one price."""
    pairs, bids, offers = matched(order, level, arrival)
    if not pairs:
        return outcome(len(order), [])
    last_offer, last_bid, _ = pairs[-1]
    next_bid = ticks[level[bids[0]]] if bids else ticks[0]
    next_offer = ticks[level[offers[0]]] if offers else ticks[-1]
    low = max(ticks[level[last_offer]], next_bid)
    high = min(ticks[level[last_bid]], next_offer)
    price = low + floor(theta * (high - low))
    return outcome(len(order), [Trade(seller, buyer, q, price) for seller, buyer, q in pairs])


def settled(traded: Sequence[int], payment: Sequence[int]) -> Outcome:
    """The moments of households' totals, each of which is one trade at one price."""
    paid = -sum(money for quanta, money in zip(traded, payment, strict=True) if quanta < 0)
    received = sum(money for quanta, money in zip(traded, payment, strict=True) if quanta > 0)
    squares = [m * m // abs(q) for q, m in zip(traded, payment, strict=True) if q]
    volume = sum(q for q in traded if q > 0)
    return Outcome(
        list(traded), list(payment), volume, (paid + received) // 2, sum(squares) // 2, []
    )


def rationed(wanted: list[int], volume: int, arrival: list[int]) -> list[int]:
    """Share `volume` out in proportion to what is `wanted` (>= 0), by largest remainders."""
    total = sum(wanted)
    if total == volume:
        return wanted
    exact = [Fraction(quantity * volume, total) for quantity in wanted]
    shares = [floor(share) for share in exact]
    by_remainder = sorted(arrival, key=lambda i: shares[i] - exact[i])  # sorting is stable
    for i in by_remainder[: volume - sum(shares)]:
        shares[i] += 1
    return shares


def pro_rata(order: list[int], arrival: list[int], price: int) -> Outcome:
    """Whatever the levels, as much as possible trades at `price`; the long side is rationed."""
    offered, wanted = [max(q, 0) for q in order], [max(-q, 0) for q in order]
    volume = min(sum(offered), sum(wanted))
    sold, bought = rationed(offered, volume, arrival), rationed(wanted, volume, arrival)
    traded = [s - b for s, b in zip(sold, bought, strict=True)]
    return settled(traded, [quanta * price for quanta in traded])


def clear_mid_market_rate(
    order: list[int], level: list[int], ticks: list[int], arrival: list[int]
) -> Outcome:
    """The middle of the band, rounded down."""
    return pro_rata(order, arrival, floor(Fraction(ticks[0] + ticks[-1], 2)))


def sdr_price(supply: int, demand: int, feed_in: int, retail: int) -> Fraction:
    """What sellers get by Liu et al. (2017), in exact arithmetic."""
    if supply >= demand or feed_in <= 0:
        return Fraction(feed_in)
    ratio = Fraction(supply, demand)
    return retail * feed_in / ((retail - feed_in) * ratio + feed_in)


def clear_supply_demand_ratio(
    order: list[int], level: list[int], ticks: list[int], arrival: list[int]
) -> Outcome:
    """The price of the supply-demand ratio, to the nearest tick, halves up."""
    supply, demand = sum(q for q in order if q > 0), -sum(q for q in order if q < 0)
    price = sdr_price(supply, demand, ticks[0], ticks[-1])
    return pro_rata(order, arrival, floor(price + Fraction(1, 2)))


def clear_bill_sharing(
    order: list[int], level: list[int], ticks: list[int], arrival: list[int]
) -> Outcome:
    """Neighbours' energy is free."""
    return pro_rata(order, arrival, 0)


def clear_mcafee(
    order: list[int], level: list[int], ticks: list[int], arrival: list[int]
) -> Outcome:
    """Trade reduction on whole orders; see the mechanism's docstring."""
    n = len(order)
    pairs, bids, offers = matched(order, level, arrival)
    if not pairs:
        return settled([0] * n, [0] * n)
    sold, bought = [0] * n, [0] * n
    for seller, buyer, quanta in pairs:
        sold[seller] += quanta
        bought[buyer] += quanta
    last_offer, last_bid, _ = pairs[-1]
    next_bid = next((ticks[level[i]] for i in bids if not bought[i]), ticks[0])
    next_offer = next((ticks[level[i]] for i in offers if not sold[i]), ticks[-1])
    middle = (next_bid + next_offer) // 2
    b, s = ticks[level[last_bid]], ticks[level[last_offer]]
    in_full = bought[last_bid] == -order[last_bid] and sold[last_offer] == order[last_offer]
    if in_full and s <= middle <= b:
        b = s = middle
    else:
        bought[last_bid] = sold[last_offer] = 0
    volume = min(sum(bought), sum(sold))
    buys, sells = rationed(bought, volume, arrival), rationed(sold, volume, arrival)
    traded = [x - y for x, y in zip(sells, buys, strict=True)]
    return settled(traded, [x * s - y * b for x, y in zip(sells, buys, strict=True)])


def clear_vcg(order: list[int], level: list[int], ticks: list[int], arrival: list[int]) -> Outcome:
    """Efficient, with Clarke payments from clearing the book again without each household."""

    def worth(orders: list[int]) -> int:
        pairs, _, _ = matched(orders, level, arrival)
        return sum(q * (ticks[level[buyer]] - ticks[level[seller]]) for seller, buyer, q in pairs)

    n = len(order)
    traded = [0] * n
    for seller, buyer, quanta in matched(order, level, arrival)[0]:
        traded[seller] += quanta
        traded[buyer] -= quanta
    payment = []
    for i in range(n):
        others = worth(order) + traded[i] * ticks[level[i]]  # what the others have of it
        without = worth([0 if j == i else quantity for j, quantity in enumerate(order)])
        payment.append(others - without)
    return settled(traded, payment)


REFERENCES = {
    "cda": clear_cda,
    "call": clear_call,
    "mid-market-rate": clear_mid_market_rate,
    "supply-demand-ratio": clear_supply_demand_ratio,
    "bill-sharing": clear_bill_sharing,
    "mcafee": clear_mcafee,
    "vcg": clear_vcg,
}
