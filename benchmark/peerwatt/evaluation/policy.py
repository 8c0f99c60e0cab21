"""The contract of a trained (or scripted) policy."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray


class Policy(Protocol):
    """A frozen policy for all households of a task."""

    def act(
        self,
        observations: NDArray[np.float32],
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Choose actions.

        Args:
            observations: [B, N, F]; do not change them.
            action_mask: [N, sum of the heads' sizes], true where an action is sensible.
            generator: the only source of randomness.

        Returns:
            [B, N, 3] price level, quantity and battery level of each household.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write `policy.json`, and `policy.safetensors` if there are tensors, into `folder`."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Files are untrusted: validate them, never unpickle."""
        ...
