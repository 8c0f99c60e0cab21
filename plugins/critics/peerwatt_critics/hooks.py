"""Registers the critics of this package."""

from __future__ import annotations

from collections.abc import Iterable

from peerwatt.plugins.specs import CriticSpec, hookimpl


@hookimpl
def peerwatt_critics() -> Iterable[CriticSpec]:
    """Return the critics of this package."""
    return (
        CriticSpec(
            name="none",
            factory="peerwatt_critics.none:NoCritic",
            summary="abstains: agents learn from money alone",
        ),
        CriticSpec(
            name="rule",
            factory="peerwatt_critics.rule:RuleCritic",
            summary="scores every slot by the closed forms of FTG, FBS, FPP and FTB",
        ),
    )
