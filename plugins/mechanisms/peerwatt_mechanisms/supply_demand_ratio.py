"""The supply-demand ratio: the scarcer the offers, the nearer the price to retail.

Source: Liu, Yu, Wang, Li, Ma and Lei (2017), "Energy-sharing model with price-based demand response
for microgrids of peer-to-peer prosumers", IEEE Transactions on Power Systems 32(5):3569-3583.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peerwatt_mechanisms.matching import share_out


def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Clear one book; see `peerwatt.market.mechanism`.

    With S quanta offered, D bid for, feed-in f and retail r, min(S, D) is traded at
    r f / ((r - f) S / D + f) rounded to the nearest tick, halves up, and at f if S >= D; the longer
    side is rationed pro rata. The price levels of orders are ignored. With a feed-in tariff of 0 or
    less the formula says nothing about scarcity, and the price is f.
    """
    supply, demand = share_out(order, arrival, traded, scratch)
    volume = min(supply, demand)
    feed_in = ticks[0]
    retail = ticks[ticks.size - 1]
    price = feed_in
    if feed_in > 0 and supply < demand:
        dividend = retail * feed_in * demand
        divisor = (retail - feed_in) * supply + feed_in * demand
        price = dividend // divisor
        rest = dividend - price * divisor
        if rest >= divisor - rest:
            price += 1
    for i in range(order.size):
        payment[i] = traded[i] * price
    return volume, volume * price, volume * price * price


@dataclass(frozen=True)
class SupplyDemandRatio:
    """Everybody trades at one price that falls from retail to feed-in as supply meets demand.

    Liu et al. publish two prices. For x = S / D < 1 sellers get p = r f / ((r - f) x + f) and
    buyers pay p x + r (1 - x); for x >= 1 both are f. That is the same as trading at p and settling
    the rest of each household with the grid, for those who quote all they have or need. No
    household can gain by its price level because none is asked for; withholding quantity does move
    the price.
    """

    properties: ClassVar[frozenset[str]] = frozenset(
        {"budget-balanced", "individually-rational", "uniform-price", "truthful", "symmetric"}
    )
    clear = staticmethod(clear)

    def parameters(self) -> tuple[float, ...]:
        """Return no parameters: it has no options."""
        return ()
