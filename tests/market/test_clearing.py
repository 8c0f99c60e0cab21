"""The kernels equal the plain references exactly, and the laws of the market hold."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peerwatt.errors import PeerWattError
from peerwatt.market import Cleared, compile_mechanism, price_grid
from peerwatt.market import clear as clear_books
from peerwatt.market.kernels import clear_batch
from peerwatt.plugins.loader import load_mechanism

from .reference import REFERENCES, Outcome

TICKS = [10, 20, 30, 40, 50]

mechanisms = pytest.mark.parametrize("mechanism", list(REFERENCES))
thorough = settings(max_examples=250, deadline=None)
brief = settings(max_examples=60, deadline=None)


class Books(NamedTuple):
    """B order books: [B, N] orders, levels and arrivals, [B, K] ticks."""

    order: np.ndarray
    level: np.ndarray
    ticks: np.ndarray
    arrival: np.ndarray

    def one(self, b: int) -> tuple[list[int], list[int], list[int], list[int]]:
        return tuple(array[b].tolist() for array in self)


def clear(mechanism: str, *books, **named) -> Cleared:
    return clear_books(load_mechanism(mechanism), *books, **named)


def random_books(generator, count, n, levels, largest, sides=(-1, 0, 1), few_levels=False):
    """Draw books with numpy; hypothesis draws the shape and the flavour."""
    order = generator.integers(0, largest + 1, (count, n)) * generator.choice(sides, (count, n))
    span = 1 + generator.integers(0, levels) if few_levels else levels
    lowest = generator.integers(0, levels - span + 1)
    level = generator.integers(lowest, lowest + span, (count, n))
    arrival = generator.permuted(np.tile(np.arange(n), (count, 1)), axis=1)
    if generator.random() < 0.5:
        steps = generator.integers(1, 40, (count, levels))
        ticks = generator.integers(-200, 1000) + np.cumsum(steps, axis=1)
    else:
        feed_in = int(generator.integers(0, 1000))
        ticks = price_grid(feed_in, feed_in + generator.integers(levels, 5000, count), levels)
    return Books(order, level, ticks, arrival)


@st.composite
def books(draw, most_households=14):
    count = draw(st.integers(1, 4))
    n = draw(st.integers(1, most_households))
    levels = draw(st.sampled_from([2, 3, 5, 21, 63, 64]))
    largest = draw(st.sampled_from([0, 1, 3, 60]))
    # Buyers only, sellers only, nobody abstains, or all three.
    sides = draw(st.sampled_from([(-1, 0, 1), (-1, 1), (-1, 0), (0, 1), (-1, -1, 1)]))
    few_levels = draw(st.booleans())
    seed = draw(st.integers(0, 2**32 - 1))
    return random_books(np.random.default_rng(seed), count, n, levels, largest, sides, few_levels)


def assert_equal(result: Cleared, b: int, expected: Outcome) -> None:
    assert result.traded[b].tolist() == expected.traded
    assert result.payment[b].tolist() == expected.payment
    assert (result.volume[b], result.value[b], result.square[b]) == expected[2:5]


def book(order, level, arrival=None, ticks=TICKS) -> Books:
    arrival = range(len(order)) if arrival is None else arrival
    return Books(*(np.array([list(row)], np.int64) for row in (order, level, ticks, arrival)))


# ------------------------------------------------------------------ kernel == reference


@mechanisms
@thorough
@given(batch=books())
@example(batch=book([0, 0, 0], [0, 1, 2]))  # nobody orders
@example(batch=book([7], [4]))  # alone
@example(batch=book([-7], [0]))
@example(batch=book([-3, -1, -2], [4, 4, 0]))  # one-sided
@example(batch=book([3, 1, 2], [0, 4, 0]))
@example(batch=book([2, -2, 2, -2, 2, -2], [2] * 6, [5, 3, 1, 0, 2, 4]))  # all ties
@example(batch=book([5, -5], [63, 63], ticks=range(64)))  # the mask's last bit
@example(batch=book([5, -5], [0, 0], ticks=range(64)))  # and its first
def test_kernel_equals_reference(mechanism, batch):
    result = clear(mechanism, *batch)
    for b in range(len(batch.order)):
        assert_equal(result, b, REFERENCES[mechanism](*batch.one(b)))


@mechanisms
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([3, 21, 64]))
def test_kernel_equals_reference_for_1000_households(mechanism, seed, levels):
    n = 200 if mechanism == "vcg" else 1000  # its reference clears a book for every household
    batch = random_books(np.random.default_rng(seed), 2, n, levels, 40)
    result = clear(mechanism, *batch)
    for b in range(2):
        assert_equal(result, b, REFERENCES[mechanism](*batch.one(b)))


@mechanisms
def test_large_quantities_equal_reference(mechanism):
    batch = random_books(np.random.default_rng(7), 200, 12, 21, 50_000)
    result = clear(mechanism, *batch)
    for b in range(200):
        assert_equal(result, b, REFERENCES[mechanism](*batch.one(b)))


@mechanisms
def test_no_books_and_no_households(mechanism):
    for shape in [(0, 3), (2, 0)]:
        nothing = np.zeros(shape, np.int64)
        arrival = np.tile(np.arange(shape[1]), (shape[0], 1))
        result = clear(mechanism, nothing, nothing, TICKS, arrival)
        assert result.traded.shape == result.payment.shape == shape
        assert result.volume.tolist() == [0] * shape[0]


# ------------------------------------------------------------------ laws


@mechanisms
@thorough
@given(batch=books(most_households=40))
def test_laws(mechanism, batch):
    traded, payment, volume, value, square = clear(mechanism, *batch)
    promised = load_mechanism(mechanism).properties
    order, ticks = batch.order, batch.ticks
    low, high = ticks[:, :1], ticks[:, -1:]
    limit = np.take_along_axis(ticks, batch.level, axis=1)
    sold, bought = np.maximum(traded, 0), np.maximum(-traded, 0)
    # Bought = sold, and the operator keeps or pays in only what is promised.
    assert np.array_equal(sold.sum(1), bought.sum(1))
    surplus = -payment.sum(1)
    if "budget-balanced" in promised:
        assert not surplus.any()
    elif "no-deficit" in promised:
        assert np.all(surplus >= 0)
    else:
        assert np.all(surplus <= 0)
    # Nobody trades more than ordered, or on the other side; nobody pays without trading.
    assert np.all(np.abs(traded) <= np.abs(order))
    assert np.all(traded * order >= 0)
    assert np.all(payment[traded == 0] == 0)
    # No trade outside an order's limit: received >= sold x limit, paid <= bought x limit.
    if "respects-limits" in promised:
        assert np.all(payment >= traded * limit)
    # Prices lie between feed-in and retail, so that no household does worse than with the grid.
    if mechanism != "bill-sharing":
        assert np.all(payment >= sold * low - bought * high)
        assert np.all(payment <= sold * high - bought * low)
    # Moments.
    paid = np.sum(payment, axis=1, where=traded < 0)
    received = np.sum(payment, axis=1, where=traded > 0)
    assert np.array_equal(volume, sold.sum(1))
    assert np.array_equal(value, (received - paid) // 2)
    rounded = np.abs(received - paid) // 2  # towards 0, as the square is
    assert np.all((square + traded.shape[1]) * volume >= rounded**2)
    if "uniform-price" in promised:
        assert np.array_equal(square * volume, value**2)


@pytest.mark.parametrize("mechanism", ["cda", "call"])
@brief
@given(batch=books())
def test_each_trade_of_the_reference_respects_both_limits(mechanism, batch):
    # The reference equals the kernel; its list of trades shows what totals cannot.
    for b in range(len(batch.order)):
        _, level, ticks, arrival = batch.one(b)
        turn = {household: k for k, household in enumerate(arrival)}
        for seller, buyer, quanta, price in REFERENCES[mechanism](*batch.one(b)).trades:
            assert quanta > 0
            assert seller != buyer
            assert ticks[0] <= ticks[level[seller]] <= price <= ticks[level[buyer]] <= ticks[-1]
            if mechanism == "cda":
                resting = min(seller, buyer, key=turn.__getitem__)
                assert price == ticks[level[resting]]


@pytest.mark.parametrize("mechanism", [name for name in REFERENCES if name != "mcafee"])
@brief
@given(batch=books())
def test_no_mutually_acceptable_trade_is_left(mechanism, batch):
    traded = clear(mechanism, *batch).traded
    for b in range(len(batch.order)):
        left = batch.order[b] - traded[b]
        unmet, unsold = batch.level[b][left < 0], batch.level[b][left > 0]
        if unmet.size and unsold.size:
            assert unmet.max() < unsold.min()


@pytest.mark.parametrize("mechanism", ["call", "vcg"])
@brief
@given(batch=books(most_households=40))
def test_efficient_mechanisms_trade_the_largest_crossing_volume(mechanism, batch):
    volume = clear(mechanism, *batch).volume
    for b in range(len(batch.order)):
        order, level = batch.order[b], batch.level[b]
        crossing = (
            min(-order[(order < 0) & (level >= k)].sum(), order[(order > 0) & (level <= k)].sum())
            for k in range(batch.ticks.shape[1])
        )
        assert volume[b] == max(crossing)


@mechanisms
@brief
@given(batch=books())
def test_a_book_is_unaffected_by_the_others(mechanism, batch):
    together = clear(mechanism, *batch)
    for b in range(len(batch.order)):
        alone = clear(mechanism, *(array[b : b + 1] for array in batch))
        for one, many in zip(alone, together, strict=True):
            assert np.array_equal(one[0], many[b])


@mechanisms
@brief
@given(batch=books(), seed=st.integers(0, 2**32 - 1))
def test_permuting_households_permutes_outcomes(mechanism, batch, seed):
    n = batch.order.shape[1]
    old = np.random.default_rng(seed).permutation(n)  # household i was household old[i]
    new = np.argsort(old)
    result = clear(mechanism, *batch)
    renamed = clear(
        mechanism, batch.order[:, old], batch.level[:, old], batch.ticks, new[batch.arrival]
    )
    assert np.array_equal(renamed.traded, result.traded[:, old])
    assert np.array_equal(renamed.payment, result.payment[:, old])
    for one, other in zip(renamed[2:], result[2:], strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("mechanism", ["cda", "call"])  # the others round
@brief
@given(batch=books(), factor=st.integers(2, 5000))
def test_scaling_orders_scales_outcomes(mechanism, batch, factor):
    result = clear(mechanism, *batch)
    scaled = clear(mechanism, batch.order * factor, *batch[1:])
    for one, other in zip(scaled, result, strict=True):
        assert np.array_equal(one, other * factor)


@mechanisms
@brief
@given(batch=books())
def test_abstaining_is_being_absent(mechanism, batch):
    level = np.where(batch.order == 0, 0, batch.level)
    last = np.argsort(np.take_along_axis(batch.order, batch.arrival, 1) == 0, 1, kind="stable")
    arrival = np.take_along_axis(batch.arrival, last, 1)
    for one, other in zip(
        clear(mechanism, batch.order, level, batch.ticks, arrival),
        clear(mechanism, *batch),
        strict=True,
    ):
        assert np.array_equal(one, other)


@mechanisms
def test_kernel_overwrites_whatever_the_outputs_held(mechanism):
    batch = random_books(np.random.default_rng(3), 50, 9, 21, 5)
    junk = [np.full(50 * 9, -77), np.full(50 * 9, 99), np.full(150, 5)]
    inputs = [array.ravel() for array in batch]
    inputs[2].setflags(write=False)  # as `clear` does: numba compiles for kinds of arrays
    rule = compile_mechanism(load_mechanism(mechanism))
    clear_batch(rule.address, rule.parameters, 50, 9, 21, *inputs, *junk)
    result = clear(mechanism, *batch)
    assert np.array_equal(junk[0], result.traded.ravel())
    assert np.array_equal(junk[1], result.payment.ravel())
    assert np.array_equal(junk[2].reshape(50, 3), np.stack(result[2:], axis=1))


@pytest.mark.parametrize(("buyers", "sellers"), [(4, 4), (3, 5), (2, 5), (1, 6)])
def test_call_auction_expected_trades(buyers, sellers):
    # Unit orders with i.i.d. prices: E[trades] = nm / (n + m), here over all equally likely orders.
    n = buyers + sellers
    ranks = [
        [*bids, *(k for k in range(n) if k not in bids)]
        for bids in itertools.combinations(range(n), buyers)
    ]
    order = np.tile([-1] * buyers + [1] * sellers, (len(ranks), 1))
    arrival = np.tile(np.arange(n), (len(ranks), 1))
    result = clear("call", order, ranks, np.arange(n), arrival)
    assert result.volume.sum() * n == len(ranks) * buyers * sellers


# ------------------------------------------------------------------ bad input

GOOD = {
    "order": [[-1, 1]],
    "level": [[1, 0]],
    "ticks": TICKS,
    "arrival": [[0, 1]],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": [-1, 1]}, "order has shape"),
        ({"order": [[-1.5, 1.0]]}, "order has type float64, expected integers"),
        ({"order": [[float("nan"), 1]]}, "order has type float64"),
        ({"order": [[-1, 1], [1]]}, "order has rows of different lengths"),
        ({"level": [[1, 0, 2]]}, "must have the shape of order"),
        ({"arrival": [[0]]}, "must have the shape of order"),
        ({"level": [[5, 0]]}, "level must lie in 0..4"),
        ({"level": [[-1, 0]]}, "level must lie in 0..4"),
        ({"arrival": [[0, 0]]}, "permutation"),
        ({"arrival": [[1, 2]]}, "permutation"),
        ({"ticks": 10}, "ticks has shape"),
        ({"ticks": [TICKS, TICKS]}, "ticks has shape"),
        ({"ticks": [10]}, "2 to 64 strictly ascending"),
        ({"ticks": list(range(65))}, "2 to 64 strictly ascending"),
        ({"ticks": [30, 20, 40]}, "2 to 64 strictly ascending"),
        ({"ticks": [30, 30, 40]}, "2 to 64 strictly ascending"),
        ({"order": [[-(2**60), 2**60]]}, "too large"),
    ],
)
def test_bad_input_is_one_clear_sentence(change, message):
    clear("cda", **GOOD)
    with pytest.raises(PeerWattError, match=message):
        clear("cda", **(GOOD | change))


def test_unknown_mechanism_is_told_with_a_hint():
    with pytest.raises(PeerWattError, match="did you mean 'call'"):
        clear("cal", **GOOD)


def test_clear_leaves_its_arguments_alone_and_takes_other_integers():
    batch = random_books(np.random.default_rng(1), 3, 6, 5, 9)
    copies = [array.copy() for array in batch]
    result = clear("cda", *batch)
    assert all(np.array_equal(a, b) for a, b in zip(batch, copies, strict=True))
    narrow = clear("cda", *(np.asfortranarray(array, np.int16) for array in batch))
    for one, other in zip(result, narrow, strict=True):
        assert np.array_equal(one, other)


# ------------------------------------------------------------------ price grid


def test_price_grid_by_hand():
    assert price_grid(800, 3000, 5).tolist() == [[800, 1350, 1900, 2450, 3000]]
    assert price_grid(0, [10, 7], 3).tolist() == [[0, 5, 10], [0, 4, 7]]  # 3.5 rounds half up
    assert price_grid(0, 10, 5).tolist() == [[0, 3, 5, 8, 10]]  # 2.5 -> 3, 7.5 -> 8
    assert price_grid(100, 102, 3).tolist() == [[100, 101, 102]]


@brief
@given(
    feed_in=st.integers(0, 10_000),
    extra=st.lists(st.integers(0, 10_000), min_size=1, max_size=5),
    half=st.integers(1, 31),
)
def test_price_grid(feed_in, extra, half):
    levels = 2 * half + 1
    retail = feed_in + levels - 1 + np.array(extra)
    grid = price_grid(feed_in, retail, levels)
    assert grid.shape == (len(extra), levels)
    assert np.all(grid[:, 0] == feed_in)
    assert np.array_equal(grid[:, -1], retail)
    assert np.array_equal(grid[:, half], feed_in + (retail - feed_in + 1) // 2)
    assert np.all(np.diff(grid) > 0)
    exact = feed_in + np.arange(levels) * (retail - feed_in)[:, None] / (levels - 1)
    assert np.all(np.abs(grid - exact) <= 0.5 + 1e-9)
