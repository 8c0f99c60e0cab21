"""The mid-market rate: what neighbours trade costs the middle of feed-in and retail.

Source: Long, Wu, Zhang, Thomas, Cheng and Jenkins (2017), "Peer-to-peer energy trading in a
community microgrid", IEEE PES General Meeting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peerwatt_mechanisms.matching import share_out


def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Clear one book; see `peerwatt.market.mechanism`.

    With S quanta offered and D bid for, min(S, D) is traded at the middle of the band, rounded down
    to a tick; the longer side is rationed pro rata. The price levels of orders are ignored.
    """
    supply, demand = share_out(order, arrival, traded, scratch)
    volume = min(supply, demand)
    price = (ticks[0] + ticks[ticks.size - 1]) // 2
    for i in range(order.size):
        payment[i] = traded[i] * price
    return volume, volume * price, volume * price * price


@dataclass(frozen=True)
class MidMarketRate:
    """Everybody trades at the middle of feed-in tariff and retail price; the long side shares.

    Long et al. publish two prices, with p the middle of feed-in f and retail r: if S <= D, sellers
    get p and buyers pay (S p + (D - S) r) / D; if S > D, buyers pay p and sellers get
    (D p + (S - D) f) / S. That is the same once the rest of each household settles with the grid,
    for those who quote all they have or need; what a household holds back settles with the grid at
    its own expense. No household can gain by its price level because none is asked for.
    """

    properties: ClassVar[frozenset[str]] = frozenset(
        {"budget-balanced", "individually-rational", "uniform-price", "truthful", "symmetric"}
    )
    clear = staticmethod(clear)

    def parameters(self) -> tuple[float, ...]:
        """Return no parameters: it has no options."""
        return ()
