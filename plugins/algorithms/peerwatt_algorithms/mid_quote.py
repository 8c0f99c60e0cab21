"""Quote the whole surplus or deficit at the mid-market price; leave the battery idle."""

from __future__ import annotations

from dataclasses import dataclass

from peerwatt_algorithms.scripted import Scripted


@dataclass(frozen=True)
class MidQuote(Scripted):
    """Quote the whole surplus or deficit at the mid-market price; leave the battery idle."""
