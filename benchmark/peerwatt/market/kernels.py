"""Numba kernels that clear the orders of whole batches of communities.

The double auction works in place on a community's slice `first .. first + n` of flat arrays, so
that a batch needs no copies and no row slices; other mechanisms get views of one book and are
called by their address (`peerwatt.market.mechanism`). Three things were measured to matter, and
bring the double auction level with the same algorithm in C -O3 (`perf/clearing.py`): offsets
instead of slices, unsigned index arithmetic (a signed index is checked for wraparound), and
inlining (an array is passed to a function as seven arguments). `clear_cda` has one return, because
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

from peerwatt.market.mechanism import INLINED, SCRATCH, SCRATCH_PER_HOUSEHOLD, invoke

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


@jit
def double_auction(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """`clear_cda` with the signature of a mechanism; see `peerwatt.market.mechanism`."""
    n = order.size
    return clear_cda(
        0, n, order, level, ticks, 0, arrival, 0, traded, payment,
        scratch[:n], scratch[n : n + 128], scratch[n + 128 : n + 256],
    )  # fmt: skip


@inlined
def lawful(first, last, order, traded, payment, volume, value):
    """Return whether what a mechanism wrote is a clearing at all: no energy from nowhere.

    And whether the prices that it tells, by which it is scored, are those that were paid. That
    payments fit its declared properties is for the conformance suite.
    """
    balance = np.int64(0)
    sold = np.int64(0)
    money = np.int64(0)
    bad = False
    for i in range(first, last):
        q = traded[i]
        balance += q
        sold += max(q, 0)
        money += payment[i] if q > 0 else (-payment[i] if q < 0 else 0)
        bad |= q > max(order[i], 0)
        bad |= q < min(order[i], 0)
    return not bad and balance == 0 and sold == volume and money // 2 == value


@jit
def clear_batch(
    address, parameters, communities, n, levels, order, level, ticks, arrival, traded, payment,
    moments,
):  # fmt: skip
    """Clear `communities` books of `n` households each by the mechanism at `address`.

    `ticks` is [communities * levels], `arrival` [communities * n], `moments` [communities * 3].
    The double auction has its own loop: it leaves the compiler enough registers (2 %).

    Returns the first book that the mechanism cleared unlawfully (see `lawful`), or -1.
    """
    scratch = np.empty(SCRATCH_PER_HOUSEHOLD * n + SCRATCH, np.int64)
    if address == INLINED:
        queue = scratch[:n]
        head = scratch[n : n + 128]
        tail = scratch[n + 128 : n + 256]
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
            last = first + n
            volume, value, square = invoke(
                address, order[first:last], level[first:last],
                ticks[b * levels : (b + 1) * levels], arrival[first:last], parameters,
                traded[first:last], payment[first:last], scratch,
            )  # fmt: skip
            if not lawful(first, last, order, traded, payment, volume, value):
                return b
            moments[3 * b] = volume
            moments[3 * b + 1] = value
            moments[3 * b + 2] = square
    return -1
