"""Quote the whole surplus or deficit at the mid-market price; leave the battery idle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peerwatt_algorithms.scripted import IDLE, Scripted


@dataclass(frozen=True)
class MidQuote(Scripted):
    """Quote the whole surplus or deficit at the mid-market price; leave the battery idle."""

    def act(
        self,
        observations: NDArray[np.float32],
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return actions [B, N, 3]; see `peerwatt.evaluation.Policy`."""
        return self.quote(observations, action_mask, self.nvec[0] // 2, self.nvec[1] - 1, IDLE)
