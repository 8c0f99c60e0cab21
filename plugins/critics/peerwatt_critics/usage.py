"""What the critics that another is made of cost together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from peerwatt.fairness.session import CriticUsage, summed


def merged(usages: Sequence[CriticUsage]) -> CriticUsage:
    """Return what all of `usages` cost; who is made of these critics counts the slots."""
    return dataclasses.replace(
        summed(usages),
        slots=0,
        undefined=0,
        skipped=0,
        scored=0,
        student=0,
        fallback=0,
        abstained={},
    )
