"""Order books to hold a mechanism to: drawn by hypothesis, random ones, and corner cases."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import hypothesis
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from peerwatt.market import price_grid
from peerwatt.market.units import QUANTA_PER_KWH
from peerwatt.testing.frame import Violation

Ints = NDArray[np.int64]

DRAWN, RANDOM = 200, 500
"""Books that a law is held to: drawn by hypothesis, and random ones."""
UNSTEADY = "clear does not always do the same on the same book"


class Book(NamedTuple):
    """One order book of n households and K price levels; see `peerwatt.market.Mechanism`."""

    order: Ints  # [n]
    level: Ints  # [n]
    ticks: Ints  # [K]
    arrival: Ints  # [n]

    def __str__(self) -> str:
        """Return it as a sentence shows it."""
        n, levels = len(self.order), len(self.ticks)
        if n > 12:
            return f"a random book of {n} households and {levels} price levels"
        ticks = self.ticks.tolist()
        grid = str(ticks) if levels < 8 else f"{ticks[0]}, {ticks[1]} .. {ticks[-1]} ({levels})"
        return (
            f"order {self.order.tolist()}, level {self.level.tolist()}, ticks {grid}, arrival "
            f"{self.arrival.tolist()}"
        )


class Outcome(NamedTuple):
    """What a mechanism made of a book."""

    traded: Ints  # [n]
    payment: Ints  # [n]
    moments: tuple[int, int, int]  # volume, value, square

    def __str__(self) -> str:
        """Return it as a sentence shows it."""
        if len(self.traded) > 12:
            return f"moments {self.moments}"
        return (
            f"traded {self.traded.tolist()}, payment {self.payment.tolist()}, moments "
            f"{self.moments}"
        )


Law = Callable[[Book], None]
Kind = tuple[int, tuple[int, ...]]
ANY: Kind = (7, (3, 5, 21, 64))
SMALL: Kind = (6, (3, 5))
"""Kinds of drawn books: the most households, and the numbers of price levels."""


@st.composite
def books(draw: st.DrawFn, households: int, levels: tuple[int, ...]) -> Book:
    """Draw a book of at most that many `households`, with one of these numbers of `levels`."""
    count = draw(st.sampled_from(levels))
    feed_in = draw(st.integers(0, 40))
    retail = feed_in + draw(st.integers(count - 1, 10 * count))
    home = st.tuples(st.integers(-9, 9), st.integers(0, count - 1), st.integers(0, households))
    homes = draw(st.lists(home, min_size=1, max_size=households))
    order, level, arrival = zip(*homes, strict=True)
    ticks = price_grid(feed_in, retail, count)[0]
    return book(order, level, ticks, np.argsort(arrival, kind="stable"))


def book(order: Any, level: Any, ticks: Any, arrival: Any = None) -> Book:
    """Return the book of these numbers."""
    arrival = range(len(order)) if arrival is None else arrival
    return Book(*(np.array(list(row), np.int64) for row in (order, level, ticks, arrival)))


def random_book(n: int, levels: int, step: int = 1) -> Book:
    """Return a book of `n` households that want up to 5 kWh each, in multiples of `step` quanta."""
    generator = np.random.default_rng([n, levels, step])
    most = 5 * QUANTA_PER_KWH // step
    return book(
        step * generator.integers(-most, most + 1, n),
        generator.integers(0, levels, n),
        price_grid(800, 3000, levels)[0],
        generator.permutation(n),
    )


CORNERS = (
    book([0, 0, 0], [0, 1, 2], [8, 12, 30]),  # nobody orders
    book([7], [0], [8, 12, 30]),  # alone
    book([-7], [2], [8, 12, 30]),
    book([3, 1, 2], [0, 1, 2], [8, 12, 30]),  # one side only
    book([-3, -1, -2], [0, 1, 2], [8, 12, 30]),
    book([2, -2, 2, -2, 2, -2], [1] * 6, [8, 12, 30], [5, 3, 1, 0, 2, 4]),  # all ties
    book([5, -5], [63, 63], range(8, 72)),  # the last of the 64 levels
    book([5, -5], [0, 0], range(8, 72)),
    book([5, -3, -4], [0, 1, 2], [0, 12, 30]),  # no feed-in tariff
)
LARGE = (random_book(1000, 3), random_book(1000, 64))
STREETS = tuple(
    random_book(n, levels, step)
    for n in (*range(8, 41), 50, 64, 100)
    for levels, step in ((3, QUANTA_PER_KWH // 2), (21, QUANTA_PER_KWH), (64, 1))
)
"""What communities order: several kWh, now and then whole or half ones."""


def search(law: Law, strategy: Any, examples: int) -> None:
    """Hold `law` to as many `examples` of `strategy`; raise the smallest breach found."""

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )
    @hypothesis.given(strategy)
    def test(found: Book) -> None:
        law(found)

    try:
        test()
    except hypothesis.errors.Flaky:
        raise Violation(UNSTEADY) from None


@cache
def sample(kind: Kind) -> tuple[Book, ...]:
    """Return the books that a law is held to first: drawing them costs more than clearing them.

    Those of hypothesis are the odd ones, random ones are crowded.
    """
    found: list[Book] = []
    search(found.append, books(*kind), DRAWN)
    generator = np.random.default_rng(0)
    for _ in range(RANDOM):
        n = int(generator.integers(2, kind[0] + 1))
        levels = int(generator.choice(kind[1]))
        size = generator.choice([1, 3, 9])
        feed_in = int(generator.integers(0, 40))
        retail = feed_in + int(generator.integers(levels - 1, 10 * levels))
        found.append(
            book(
                generator.integers(1, size + 1, n) * generator.choice([-1, -1, 0, 1, 1], n),
                generator.integers(0, levels, n),
                price_grid(feed_in, retail, levels)[0],
                generator.permutation(n),
            )
        )
    return tuple(found)


def hold(law: Law, kind: Kind, step: int, fixed: tuple[Book, ...]) -> None:
    """Hold `law` to each `step`-th sample of `kind` and to `fixed` books.

    Raises the smallest breach that hypothesis finds.
    """
    for one in sample(kind)[::step]:
        try:
            law(one)
        except Violation:
            search(law, books(*kind), 4 * DRAWN)
            raise
    for one in fixed:
        law(one)
