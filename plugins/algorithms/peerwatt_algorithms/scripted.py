"""What the scripted traders share: they are their own policy and need no training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from peerwatt.env import BATTERY_ACTIONS
from peerwatt.errors import PeerWattError

if TYPE_CHECKING:
    from peerwatt.runs import TrainingRun

IDLE = BATTERY_ACTIONS.index("idle")
FOLLOW = BATTERY_ACTIONS.index("follow")


@dataclass(frozen=True)
class Scripted:
    """Quotes all of the surplus or deficit at the mid-market price and leaves the battery idle.

    The traders differ from that in a class variable or in `price_levels`.
    """

    nvec: tuple[int, ...] = field(default=(), kw_only=True)
    """Sizes of the action heads; taken from the task."""
    trades: ClassVar[bool] = True
    battery: ClassVar[int] = IDLE

    def train(self, run: TrainingRun) -> Self:
        """Return the rule for the action space of the run's task; uses no budget."""
        return type(self)(nvec=run.envs(1).action_nvec)

    def price_levels(
        self, shape: tuple[int, int], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the price level of every household, `shape` is (B, N)."""
        return np.full(shape, self.nvec[0] // 2)

    def act(
        self,
        observations: NDArray[np.float32],
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return actions [B, N, 3]; see `peerwatt.evaluation.Policy`."""
        price_levels, quantities, batteries = self.nvec
        shape = observations.shape[:2]
        actions = np.zeros((*shape, 3), np.int64)
        actions[:, :, 0] = self.price_levels(shape, generator)
        actions[:, :, 1] = quantities - 1 if self.trades else 0
        if batteries > 1:
            allowed = action_mask[:, price_levels + quantities + self.battery]
            actions[:, :, 2] = np.where(allowed, self.battery, IDLE)
        return actions

    def save(self, folder: Path) -> None:
        """Write `policy.json` into `folder`."""
        content = {"rule": type(self).__name__, **asdict(self)}
        (folder / "policy.json").write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            PeerWattError: the file is missing or belongs to another rule.
        """
        try:
            content = json.loads((folder / "policy.json").read_text())
            rule, nvec = content["rule"], tuple(int(k) for k in content["nvec"])
            if rule != cls.__name__ or len(nvec) != 3 or min(nvec) < 1:
                raise ValueError(f"expected a policy of {cls.__name__}, found {rule}")
        except Exception as error:
            raise PeerWattError(f"cannot load the policy in {folder}: {error}.") from None
        return cls(nvec=nvec)
