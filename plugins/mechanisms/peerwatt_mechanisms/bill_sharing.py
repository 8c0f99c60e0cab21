"""Bill sharing: the community pays its bill at the meter together, neighbours' energy is free.

Source: Long, Wu, Zhang, Thomas, Cheng and Jenkins (2017), "Peer-to-peer energy trading in a
community microgrid", IEEE PES General Meeting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from peerwatt_mechanisms.matching import share_out


def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Clear one book; see `peerwatt.market.mechanism`.

    With S quanta offered and D bid for, min(S, D) changes hands for nothing; the longer side is
    rationed pro rata. The price levels of orders are ignored.
    """
    supply, demand = share_out(order, arrival, traded, scratch)
    payment[:] = 0
    return min(supply, demand), np.int64(0), np.int64(0)


@dataclass(frozen=True)
class BillSharing:
    """Energy passes between neighbours for nothing; the bill of the grid is shared pro rata.

    Long et al. share the community's bill of each slot: an import costs everybody the community's
    import cost / the sum of imports, r (D - S) / D if D > S and else 0; an export earns everybody
    the community's export income / the sum of exports, f (S - D) / S if S > D and else 0. That is
    the same as giving min(S, D) away pro rata and settling the rest of each household with the
    grid, for those who quote all they have or need. It is not individually rational: sellers may
    get less than the feed-in tariff. No household can gain by its price level because none is
    asked for.
    """

    properties: ClassVar[frozenset[str]] = frozenset(
        {"budget-balanced", "uniform-price", "truthful", "symmetric"}
    )
    clear = staticmethod(clear)

    def parameters(self) -> tuple[float, ...]:
        """Return no parameters: it has no options."""
        return ()
