"""What a critic sees of a cleared slot, what it returns, and the contract it fulfils."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class SlotBatch(NamedTuple):
    """M cleared slots of a community of N households.

    Surplus and deficit are what a household physically had left after its battery, whether or not
    it quoted; offered and demanded are what it did quote. Of the closed-form scores, FTG, FBS and
    FTB are measured against the former and FPP against neither: see `peerwatt.fairness.scores` for
    what each sees of households that withhold.
    """

    feed_in: Floats  # [M] $/kWh, what the grid pays for exports
    retail: Floats  # [M] $/kWh, what the grid takes for imports
    reference: Floats  # [M] $/kWh, the task's reference price p* (mid-market by default)
    surplus: Floats  # [M, N] kWh that a household could sell
    deficit: Floats  # [M, N] kWh that a household had to buy, inside or from the grid
    offered: Floats  # [M, N] kWh offered in the market
    demanded: Floats  # [M, N] kWh bid for in the market
    sold: Floats  # [M, N] kWh sold inside the community
    bought: Floats  # [M, N] kWh bought inside the community
    received: Floats  # [M, N] $ received for what was sold
    paid: Floats  # [M, N] $ paid for what was bought
    volume: Floats  # [M] kWh that changed hands
    mean_price: Floats  # [M] $/kWh volume-weighted mean trade price, NaN without trade
    price_deviation: Floats  # [M] $/kWh volume-weighted standard deviation, NaN without trade

    def taken(self, rows: Any) -> SlotBatch:
        """Return the slots that `rows` picks, as it picks from an array: indices, mask or slice."""
        return SlotBatch(*(field[rows] for field in self))


def joined(batches: Iterable[SlotBatch]) -> SlotBatch:
    """Return the slots of all `batches`, at least one, in one batch."""
    return SlotBatch(*map(np.concatenate, zip(*batches, strict=True)))


class FairnessScores(NamedTuple):
    """Scores of M slots in [0, 1], each [M]; NaN where a score is undefined or withheld."""

    ftg: Floats  # fairness to grid
    fbs: Floats  # fairness between sellers
    fpp: Floats  # fairness of pricing
    ftb: Floats  # fairness to buyers


class Critic(Protocol):
    """Scores cleared slots for fairness. Its scores shape training; they never rank an entry."""

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the scores of M slots at once; NaN abstains."""
        ...
