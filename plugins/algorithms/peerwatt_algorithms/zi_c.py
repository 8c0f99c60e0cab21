"""Zero-intelligence trader with a budget constraint (Gode and Sunder 1993, JPE 101:119).

Whoever has a surplus could export it at the feed-in tariff, whoever has a deficit could import it
at the retail price. So within her limit a seller asks, and a buyer bids, any price between the two
with equal probability, and never loses by trading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peerwatt_algorithms.scripted import Scripted


@dataclass(frozen=True)
class ZeroIntelligence(Scripted):
    """Quote the whole surplus or deficit at a uniformly random price level; battery idle."""

    def price_levels(
        self, shape: tuple[int, int], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return a price level for every household, each equally likely."""
        return generator.integers(0, self.nvec[0], shape)
