"""Registers the mechanisms of this package."""

from __future__ import annotations

from collections.abc import Iterable

from peerwatt.plugins.specs import MechanismSpec, hookimpl


@hookimpl
def peerwatt_mechanisms() -> Iterable[MechanismSpec]:
    """Return the mechanisms of this package."""
    return (
        MechanismSpec(
            name="cda",
            factory="peerwatt_mechanisms.cda:DoubleAuction",
            summary="Continuous double auction: price-time priority, the resting order's price.",
        ),
        MechanismSpec(
            name="call",
            factory="peerwatt_mechanisms.call:CallAuction",
            summary="Call auction: all orders at once, one price (k-double auction, theta).",
        ),
    )
