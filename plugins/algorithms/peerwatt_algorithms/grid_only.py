"""Never trade, leave the battery idle: the lower anchor of the welfare scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peerwatt_algorithms.scripted import Scripted


@dataclass(frozen=True)
class GridOnly(Scripted):
    """Never trade, leave the battery idle."""

    trades: ClassVar[bool] = False
