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
        MechanismSpec(
            name="mid-market-rate",
            factory="peerwatt_mechanisms.mid_market_rate:MidMarketRate",
            summary="All trade at the middle of feed-in and retail, the long side pro rata.",
        ),
        MechanismSpec(
            name="supply-demand-ratio",
            factory="peerwatt_mechanisms.supply_demand_ratio:SupplyDemandRatio",
            summary="All trade at a price that falls with supply / demand, the long side pro rata.",
        ),
        MechanismSpec(
            name="bill-sharing",
            factory="peerwatt_mechanisms.bill_sharing:BillSharing",
            summary="Neighbours' energy is free and shared pro rata; the rest is the grid's.",
        ),
        MechanismSpec(
            name="mcafee",
            factory="peerwatt_mechanisms.mcafee:McAfee",
            summary="McAfee's trade reduction: truthful in price, the operator keeps a surplus.",
        ),
        MechanismSpec(
            name="vcg",
            factory="peerwatt_mechanisms.vcg:VickreyClarkeGroves",
            summary="Vickrey-Clarke-Groves: efficient, truthful in price, runs a deficit.",
        ),
    )
