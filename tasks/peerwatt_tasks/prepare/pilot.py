"""The parameters of `pilot.npz`, the simulated community of the pilot task."""

from __future__ import annotations

from peerwatt.community.simulate import SimulatedCommunity

PILOT = SimulatedCommunity(
    households=8,
    days=364,
    seed=20250826,
    daily_load_kwh=(20.0, 28.0),
    pv_kwp=(4.0, 6.0),
)
"""Eight homes for a year of 52 whole weeks; the task card decides which of them keep their PV."""
