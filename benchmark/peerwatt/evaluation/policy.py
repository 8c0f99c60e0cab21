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

        Decide each row [b, i] alone: the B rows of a batch are separate episodes, and evaluation
        plays windows of one week side by side, so what row b shows may be the future of row c.

        Args:
            observations: [B, N, F], read-only: copy them before you write (or hand them to
                `torch.from_numpy`, which warns otherwise).
            action_mask: [N, sum of the heads' sizes], read-only, true where an action is sensible.
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
