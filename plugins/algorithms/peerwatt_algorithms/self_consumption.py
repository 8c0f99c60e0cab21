"""Let the battery follow the own net load, then quote the rest at the mid-market price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peerwatt_algorithms.scripted import FOLLOW, Scripted


@dataclass(frozen=True)
class SelfConsumption(Scripted):
    """Let the battery follow the own net load, then quote the rest at the mid-market price."""

    battery: ClassVar[int] = FOLLOW
