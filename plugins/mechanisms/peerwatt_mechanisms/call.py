"""The call auction with one uniform price, a k-double auction.

Source: Rustichini, Satterthwaite and Williams (1994), Econometrica 62:1041.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba.cpython.unsafe.numbers import leading_zeros, trailing_zeros

from peerwatt.errors import PeerWattError

U = np.uint64
ONE = U(1)
TOP = U(63)


def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Clear one book; see `peerwatt.market.mechanism`.

    The largest crossing volume k trades. The price is `theta` of the way up the interval of
    clearing prices [max(s_k, b_{k+1}), min(b_k, s_{k+1})], rounded down to a tick, where a missing
    next bid counts as the feed-in tariff and a missing next offer as the retail price. Households
    at the marginal level are served in the order of `arrival`.
    """
    # Bit masks of the levels with orders, and the quanta at each of those levels.
    bid_levels = U(0)
    offer_levels = U(0)
    bids = scratch[:64]
    offers = scratch[64:128]
    for i in range(U(order.size)):
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
        next_offer = U(ticks.size) - ONE if offer_levels == 0 else U(trailing_zeros(offer_levels))
        floor = max(ticks[marginal_offer], ticks[next_bid])
        ceiling = min(ticks[marginal_bid], ticks[next_offer])
        # A theta of 0.29 and 100 ticks are 29 ticks, though their product is 28.999999999999996.
        price = floor + np.int64(math.floor(parameters[0] * (ceiling - floor) + 1e-9))
        for k in range(U(order.size)):
            i = U(arrival[k])
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


@dataclass(frozen=True)
class CallAuction:
    """All orders meet at once and trade at one price between the marginal bid and offer."""

    theta: float = 0.5
    """Where the price lies in the interval of clearing prices: 0 is the sellers' end of it, the
    lowest, and 1 the highest."""

    properties: ClassVar[frozenset[str]] = frozenset(
        {"budget-balanced", "respects-limits", "uniform-price", "efficient"}
    )
    clear = staticmethod(clear)

    def __post_init__(self) -> None:
        """Check the options."""
        if not 0.0 <= self.theta <= 1.0:
            raise PeerWattError(f"theta {self.theta} of mechanism 'call' must lie in 0..1.")

    def parameters(self) -> tuple[float, ...]:
        """Return theta."""
        return (self.theta,)
