"""The kernels equal the plain references exactly, and the laws of the market hold."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peerwatt.errors import PeerWattError
from peerwatt.market import MECHANISMS, Cleared, clear, price_grid
from peerwatt.market.kernels import clear_batch

from .reference import REFERENCES, Outcome

TICKS = [10, 20, 30, 40, 50]

mechanisms = pytest.mark.parametrize("mechanism", list(MECHANISMS))
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
    batch = random_books(np.random.default_rng(seed), 2, 1000, levels, 40)
    result = clear(mechanism, *batch)
    for b in range(2):
        assert_equal(result, b, REFERENCES[mechanism](*batch.one(b)))


def test_large_quantities_equal_reference():
    batch = random_books(np.random.default_rng(7), 200, 12, 21, 50_000)
    result = clear("cda", *batch)
    for b in range(200):
        assert_equal(result, b, REFERENCES["cda"](*batch.one(b)))


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
    order, ticks = batch.order, batch.ticks
    low, high = ticks[:, :1], ticks[:, -1:]
    limit = np.take_along_axis(ticks, batch.level, axis=1)
    sold, bought = np.maximum(traded, 0), np.maximum(-traded, 0)
    # Bought = sold, and money only changes hands.
    assert np.array_equal(sold.sum(1), bought.sum(1))
    assert np.array_equal(payment.sum(1), np.zeros(len(order)))
    # Nobody trades more than ordered, or on the other side; nobody pays without trading.
    assert np.all(np.abs(traded) <= np.abs(order))
    assert np.all(traded * order >= 0)
    assert np.all(payment[traded == 0] == 0)
    # No trade outside an order's limit: received >= sold x limit, paid <= bought x limit.
    assert np.all(payment >= traded * limit)
    # Prices lie between feed-in and retail, so that no household does worse than with the grid.
    assert np.all(payment >= sold * low - bought * high)
    assert np.all(payment <= sold * high - bought * low)
    # Moments.
    assert np.array_equal(volume, sold.sum(1))
    assert np.array_equal(value, (payment * (traded > 0)).sum(1))
    assert np.all(square * volume >= value**2)
    if mechanism == "call":
        assert np.array_equal(square * volume, value**2)


@mechanisms
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


@mechanisms
@brief
@given(batch=books())
def test_no_mutually_acceptable_trade_is_left(mechanism, batch):
    traded = clear(mechanism, *batch).traded
    for b in range(len(batch.order)):
        left = batch.order[b] - traded[b]
        unmet, unsold = batch.level[b][left < 0], batch.level[b][left > 0]
        if unmet.size and unsold.size:
            assert unmet.max() < unsold.min()


@brief
@given(batch=books(most_households=40))
def test_call_auction_trades_the_largest_crossing_volume(batch):
    volume = clear("call", *batch).volume
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


@mechanisms
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
    clear_batch(MECHANISMS[mechanism], 50, 9, 21, *inputs, *junk)
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


# ------------------------------------------------------------------ worked by hand

CDA_GOLDEN = {
    # The bid rests first, so its price holds; then the other way round.
    "resting bid's price": ([-5, 3], [4, 1], [0, 1], [-3, 3], [-150, 150], (3, 150, 7500)),
    "resting offer's price": ([-5, 3], [4, 1], [1, 0], [-3, 3], [-60, 60], (3, 60, 1200)),
    # 2 at 20 from household 1, 2 at 20 from household 2, then 1 at 30 from household 0.
    "price, then time": (
        [2, 2, 2, -5],
        [2, 1, 1, 3],
        [0, 1, 2, 3],
        [1, 2, 2, -5],
        [30, 40, 40, -110],
        (5, 110, 2500),
    ),
    # Household 2 came before household 1: of three quanta it sells two.
    "time at one price": (
        [0, 2, 2, -3],
        [0, 1, 1, 4],
        [2, 1, 3, 0],
        [0, 1, 2, -3],
        [0, 20, 40, -60],
        (3, 60, 1200),
    ),
    # The offer eats the bid of 4, rests with 6, and serves the next bid with 3 at its own price.
    "remainder rests": (
        [-4, 10, -3, -9],
        [2, 2, 3, 1],
        [0, 1, 2, 3],
        [-4, 7, -3, 0],
        [-120, 210, -90, 0],
        (7, 210, 6300),
    ),
    # A level that was emptied starts a new queue.
    "level used again": (
        [1, -1, 2, -2],
        [0, 0, 0, 4],
        [0, 1, 2, 3],
        [1, -1, 2, -2],
        [10, -10, 20, -20],
        (3, 30, 300),
    ),
    # Best bid first: 1 at 50, then 2 at 40; the bid at 20 stays out.
    "offer walks down": (
        [-2, -1, -4, 5],
        [3, 4, 1, 2],
        [0, 1, 2, 3],
        [-2, -1, 0, 3],
        [-80, -50, 0, 130],
        (3, 130, 5700),
    ),
    "no crossing": ([-5, 5], [1, 2], [0, 1], [0, 0], [0, 0], (0, 0, 0)),
}

CALL_GOLDEN = {
    # Demand is left over at 50, so the price is 50; with supply left over at 20, 20.
    "short of supply": ([-5, 3], [4, 1], [0, 1], [-3, 3], [-150, 150], (3, 150, 7500)),
    "short of demand": ([-3, 5], [4, 1], [0, 1], [-3, 3], [-60, 60], (3, 60, 1200)),
    # [max(20, feed-in 10), min(50, retail 50)]: midpoint 35.
    "balanced": ([-3, 3], [4, 1], [0, 1], [-3, 3], [-105, 105], (3, 105, 3675)),
    # Bids 50 50 40 40 20 20 meet offers 10 10 10 30 30 30: k = 4 at [max(30, 20), min(40, 30)].
    "marginal pair": (
        [-2, -2, -2, 3, 3],
        [4, 3, 1, 0, 2],
        [0, 1, 2, 3, 4],
        [-2, -2, 0, 3, 1],
        [-60, -60, 0, 90, 30],
        (4, 120, 3600),
    ),
    # Two bids at 30 for three quanta: household 1 came first.
    "rationed by arrival": (
        [-2, -2, 3],
        [2, 2, 0],
        [1, 0, 2],
        [-1, -2, 3],
        [-30, -60, 90],
        (3, 90, 2700),
    ),
    # [max(10, 30), min(40, 50)]: the next bid lifts the floor, midpoint 35.
    "next bid sets the floor": (
        [-1, -1, 1],
        [3, 2, 0],
        [0, 1, 2],
        [-1, 0, 1],
        [-35, 0, 35],
        (1, 35, 1225),
    ),
    # [max(20, 10), min(50, 30)]: the next offer lowers the ceiling, midpoint 25.
    "next offer sets the ceiling": (
        [-1, 1, 1],
        [4, 2, 1],
        [0, 1, 2],
        [-1, 0, 1],
        [-25, 0, 25],
        (1, 25, 625),
    ),
    "no crossing": ([-5, 5], [1, 2], [0, 1], [0, 0], [0, 0], (0, 0, 0)),
}


@pytest.mark.parametrize(
    ("mechanism", "case"),
    [("cda", case) for case in CDA_GOLDEN] + [("call", case) for case in CALL_GOLDEN],
)
def test_worked_by_hand(mechanism, case):
    golden = {"cda": CDA_GOLDEN, "call": CALL_GOLDEN}[mechanism]
    order, level, arrival, traded, payment, moments = golden[case]
    batch = book(order, level, arrival)
    expected = Outcome(traded, payment, *moments, [])
    assert_equal(clear(mechanism, *batch), 0, expected)
    assert REFERENCES[mechanism](*batch.one(0))[:5] == expected[:5]


def test_call_price_is_rounded_down_to_a_tick():
    result = clear("call", *book([-1, 1], [1, 0], ticks=[10, 15, 20]))
    assert result.payment.tolist() == [[-12, 12]]  # midpoint of [10, 15]


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
