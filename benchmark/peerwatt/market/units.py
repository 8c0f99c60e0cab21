"""Units of exact arithmetic.

Energy is counted in integer quanta of 2**-10 kWh (about 1 Wh) and prices in integer ticks of the
task's price grid, so money is an integer number of quanta times ticks. Sums are exact, so the laws
of the market hold with `==`.
"""

from __future__ import annotations

QUANTA_PER_KWH = 1024
"""Energy quanta in a kWh."""

MAX_PRICE_LEVELS = 64
"""The order book keeps its non-empty price levels in one 64-bit mask per side."""
