"""Numba kernels that clear the orders of one community.

Both kernels work in place on a community's slice `first .. first + n` of flat arrays, so that a
batch of communities needs no copies and no row slices. Three things were measured to matter, and
bring the double auction level with the same algorithm in C -O3 (`perf/clearing.py`): offsets
instead of slices, unsigned index arithmetic (a signed index is checked for wraparound), and
inlining (an array is passed to a function as seven arguments). A kernel has one return, because
with several the array references are counted book by book.

Order of one household: `order > 0` offers that many quanta, `order < 0` bids for them, 0 abstains;
`level` indexes the slot's ascending price grid, which starts at `ticks[grid]`, K <= 64 levels. The
community's arrival order, household numbers 0..n-1, starts at `arrival[turn]`. Results, written
for every household: `traded` (signed like `order`) and `payment` (received > 0, paid < 0, in
quanta x ticks). Returned per community: volume in quanta, sum of quantity x price and sum of
quantity x price^2, the moments from which the mean trade price and its volume-weighted deviation
follow. Scratch arrays are allocated once by the caller and need no initial value.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numba.cpython.unsafe.numbers import leading_zeros, trailing_zeros

U = np.uint64
ONE = U(1)
TOP = U(63)
OFFERS = U(64)

jit = njit(cache=True, error_model="numpy", nogil=True)
inlined = njit(cache=True, error_model="numpy", nogil=True, forceinline=True)


@inlined
def clear_cda(
    first, n, order, level, ticks, grid, arrival, turn, traded, payment, queue, head, tail
):
    """Continuous double auction with price-time priority.

    Orders arrive one by one. An arriving order trades with the best resting orders of the other
    side, earliest first, as long as prices cross, at the price of the *resting* order; what is left
    rests. The book is empty at the start of a slot and forgotten at its end. One order per
    household, so nobody trades with herself.

    `queue[0:n]`, `head[0:128]` and `tail[0:128]` (int64) are scratch: a linked list per side and
    level of places in the flat arrays; entries 0..63 are bids, 64..127 offers.
    """
    start = U(first)
    prices = U(grid)
    bids = U(0)  # bit k: somebody's bid rests at level k
    offers = U(0)
    volume = np.int64(0)
    value = np.int64(0)
    square = np.int64(0)
    for k in range(U(turn), U(turn + n)):
        me = start + U(arrival[k])
        quantity = order[me]
        if quantity == 0:
            traded[me] = 0
            payment[me] = 0
            continue
        limit = U(level[me])
        balance = np.int64(0)
        if quantity < 0:
            left = -quantity
            while left > 0 and offers != 0:
                best = U(trailing_zeros(offers))
                if best > limit:
                    break
                other = U(head[OFFERS + best])
                done = traded[other]
                rest = order[other] - done
                price = ticks[prices + best]
                q = min(left, rest)
                money = q * price
                left -= q
                traded[other] = done + q
                payment[other] += money
                balance -= money
                square += money * price
                if q == rest:
                    following = queue[other - start]
                    head[OFFERS + best] = following
                    if following < 0:
                        offers ^= ONE << best
            traded[me] = quantity + left
            payment[me] = balance
            volume -= quantity + left
            value -= balance
            if left > 0:
                bit = ONE << limit
                queue[me - start] = -1
                if bids & bit:
                    queue[U(tail[limit]) - start] = me
                else:
                    head[limit] = me
                    bids |= bit
                tail[limit] = me
        else:
            left = quantity
            while left > 0 and bids != 0:
                best = TOP - U(leading_zeros(bids))
                if best < limit:
                    break
                other = U(head[best])
                done = traded[other]
                rest = done - order[other]
                price = ticks[prices + best]
                q = min(left, rest)
                money = q * price
                left -= q
                traded[other] = done - q
                payment[other] -= money
                balance += money
                square += money * price
                if q == rest:
                    following = queue[other - start]
                    head[best] = following
                    if following < 0:
                        bids ^= ONE << best
            traded[me] = quantity - left
            payment[me] = balance
            volume += quantity - left
            value += balance
            if left > 0:
                bit = ONE << limit
                queue[me - start] = -1
                if offers & bit:
                    queue[U(tail[OFFERS + limit]) - start] = me
                else:
                    head[OFFERS + limit] = me
                    offers |= bit
                tail[OFFERS + limit] = me
    return volume, value, square


@inlined
def clear_call(
    first, n, order, level, ticks, grid, levels, arrival, turn, traded, payment, bids, offers
):
    """Call auction with one uniform price (k-double auction with theta = 1/2).

    All orders meet at once. The largest crossing volume k trades; the price is the midpoint,
    rounded down to a tick, of the interval of clearing prices
    [max(s_k, b_{k+1}), min(b_k, s_{k+1})] of Rustichini, Satterthwaite and Williams (1994), where
    a missing next bid counts as the feed-in tariff and a missing next offer as the retail price.
    Households at the marginal level are served in the order of `arrival`.

    `bids[0:levels]` and `offers[0:levels]` (int64) are scratch histograms of quanta.
    """
    start = U(first)
    prices = U(grid)
    bid_levels = U(0)  # bit k: there are bids at level k
    offer_levels = U(0)
    for i in range(start, start + U(n)):
        traded[i] = 0
        payment[i] = 0
        quantity = order[i]
        at = U(level[i])
        bit = ONE << at
        if quantity < 0:
            if bid_levels & bit:
                bids[at] -= quantity
            else:
                bids[at] = -quantity
                bid_levels |= bit
        elif quantity > 0:
            if offer_levels & bit:
                offers[at] += quantity
            else:
                offers[at] = quantity
                offer_levels |= bit

    marginal_bid = U(0)
    marginal_offer = U(0)
    bid_left = np.int64(0)  # traded at the marginal level, yet to be handed to households
    offer_left = np.int64(0)
    volume = np.int64(0)
    while bid_levels != 0 and offer_levels != 0:
        high = TOP - U(leading_zeros(bid_levels))
        low = U(trailing_zeros(offer_levels))
        if high < low:
            break
        if high != marginal_bid:
            marginal_bid = high
            bid_left = 0
        if low != marginal_offer:
            marginal_offer = low
            offer_left = 0
        q = min(bids[high], offers[low])
        bids[high] -= q
        offers[low] -= q
        bid_left += q
        offer_left += q
        volume += q
        if bids[high] == 0:
            bid_levels ^= ONE << high
        if offers[low] == 0:
            offer_levels ^= ONE << low
    price = np.int64(0)
    if volume > 0:
        next_bid = U(0) if bid_levels == 0 else TOP - U(leading_zeros(bid_levels))
        next_offer = U(levels) - ONE if offer_levels == 0 else U(trailing_zeros(offer_levels))
        floor = max(ticks[prices + marginal_offer], ticks[prices + next_bid])
        ceiling = min(ticks[prices + marginal_bid], ticks[prices + next_offer])
        price = (floor + ceiling) // 2
        for k in range(U(turn), U(turn + n)):
            i = start + U(arrival[k])
            quantity = order[i]
            at = U(level[i])
            if quantity < 0:
                if at > marginal_bid:
                    traded[i] = quantity
                elif at == marginal_bid:
                    q = min(-quantity, bid_left)
                    bid_left -= q
                    traded[i] = -q
            elif quantity > 0:
                if at < marginal_offer:
                    traded[i] = quantity
                elif at == marginal_offer:
                    q = min(quantity, offer_left)
                    offer_left -= q
                    traded[i] = q
            payment[i] = traded[i] * price
    return volume, volume * price, volume * price * price


@jit
def clear_batch(
    mechanism, communities, n, levels, order, level, ticks, arrival, traded, payment, moments
):
    """Clear `communities` books of `n` households each; see the module for the arrays.

    `ticks` is [communities * levels], `arrival` [communities * n], `moments` [communities * 3].
    Each mechanism has its own loop: it leaves the compiler enough registers (2 %).
    """
    queue = np.empty(n, np.int64)
    head = np.empty(128, np.int64)
    tail = np.empty(128, np.int64)
    if mechanism == 0:
        for b in range(communities):
            first = b * n
            volume, value, square = clear_cda(
                first, n, order, level, ticks, b * levels, arrival, first, traded, payment,
                queue, head, tail,
            )  # fmt: skip
            moments[3 * b] = volume
            moments[3 * b + 1] = value
            moments[3 * b + 2] = square
    else:
        for b in range(communities):
            first = b * n
            volume, value, square = clear_call(
                first, n, order, level, ticks, b * levels, levels, arrival, first, traded, payment,
                head, tail,
            )  # fmt: skip
            moments[3 * b] = volume
            moments[3 * b + 1] = value
            moments[3 * b + 2] = square
