"""How a critic's scores enter the reward in training. Evaluation never sees them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError
from peerwatt.fairness.critic import FairnessScores


@dataclass(frozen=True)
class Shaping:
    """Ramped, weighted, role-aware addition of fairness scores to the economic reward.

    After the share e of the training budget each weight is multiplied by
    clip((e - warm) / ramp, 0, 1), which lets agents learn to trade before they learn to be fair.
    Concept: FairMarket-RL (arXiv 2506.22708, 2508.18610), which publishes no numbers: the defaults
    are PeerWatt's own, chosen on the validation splits of its tasks (0.1 and 0.3 moved no score,
    10 cost a third of the welfare of fontana-v1). This is not potential-based shaping: it moves
    the equilibria on purpose.
    """

    ftg: float = 1.0
    """Full weight of fairness to grid, in reward units per slot."""
    fbs: float = 1.0
    """Full weight of fairness between sellers, in reward units per slot."""
    fpp: float = 1.0
    """Full weight of fairness of pricing, in reward units per slot."""
    ftb: float = 1.0
    """Full weight of fairness to buyers, in reward units per slot."""
    warm: float = 0.1
    """Share of the training budget that passes before any shaping."""
    ramp: float = 0.4
    """Share of the training budget over which the weights then rise to their full value."""
    role_aware: bool = True
    """Give FBS to sellers and FTB to buyers only; otherwise every household gets every score."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, in one sentence."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "role_aware" and not (math.isfinite(value) and value >= 0):
                raise PeerWattError(
                    f"shaping.{field.name} must be a number that is not negative, not {value!r}."
                )
        if self.warm + self.ramp > 1.0 + 1e-9:
            raise PeerWattError(
                "shaping.warm and shaping.ramp are shares of the training budget and must not "
                f"exceed 1 together, but add up to {self.warm + self.ramp:g}."
            )

    def coefficients(self, progress: float) -> tuple[float, float, float, float]:
        """Return the weights of (FTG, FBS, FPP, FTB) after the share `progress` of the budget."""
        past = progress - self.warm
        height = min(max(past / self.ramp, 0.0), 1.0) if self.ramp > 0 else float(past >= 0)
        return self.ftg * height, self.fbs * height, self.fpp * height, self.ftb * height

    def bonus(
        self,
        scores: FairnessScores,
        is_seller: NDArray[np.bool_],
        is_buyer: NDArray[np.bool_],
        progress: float,
    ) -> NDArray[np.float32]:
        """Return what to add to the reward of each household in each slot, [M, N] float32.

        `is_seller` and `is_buyer` [M, N] come from the net load *before* the battery, so that
        nobody can change her role by charging. FTG and FPP go to every household. A score that is
        NaN (undefined, or the critic abstains) adds 0.
        """
        weights = np.array(self.coefficients(progress))
        if not weights.any():
            return np.zeros(is_seller.shape, dtype=np.float32)
        weighted = np.stack(scores) * weights[:, None]
        ftg, fbs, fpp, ftb = np.where(np.isnan(weighted), 0.0, weighted).astype(np.float32)
        everyone = (ftg + fpp)[:, None]
        if not self.role_aware:
            return np.repeat(everyone + (fbs + ftb)[:, None], is_seller.shape[1], axis=1)
        bonus: NDArray[np.float32] = everyone + fbs[:, None] * is_seller + ftb[:, None] * is_buyer
        return bonus
