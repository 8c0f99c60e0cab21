"""Let the battery follow the own net load, then quote the rest at the mid-market price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peerwatt_algorithms.scripted import FOLLOW, Scripted


@dataclass(frozen=True)
class SelfConsumption(Scripted):
    """Let the battery follow the own net load, then quote the rest at the mid-market price."""

    def act(
        self,
        observations: NDArray[np.float32],
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return actions [B, N, 3]; see `peerwatt.evaluation.Policy`."""
        return self.quote(observations, action_mask, self.nvec[0] // 2, self.nvec[1] - 1, FOLLOW)
