"""Cleared slots as short texts of numbers: what a critic that is asked in words gets to see.

A view turns a slot into its *canonical text*: compact JSON of rounded percentages, without names,
units or order, so that equal markets have equal texts whoever plays them. `put` makes of it the
text that a model reads, with neutral ids in shuffled order. Nothing else of a slot reaches a model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.fairness import SlotBatch
from peerwatt.fairness.scores import HOUSEHOLD_FIELDS
from peerwatt.fairness.session import Presentation

Floats = NDArray[np.float64]

MOST = 1e9
"""Numbers beyond this, in kWh or money, are no market of households."""

SMALL = 10.0
"""Percentages below this keep two figures, so that low fill rates can be told apart."""

FINEST = 1e-3
"""Percentages of energy are never told finer than this, and never as 0 unless they are."""


def canonical(slots: SlotBatch, view: str, step: float) -> list[str]:
    """Return the canonical texts of M slots.

    Args:
        slots: slots in each of which some trade was feasible.
        view: a key of `VIEWS`.
        step: what the percentages are rounded to.

    Raises:
        ValueError: a number makes no sense, or no trade was feasible.
    """
    slots = _checked(slots)
    return [compact(market) for market in VIEWS[view](slots, step)]


def put(text: str, presentation: Presentation) -> dict[str, Any]:
    """Return the market of a canonical text as a model is to see it.

    Households get ids h1, h2, ... and an order, both drawn anew for each text and each
    `presentation.order`. A view without households has no order.
    """
    market: dict[str, Any] = json.loads(text)
    sides = [side for side in ("sellers", "buyers") if side in market]
    seed = hashlib.sha256(f"{presentation.order}\n{text}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(seed))
    suffix = f" {presentation.note}" if presentation.note else ""
    labels = iter(generator.permutation(sum(len(market[side]) for side in sides)))
    for side in sides:
        rows = market[side]
        order = generator.permutation(len(rows))
        market[side] = {f"h{next(labels) + 1}{suffix}": rows[n] for n in order}
    if presentation.note:
        market["note"] = presentation.note
    return market


def compact(content: Any) -> str:
    """Return `content` as JSON without spaces, in ASCII."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _households(slots: SlotBatch, step: float) -> Iterable[dict[str, Any]]:
    """Yield every active household's share, quoted, traded and price, beside the whole market."""
    supply, demand = slots.surplus.sum(axis=1), slots.deficit.sum(axis=1)
    possible = np.minimum(supply, demand)

    def shares(part: Floats, whole: Floats, most: float = 100.0) -> list[Any]:
        return _rounded(_ratio(part, whole), step, 0.0, most, exact=True)

    def prices(price: Floats, low: float = -1000.0, high: float = 1000.0) -> list[Any]:
        return _rounded(_position(price, slots), step, low, high)

    def rows(total: Floats, own: Floats, quoted: Floats, traded: Floats, money: Floats) -> Any:
        each = (
            shares(own, total[:, None]),
            shares(quoted, own),
            shares(traded, own),
            prices(_ratio(money, traded), 0.0, 100.0),
        )
        # From 4 columns [M][N] to the rows of the households that are active in each slot.
        for m, columns in enumerate(zip(*each, strict=True)):
            active = (own[m] > 0.0).tolist()
            found = (
                row for row, here in zip(zip(*columns, strict=True), active, strict=True) if here
            )
            yield sorted(found, key=lambda row: [-1 if value is None else value for value in row])

    columns = {
        "supply": shares(supply, possible, 1e5),
        "demand": shares(demand, possible, 1e5),
        "traded": shares(slots.volume, possible),
        "price": prices(slots.mean_price),
        "spread": _rounded(_of_band(slots.price_deviation, slots), step, 0.0, 1000.0),
        "reference": prices(slots.reference),
        "sellers": rows(supply, slots.surplus, slots.offered, slots.sold, slots.received),
        "buyers": rows(demand, slots.deficit, slots.demanded, slots.bought, slots.paid),
    }
    return (
        dict(zip(columns, market, strict=True)) for market in zip(*columns.values(), strict=True)
    )


def _summary(slots: SlotBatch, step: float) -> Iterable[dict[str, Any]]:
    """Yield five numbers per market, from which the four scores follow but for the rounding."""
    possible = np.minimum(slots.surplus.sum(axis=1), slots.deficit.sum(axis=1))
    sells, buys = slots.surplus > 0.0, slots.deficit > 0.0
    fills = np.where(sells, _ratio(slots.sold, slots.surplus), 0.0)
    mean = fills.sum(axis=1) / sells.sum(axis=1)
    variance = (np.where(sells, fills - mean[:, None], 0.0) ** 2).sum(axis=1) / sells.sum(axis=1)
    variation = np.where(sells.sum(axis=1) > 1, _ratio(np.sqrt(variance), mean), np.nan)
    met = np.where(buys, _ratio(slots.bought, slots.deficit), 0.0)
    paid = np.clip(_position(_ratio(slots.paid, slots.bought), slots), 0.0, 1.0)
    dearness = _ratio((met * np.nan_to_num(paid)).sum(axis=1), met.sum(axis=1))
    distance = np.abs(slots.mean_price - slots.reference) + slots.price_deviation
    columns = {
        "traded": (_ratio(slots.volume, possible), 100.0),
        "uneven": (variation, 1000.0),
        "off": (2.0 * _of_band(distance, slots), 200.0),
        "bought": (met.sum(axis=1) / buys.sum(axis=1), 100.0),
        "price": (dearness, 100.0),
    }
    rounded = (_rounded(values, step, 0.0, most) for values, most in columns.values())
    return (dict(zip(columns, market, strict=True)) for market in zip(*rounded, strict=True))


VIEWS: Mapping[str, Callable[[SlotBatch, float], Iterable[dict[str, Any]]]] = {
    "households": _households,
    "summary": _summary,
}
"""How much of a market is told: every household, or a few sums."""


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Return part / whole, NaN where `whole` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole > 0.0, part / whole, np.nan)


def _of_band(difference: Floats, slots: SlotBatch) -> Floats:
    """Return a difference of prices as part of the distance from feed-in to retail."""
    band = slots.retail - slots.feed_in
    result: Floats = (difference.T / band).T
    return result


def _position(price: Floats, slots: SlotBatch) -> Floats:
    """Return where a price [M] or [M, N] lies: 0 at feed-in, 1 at retail."""
    return _of_band((price.T - slots.feed_in).T, slots)


def _rounded(
    parts: Floats, step: float, low: float, high: float, *, exact: bool = False
) -> list[Any]:
    """Return `parts` as nested lists of percentages between `low` and `high`, None for NaN.

    They are multiples of `step`, or with `exact` finer where they are small, and what is positive
    stays so. Rounding in two steps lets values that differ by no more than the order of a
    sum, or the unit of energy or money, fall on the same side of a half.
    """
    percent = np.round(np.clip(100.0 * parts, low, high), 9)
    steps = np.full(percent.shape, step)
    if exact:
        size = np.abs(np.where(percent == 0.0, 1.0, percent))
        finer = np.clip(10.0 ** (np.floor(np.log10(size)) - 1.0), FINEST, step)
        steps = np.where(size < SMALL, finer, step)
        percent = np.where(percent > 0.0, np.maximum(percent, FINEST), percent)
    rounded = np.rint(percent / steps) * steps
    return _plain(np.round(rounded, 9).tolist())


def _plain(values: Sequence[Any]) -> list[Any]:
    """Return nested lists of floats with None for NaN, and integers where nothing is lost."""
    if values and isinstance(values[0], list):
        return [_plain(row) for row in values]
    return [
        None if value != value else int(value) if value.is_integer() else value for value in values
    ]


def _checked(slots: SlotBatch) -> SlotBatch:
    """Return `slots` in floats; refuse what no market can have cleared."""
    slots = SlotBatch(*(np.asarray(field, np.float64) for field in slots))
    shape = slots.surplus.shape
    for name, array in zip(slots._fields, slots, strict=True):
        expected = shape if name in HOUSEHOLD_FIELDS else shape[:1]
        if len(shape) != 2 or array.shape != expected:
            raise ValueError(f"slots.{name} has the shape {array.shape}, not {expected}")
    traded = slots.volume > 0.0
    for name, array in zip(slots._fields, slots, strict=True):
        present = array
        if name in ("mean_price", "price_deviation"):
            present = np.where(traded, array, 0.0)
        # Prices, and so what was paid, may be negative where the feed-in tariff is.
        priced = name in ("feed_in", "retail", "reference", "mean_price", "received", "paid")
        least = -MOST if priced else 0.0
        with np.errstate(invalid="ignore"):
            bad = ~((present >= least) & (present <= MOST))
        if bad.any():
            raise ValueError(
                f"slots.{name} holds {present[bad][0]:g}, not a number from {least:g} to {MOST:g}"
            )
    if not (slots.retail > slots.feed_in).all():
        raise ValueError("slots.retail must lie above slots.feed_in")
    if not (np.minimum(slots.surplus.sum(axis=1), slots.deficit.sum(axis=1)) > 0.0).all():
        raise ValueError("no trade is feasible in some slot, so there is nothing to judge")
    return slots._replace(
        mean_price=np.where(traded, slots.mean_price, np.nan),
        price_deviation=np.where(traded, slots.price_deviation, np.nan),
    )
