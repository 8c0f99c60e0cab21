"""Numba kernels that clear the orders of one community.

Both kernels work in place on a community's slice `first .. first + n` of flat arrays, so that a
batch of communities needs no copies and no row slices (a row slice inside numba costs up to four
times the clearing itself). `scratch` arrays are allocated once by the caller.

Order of one household: `order > 0` offers that many quanta, `order < 0` bids for them, 0 abstains;
`level` indexes `ticks`, the ascending price grid of the slot. Results: `traded` (signed like
`order`) and `payment` (received > 0, paid < 0, in quanta x ticks). Returned per community: volume
in quanta, sum of quantity x price and sum of quantity x price^2, the moments from which the mean
trade price and its volume-weighted deviation follow.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.cpython.unsafe.numbers import leading_zeros, trailing_zeros

ONE = np.uint64(1)
TOP = np.uint64(63)

jit = njit(cache=True, error_model="numpy", nogil=True)


@jit
def clear_cda(  # type: ignore[no-untyped-def]  # noqa: ANN201
    first, n, order, level, ticks, arrival, traded, payment, queue, head, tail
):
    """Continuous double auction with price-time priority.

    Orders arrive one by one in the order `arrival[0:n]` (household numbers 0..n-1). An arriving
    order trades with the best resting orders of the other side, earliest first, as long as prices
    cross, at the price of the *resting* order; what is left rests. The book is empty at the start
    of a slot and forgotten at its end. One order per household, so nobody trades with herself.

    `queue[0:n]` (int64), `head[0:128]` and `tail[0:128]` (int64) are scratch: a linked list per
    side and level; entries 0..63 are bids, 64..127 offers.
    """
    bids = np.uint64(0)
    offers = np.uint64(0)
    volume = np.int64(0)
    value = np.int64(0)
    square = np.int64(0)
    for k in range(n):
        traded[first + k] = 0
        payment[first + k] = 0
    for k in range(n):
        me = arrival[k]
        quantity = order[first + me]
        if quantity == 0:
            continue
        limit = level[first + me]
        if quantity < 0:
            left = -quantity
            while left > 0 and offers != 0:
                best = np.int64(trailing_zeros(offers))
                if best > limit:
                    break
                other = head[64 + best]
                rest = order[first + other] - traded[first + other]
                price = ticks[best]
                q = min(left, rest)
                money = q * price
                left -= q
                traded[first + other] += q
                payment[first + other] += money
                payment[first + me] -= money
                volume += q
                value += money
                square += money * price
                if q == rest:
                    head[64 + best] = queue[other]
                    if queue[other] < 0:
                        offers ^= ONE << np.uint64(best)
            traded[first + me] = quantity + left
            if left > 0:
                bit = ONE << np.uint64(limit)
                queue[me] = -1
                if bids & bit:
                    queue[tail[limit]] = me
                else:
                    head[limit] = me
                    bids |= bit
                tail[limit] = me
        else:
            left = quantity
            while left > 0 and bids != 0:
                best = np.int64(TOP - np.uint64(leading_zeros(bids)))
                if best < limit:
                    break
                other = head[best]
                rest = traded[first + other] - order[first + other]
                price = ticks[best]
                q = min(left, rest)
                money = q * price
                left -= q
                traded[first + other] -= q
                payment[first + other] -= money
                payment[first + me] += money
                volume += q
                value += money
                square += money * price
                if q == rest:
                    head[best] = queue[other]
                    if queue[other] < 0:
                        bids ^= ONE << np.uint64(best)
            traded[first + me] = quantity - left
            if left > 0:
                bit = ONE << np.uint64(limit)
                queue[me] = -1
                if offers & bit:
                    queue[tail[64 + limit]] = me
                else:
                    head[64 + limit] = me
                    offers |= bit
                tail[64 + limit] = me
    return volume, value, square


@jit
def clear_call(  # type: ignore[no-untyped-def]  # noqa: ANN201
    first, n, order, level, ticks, levels, arrival, traded, payment, bids, offers
):
    """Call auction with one uniform price (k-double auction with theta = 1/2).

    All orders meet at once. The largest crossing volume k trades; the price is the midpoint,
    rounded down to a tick, of the interval of clearing prices
    [max(s_k, b_{k+1}), min(b_k, s_{k+1})] of Rustichini, Satterthwaite and Williams (1994), where
    a missing next bid counts as the feed-in tariff and a missing next offer as the retail price.
    Households at the marginal level are served in the order of `arrival`.

    `bids[0:levels]` and `offers[0:levels]` (int64) are scratch histograms of quanta.
    """
    for k in range(levels):
        bids[k] = 0
        offers[k] = 0
    for i in range(first, first + n):
        traded[i] = 0
        payment[i] = 0
        quantity = order[i]
        if quantity < 0:
            bids[level[i]] -= quantity
        elif quantity > 0:
            offers[level[i]] += quantity

    high = levels - 1
    low = 0
    marginal_bid = -1
    marginal_offer = -1
    volume = np.int64(0)
    while True:
        while high >= 0 and bids[high] == 0:
            high -= 1
        while low < levels and offers[low] == 0:
            low += 1
        if high < 0 or low >= levels or high < low:
            break
        q = min(bids[high], offers[low])
        bids[high] -= q
        offers[low] -= q
        volume += q
        marginal_bid = high
        marginal_offer = low
    if volume == 0:
        return volume, volume, volume

    next_bid = max(high, 0)
    next_offer = min(low, levels - 1)
    floor = max(ticks[marginal_offer], ticks[next_bid])
    ceiling = min(ticks[marginal_bid], ticks[next_offer])
    price = (floor + ceiling) // 2
    # What is still in the histogram at the marginal level stays unserved there.
    bid_left = np.int64(0)
    offer_left = np.int64(0)
    for k in range(n):
        i = first + arrival[k]
        if order[i] < 0 and level[i] == marginal_bid:
            bid_left -= order[i]
        elif order[i] > 0 and level[i] == marginal_offer:
            offer_left += order[i]
    bid_left -= bids[marginal_bid]
    offer_left -= offers[marginal_offer]
    for k in range(n):
        i = first + arrival[k]
        quantity = order[i]
        if quantity < 0:
            if level[i] > marginal_bid:
                traded[i] = quantity
            elif level[i] == marginal_bid:
                q = min(-quantity, bid_left)
                bid_left -= q
                traded[i] = -q
        elif quantity > 0:
            if level[i] < marginal_offer:
                traded[i] = quantity
            elif level[i] == marginal_offer:
                q = min(quantity, offer_left)
                offer_left -= q
                traded[i] = q
        payment[i] = traded[i] * price
    return volume, volume * price, volume * price * price


@jit
def clear_batch(  # type: ignore[no-untyped-def]  # noqa: ANN201
    mechanism, communities, n, levels, order, level, ticks, arrival, traded, payment, moments
):
    """Clear `communities` books of `n` households each; see the module for the arrays.

    `ticks` is [communities * levels], `arrival` [communities * n], `moments` [communities * 3].
    """
    queue = np.empty(n, np.int64)
    head = np.empty(128, np.int64)
    tail = np.empty(128, np.int64)
    for b in range(communities):
        first = b * n
        grid = ticks[b * levels : (b + 1) * levels]
        turn = arrival[first : first + n]
        if mechanism == 0:
            volume, value, square = clear_cda(
                first, n, order, level, grid, turn, traded, payment, queue, head, tail
            )
        else:
            volume, value, square = clear_call(
                first, n, order, level, grid, levels, turn, traded, payment, head, tail
            )
        moments[3 * b] = volume
        moments[3 * b + 1] = value
        moments[3 * b + 2] = square
