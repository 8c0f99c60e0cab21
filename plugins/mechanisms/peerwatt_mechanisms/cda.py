"""The continuous double auction (Smith 1962; Friedman and Rust 1993)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peerwatt.market.kernels import double_auction


@dataclass(frozen=True)
class DoubleAuction:
    """Orders arrive one by one and trade at the price of the resting order, best price first.

    The kernel, `peerwatt.market.kernels.clear_cda`, is inlined into the harness's loops.
    """

    properties: ClassVar[frozenset[str]] = frozenset({"budget-balanced", "respects-limits"})
    clear = staticmethod(double_auction)

    def parameters(self) -> tuple[float, ...]:
        """Return no parameters: it has no options."""
        return ()
