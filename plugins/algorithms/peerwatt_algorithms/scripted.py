"""What the scripted traders share: they are their own policy and need no training."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

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
    """A trader that plays a fixed rule on action heads of sizes `nvec`."""

    nvec: tuple[int, ...] = field(default=(), kw_only=True)
    """Sizes of the action heads; taken from the task."""

    def train(self, run: TrainingRun) -> Self:
        """Return the rule for the action space of the run's task; uses no budget."""
        return type(self)(nvec=run.envs(1).action_nvec)

    def quote(
        self,
        observations: NDArray[np.float32],
        mask: NDArray[np.bool_],
        level: int | NDArray[np.int64],
        quantity: int,
        battery: int,
    ) -> NDArray[np.int64]:
        """Return actions [B, N, 3] with these entries; the battery only where there is one."""
        price_levels, quantities, batteries = self.nvec
        actions = np.empty((*observations.shape[:2], 3), np.int64)
        actions[:, :, 0] = level
        actions[:, :, 1] = quantity
        if batteries == 1:
            actions[:, :, 2] = 0
        else:
            allowed = mask[:, price_levels + quantities + battery]
            actions[:, :, 2] = np.where(allowed, battery, IDLE)
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
