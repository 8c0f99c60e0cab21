"""Clear whole batches of order books, outside an environment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peerwatt.errors import PeerWattError, told
from peerwatt.market.kernels import clear_batch
from peerwatt.market.mechanism import CompiledMechanism, Mechanism, compile_mechanism
from peerwatt.market.units import MAX_PRICE_LEVELS

Ints = NDArray[np.int64]


class Cleared(NamedTuple):
    """Result of clearing B books of N households; energy in quanta, money in quanta x ticks."""

    traded: Ints  # [B, N] sold > 0, bought < 0
    payment: Ints  # [B, N] received > 0, paid < 0
    volume: Ints  # [B] quanta that changed hands
    value: Ints  # [B] sum of quantity x price over the trades
    square: Ints  # [B] sum of quantity x price^2 over the trades


def price_grid(feed_in: int, retail: ArrayLike, levels: int) -> Ints:
    """Return the ascending price ticks [T, levels] between feed-in and each retail price [T].

    Level 0 is the feed-in tariff and the last level the retail price; those between are spaced
    evenly and rounded half up to a tick.
    """
    spread = np.atleast_1d(np.asarray(retail, np.int64)) - feed_in
    steps = np.arange(levels, dtype=np.int64)
    return feed_in + (2 * steps * spread[:, None] + (levels - 1)) // (2 * (levels - 1))


def _integers(name: str, values: ArrayLike) -> Ints:
    """Return `values` as a C-ordered array; a fraction is an error, never cut off."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise PeerWattError(f"{name} has rows of different lengths.") from None
    if array.size and array.dtype.kind not in "iu":
        raise PeerWattError(f"{name} has type {array.dtype}, expected integers.")
    return np.asarray(array, np.int64, order="C")


def unlawful(rule: CompiledMechanism) -> str:
    """Return the sentence about a mechanism whose outcome is no clearing."""
    return (
        f"mechanism {rule.name!r} let a household trade more than it ordered, or on the other "
        "side, or bought and sold energy differ, or the volume or value that it returned is not "
        "what was traded and paid; `peerwatt plugins doctor` finds out when."
    )


def failing(rule: CompiledMechanism, error: Exception) -> str:
    """Return the sentence about a mechanism that raises."""
    return f"mechanism {rule.name!r} fails: {told(error)}."


def clear(
    mechanism: Mechanism | CompiledMechanism,
    order: ArrayLike,
    level: ArrayLike,
    ticks: ArrayLike,
    arrival: ArrayLike,
) -> Cleared:
    """Clear B order books of N households with `mechanism`.

    Args:
        mechanism: the rule that clears.
        order: [B, N] quanta; offers are positive, bids negative, 0 abstains.
        level: [B, N] index of each order's limit price in `ticks`.
        ticks: [B, K] or [K] strictly ascending price ticks, K <= 64.
        arrival: [B, N] a permutation of 0..N-1 per book, the order in which orders arrive.

    Raises:
        PeerWattError: the mechanism does not compile, raises, or does what is no clearing; or
            arrays do not fit together.
    """
    rule = compile_mechanism(mechanism)
    orders = _integers("order", order)
    if orders.ndim != 2:
        raise PeerWattError(f"order has shape {orders.shape}, expected [books, households].")
    communities, n = orders.shape
    limits = _integers("level", level)
    turns = _integers("arrival", arrival)
    grid = _integers("ticks", ticks)
    if limits.shape != orders.shape or turns.shape != orders.shape:
        raise PeerWattError(
            f"level {limits.shape} and arrival {turns.shape} must have the shape of order "
            f"{orders.shape}."
        )
    if grid.ndim not in (1, 2) or (grid.ndim == 2 and len(grid) != communities):
        raise PeerWattError(f"ticks has shape {grid.shape}, expected [levels] or [books, levels].")
    levels = grid.shape[-1]
    if not 2 <= levels <= MAX_PRICE_LEVELS or np.any(np.diff(grid) <= 0):
        raise PeerWattError(f"ticks must be 2 to {MAX_PRICE_LEVELS} strictly ascending prices.")
    if limits.size and (limits.min() < 0 or limits.max() >= levels):
        raise PeerWattError(f"level must lie in 0..{levels - 1}.")
    if not np.array_equal(np.sort(turns, axis=1), np.broadcast_to(np.arange(n), turns.shape)):
        raise PeerWattError("each row of arrival must be a permutation of the households.")
    if orders.size:
        quanta = np.abs(orders.astype(float)).sum(axis=1).max()
        price = max(1.0, np.abs(grid.astype(float)).max())
        # Pro rata multiplies quanta by quanta, the second moment quanta by squared prices.
        if quanta >= 2.0**31 or quanta * price**2 >= 2.0**62:
            raise PeerWattError("order and ticks are too large for exact 64-bit money.")
    grid = np.broadcast_to(grid, (communities, levels)).copy()
    grid.setflags(write=False)
    traded = np.zeros_like(orders)
    payment = np.zeros_like(orders)
    moments = np.zeros((communities, 3), np.int64)
    try:
        bad = clear_batch(
            rule.address,
            rule.parameters,
            communities,
            n,
            levels,
            orders.ravel(),
            limits.ravel(),
            grid.ravel(),
            turns.ravel(),
            traded.ravel(),
            payment.ravel(),
            moments.ravel(),
        )
    except Exception as error:
        raise PeerWattError(failing(rule, error)) from error
    if bad >= 0:
        raise PeerWattError(f"book {bad}: {unlawful(rule)}")
    return Cleared(traded, payment, moments[:, 0], moments[:, 1], moments[:, 2])
