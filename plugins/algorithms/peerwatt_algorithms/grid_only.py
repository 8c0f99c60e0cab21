"""Never trade, leave the battery idle: the lower anchor of the welfare scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peerwatt_algorithms.scripted import IDLE, Scripted


@dataclass(frozen=True)
class GridOnly(Scripted):
    """Never trade, leave the battery idle: the lower anchor of the welfare scale."""

    def act(
        self,
        observations: NDArray[np.float32],
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return actions [B, N, 3]; see `peerwatt.evaluation.Policy`."""
        return self.quote(observations, action_mask, 0, 0, IDLE)
