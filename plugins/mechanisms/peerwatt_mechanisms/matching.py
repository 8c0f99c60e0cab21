"""Who trades how much, by price or pro rata; shared by several mechanisms.

numba caches a compiled mechanism beside its own file and does not notice an edit of this one:
after changing it, delete `*.nbi` and `*.nbc` in this folder (`make test` does).
"""

from __future__ import annotations

from numba import njit

inlined = njit(cache=True, error_model="numpy", nogil=True, forceinline=True)


@inlined
def match_levels(order, level, levels, bids, offers):
    """Find the largest crossing volume of a book of `levels` price levels.

    Returns it and the marginal level of each side, with the quanta that trade there:
    (volume, bid level, bid quanta, offer level, offer quanta). Better levels trade in full, worse
    ones not at all. `bids` and `offers` [levels] receive the quanta at each level.
    """
    bids[:levels] = 0
    offers[:levels] = 0
    demand = 0
    for i in range(order.size):
        quantity = order[i]
        if quantity > 0:
            offers[level[i]] += quantity
        else:
            bids[level[i]] -= quantity
            demand -= quantity
    supply = 0
    volume = 0
    for k in range(levels):  # demand at level k or better, supply at level k or better
        supply += offers[k]
        volume = max(volume, min(demand, supply))
        demand -= bids[k]
    bid_level = levels - 1
    bid_quanta = volume
    while bid_quanta > bids[bid_level]:
        bid_quanta -= bids[bid_level]
        bid_level -= 1
    offer_level = 0
    offer_quanta = volume
    while offer_quanta > offers[offer_level]:
        offer_quanta -= offers[offer_level]
        offer_level += 1
    return volume, bid_level, bid_quanta, offer_level, offer_quanta


@inlined
def ration(traded, side, total, volume, arrival, remainder):
    """Cut the trades of one side from `total` down to `volume` quanta in proportion, in place.

    `side` is 1 for sellers and -1 for buyers; `total` is the sum of their trades. Everybody gets
    the share quantity * volume / total rounded down; the quanta left over go, one each, to the
    largest remainders, those of equal remainder in the order of `arrival`. Exact up to 2**31 quanta
    a side. `remainder` [n] is scratch.
    """
    n = traded.size
    left = volume
    for i in range(n):
        quantity = side * traded[i]
        remainder[i] = -1
        if quantity > 0:
            share = quantity * volume // total
            remainder[i] = quantity * volume - share * total
            traded[i] = side * share
            left -= share
    if left > 0:
        # Bisect for the smallest remainder that is still rounded up: at least `left` households
        # have `low` or more, and fewer have `high` or more.
        low = 0
        high = total
        while high - low > 1:
            middle = (low + high) // 2
            count = 0
            for i in range(n):
                count += remainder[i] >= middle
            if count >= left:
                low = middle
            else:
                high = middle
        for i in range(n):
            if remainder[i] >= high:
                traded[i] += side
                left -= 1
        for k in range(n):
            i = arrival[k]
            if left > 0 and remainder[i] == low:
                traded[i] += side
                left -= 1


@inlined
def share_out(order, arrival, traded, remainder):
    """Write into `traded` what each household trades if the long side is rationed pro rata.

    Price levels are ignored. Returns the quanta offered and bid for; the smaller is traded.
    `remainder` [n] is scratch.
    """
    supply = 0
    demand = 0
    for i in range(order.size):
        quantity = order[i]
        traded[i] = quantity
        supply += max(quantity, 0)
        demand += max(-quantity, 0)
    if supply > demand:
        ration(traded, 1, supply, demand, arrival, remainder)
    elif demand > supply:
        ration(traded, -1, demand, supply, arrival, remainder)
    return supply, demand
