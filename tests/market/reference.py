"""Plain, slow, obviously right references of the market mechanisms: one book, Python integers."""

from __future__ import annotations

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


def clear_call(order: list[int], level: list[int], ticks: list[int], arrival: list[int]) -> Outcome:
    """Call auction, quantum by quantum: the k best bids meet the k best offers at one price."""
    turn = {household: k for k, household in enumerate(arrival)}
    bids = [i for i, quantity in enumerate(order) for _ in range(-quantity)]
    offers = [i for i, quantity in enumerate(order) for _ in range(quantity)]
    bids.sort(key=lambda i: (-level[i], turn[i]))
    offers.sort(key=lambda i: (level[i], turn[i]))
    pairs = [(s, b) for s, b in zip(offers, bids, strict=False) if level[b] >= level[s]]
    k = len(pairs)
    if k == 0:
        return outcome(len(order), [])
    last_offer, last_bid = ticks[level[offers[k - 1]]], ticks[level[bids[k - 1]]]
    next_bid = ticks[level[bids[k]]] if k < len(bids) else ticks[0]
    next_offer = ticks[level[offers[k]]] if k < len(offers) else ticks[-1]
    price = (max(last_offer, next_bid) + min(last_bid, next_offer)) // 2
    return outcome(len(order), [Trade(seller, buyer, 1, price) for seller, buyer in pairs])


REFERENCES = {"cda": clear_cda, "call": clear_call}
