"""Orders and their clearing: batched auctions over integer energy quanta and price ticks."""

from peerwatt.market.clearing import MECHANISMS, Cleared, clear, price_grid
from peerwatt.market.units import QUANTA_PER_KWH

__all__ = ["MECHANISMS", "QUANTA_PER_KWH", "Cleared", "clear", "price_grid"]
