"""The Vickrey-Clarke-Groves mechanism: everybody pays for what her order costs the others.

Sources: Vickrey (1961), Journal of Finance 16:8; Clarke (1971), Public Choice 11:17; Groves (1973),
Econometrica 41:617.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peerwatt_mechanisms.matching import match_levels


def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Clear one book; see `peerwatt.market.mechanism`.

    The largest crossing volume trades, the most valued orders first, equal ones in the order of
    `arrival`. Let W be the sum of what the orders matched are worth by their levels, buyers' less
    sellers', and W(-i) the largest such sum without the order of household i, who trades x_i
    (sold > 0) at level price v_i. She receives (Clarke's pivot rule)

        v_i x_i + W - W(-i).

    With D_k quanta bid for above level k and S_k offered at or below it, W is the sum over k of
    min(D_k, S_k) (ticks[k + 1] - ticks[k]); without a bid of q at level l, D_k is q less for k < l.
    So no sorting is needed, and all is exact.
    """
    n = order.size
    levels = ticks.size
    demand = scratch[:levels]
    supply = scratch[levels : 2 * levels]
    volume, bid_level, bid_left, offer_level, offer_left = match_levels(
        order, level, levels, demand, supply
    )
    above = 0  # from quanta at each level to D and S
    for k in range(levels - 1, -1, -1):
        at_level = demand[k]
        demand[k] = above
        above += at_level
    for k in range(1, levels):
        supply[k] += supply[k - 1]

    value = 0  # twice the moments: once for the buyers, once for the sellers
    square = 0
    for k in range(n):
        i = arrival[k]
        quantity = order[i]
        at = level[i]
        done = 0
        gain = 0  # W - W(-i)
        if quantity < 0:
            if at > bid_level:
                done = quantity
            elif at == bid_level:
                done = max(quantity, -bid_left)
                bid_left += done
            if done != 0:
                for j in range(at):
                    lost = min(demand[j], supply[j]) - min(demand[j] + quantity, supply[j])
                    gain += lost * (ticks[j + 1] - ticks[j])
        elif quantity > 0:
            if at < offer_level:
                done = quantity
            elif at == offer_level:
                done = min(quantity, offer_left)
                offer_left -= done
            if done != 0:
                for j in range(at, levels - 1):
                    lost = min(demand[j], supply[j]) - min(demand[j], supply[j] - quantity)
                    gain += lost * (ticks[j + 1] - ticks[j])
        money = done * ticks[at] + gain
        traded[i] = done
        payment[i] = money
        value += money if done > 0 else -money
        if done != 0:  # money^2 / quanta without overflow
            quanta = abs(done)
            price = abs(money) // quanta
            rest = abs(money) - price * quanta
            square += quanta * price * price + 2 * price * rest + rest * rest // quanta
    return volume, value // 2, square // 2


@dataclass(frozen=True)
class VickreyClarkeGroves:
    """Efficient, and truthful in price levels; it runs a deficit, which the operator pays in.

    A buyer pays no more, and a seller gets no less, than if her order had decided the price, so
    sellers get more than buyers pay: the metric `market_surplus` tells by how much. No mechanism
    that is efficient, truthful and individually rational balances its budget (Myerson and
    Satterthwaite 1983, Journal of Economic Theory 29:265).
    """

    properties: ClassVar[frozenset[str]] = frozenset({"respects-limits", "efficient", "truthful"})
    clear = staticmethod(clear)

    def parameters(self) -> tuple[float, ...]:
        """Return no parameters: it has no options."""
        return ()
