"""Orders and their clearing: batched auctions over integer energy quanta and price ticks."""

from peerwatt.market.clearing import Cleared, clear, price_grid
from peerwatt.market.mechanism import PROPERTIES, CompiledMechanism, Mechanism, compile_mechanism
from peerwatt.market.units import QUANTA_PER_KWH

__all__ = [
    "PROPERTIES",
    "QUANTA_PER_KWH",
    "Cleared",
    "CompiledMechanism",
    "Mechanism",
    "clear",
    "compile_mechanism",
    "price_grid",
]
