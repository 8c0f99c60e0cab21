"""Zero-intelligence trader with a budget constraint (Gode and Sunder 1993, JPE 101:119).

Whoever has a surplus could export it at the feed-in tariff, whoever has a deficit could import it
at the retail price. So within her limit a seller asks, and a buyer bids, any price between the two
with equal probability, and never loses by trading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peerwatt_algorithms.scripted import IDLE, Scripted


@dataclass(frozen=True)
class ZeroIntelligence(Scripted):
    """Quote the whole surplus or deficit at a uniformly random price level; battery idle."""

    def act(
        self,
        observations: NDArray[np.float32],
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return actions [B, N, 3]; see `peerwatt.evaluation.Policy`."""
        level = generator.integers(0, self.nvec[0], observations.shape[:2])
        return self.quote(observations, action_mask, level, self.nvec[1] - 1, IDLE)
