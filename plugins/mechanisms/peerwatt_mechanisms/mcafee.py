"""McAfee's trade reduction, for orders of any size.

Source: McAfee (1992), "A dominant strategy double auction", Journal of Economic Theory 56:434-450.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peerwatt_mechanisms.matching import match_levels, ration


def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Clear one book; see `peerwatt.market.mechanism`.

    Bids are ranked from the highest and offers from the lowest level on, equal ones in the order of
    `arrival`, and the largest crossing volume is matched. The *marginal* bid and offer are the last
    orders matched, at prices b and s; the *next* are the first that are not matched at all, at the
    feed-in tariff or the retail price if there are none. Let p be the middle of the two next
    prices, rounded down to a tick.

    - If both marginal orders are matched in full and s <= p <= b, all that is matched trades at p.
    - Otherwise both marginal orders leave. The other matched orders trade as much as the shorter
      side has, the longer one rationed pro rata; buyers pay b, sellers get s, and the operator
      keeps the difference.
    """
    n = order.size
    levels = ticks.size
    volume, bid_level, bid_left, offer_level, offer_left = match_levels(
        order, level, levels, scratch[n : n + levels], scratch[n + levels : n + 2 * levels]
    )
    marginal_bid = -1
    marginal_offer = -1
    next_bid = 0
    next_offer = levels - 1
    for k in range(n):
        i = arrival[k]
        quantity = order[i]
        at = level[i]
        traded[i] = 0
        if quantity < 0:
            if at > bid_level:
                traded[i] = quantity
            elif at == bid_level and bid_left > 0:
                traded[i] = max(quantity, -bid_left)
                bid_left += traded[i]
                marginal_bid = i
            else:
                next_bid = max(next_bid, at)
        elif quantity > 0:
            if at < offer_level:
                traded[i] = quantity
            elif at == offer_level and offer_left > 0:
                traded[i] = min(quantity, offer_left)
                offer_left -= traded[i]
                marginal_offer = i
            else:
                next_offer = min(next_offer, at)

    bid_price = 0
    offer_price = 0
    if volume > 0:
        bid_price = ticks[bid_level]
        offer_price = ticks[offer_level]
        middle = (ticks[next_bid] + ticks[next_offer]) // 2
        in_full = (
            traded[marginal_bid] == order[marginal_bid]
            and traded[marginal_offer] == order[marginal_offer]
        )
        if in_full and offer_price <= middle <= bid_price:
            bid_price = middle
            offer_price = middle
        else:
            bought = volume + traded[marginal_bid]
            sold = volume - traded[marginal_offer]
            traded[marginal_bid] = 0
            traded[marginal_offer] = 0
            volume = min(bought, sold)
            if bought > volume:
                ration(traded, -1, bought, volume, arrival, scratch[:n])
            elif sold > volume:
                ration(traded, 1, sold, volume, arrival, scratch[:n])
    for i in range(n):
        payment[i] = traded[i] * (bid_price if traded[i] < 0 else offer_price)
    value = volume * (bid_price + offer_price) // 2
    return volume, value, volume * (bid_price * bid_price + offer_price * offer_price) // 2


@dataclass(frozen=True)
class McAfee:
    """The least valuable trade is given up, so that it does not pay to shade one's price.

    With orders of one size this is McAfee's mechanism: k - 1 of k trades are kept, or all k. The
    reduction for orders of any size is ours, and may lose much of the trade: the marginal order
    leaves as a whole, so one large seller and many buyers trade nothing unless the sides match
    exactly. Truthful are the price *levels* only; it may pay to misreport a quantity.
    """

    properties: ClassVar[frozenset[str]] = frozenset({"no-deficit", "respects-limits", "truthful"})
    clear = staticmethod(clear)

    def parameters(self) -> tuple[float, ...]:
        """Return no parameters: it has no options."""
        return ()
