"""What each mechanism does, worked by hand and against the published formulas."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerwatt.errors import PeerWattError
from peerwatt.market import clear
from peerwatt.plugins.loader import load_mechanism

from .reference import REFERENCES, Outcome, clear_call, sdr_price
from .test_clearing import TICKS, assert_equal, book, books, brief, thorough

# name -> order, level, arrival, traded, payment, (volume, value, square); ticks are TICKS

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


# The price is (10 + 50) / 2 = 30 whatever the levels.
MID_MARKET_RATE_GOLDEN = {
    "short of supply": ([-5, 3], [0, 4], [0, 1], [-3, 3], [-90, 90], (3, 90, 2700)),
    # 4 of 6 are 2, 1 1/3 and 2/3: the largest remainder is rounded up.
    "largest remainder": (
        [-3, -2, -1, 4],
        [0, 0, 0, 0],
        [0, 1, 2, 3],
        [-2, -1, -1, 4],
        [-60, -30, -30, 120],
        (4, 120, 3600),
    ),
    # 3 of 4 are 1 1/2 each: household 1 came first.
    "equal remainders": (
        [2, 2, -3],
        [0, 0, 0],
        [1, 0, 2],
        [1, 2, -3],
        [30, 60, -90],
        (3, 90, 2700),
    ),
    "one side": ([3, 2], [0, 0], [0, 1], [0, 0], [0, 0], (0, 0, 0)),
}

SUPPLY_DEMAND_RATIO_GOLDEN = {
    # 50 x 10 / (40 x 1/4 + 10) = 25
    "a quarter": ([-4, 1], [0, 4], [0, 1], [-1, 1], [-25, 25], (1, 25, 625)),
    # 500 / 30 = 16.67
    "half": ([-2, -2, 2], [0] * 3, [0, 1, 2], [-1, -1, 2], [-17, -17, 34], (2, 34, 578)),
    # 500 / 40 = 12.5 rounds up
    "three quarters": ([-4, 3], [0, 4], [0, 1], [-3, 3], [-39, 39], (3, 39, 507)),
    "as much": ([-2, 2], [0, 4], [0, 1], [-2, 2], [-20, 20], (2, 20, 200)),
    "more": ([-2, 3], [0, 4], [0, 1], [-2, 2], [-20, 20], (2, 20, 200)),
    "no supply": ([-2, -3], [0, 4], [0, 1], [0, 0], [0, 0], (0, 0, 0)),
}

BILL_SHARING_GOLDEN = {
    "short of supply": ([-5, 3], [0, 4], [0, 1], [-3, 3], [0, 0], (3, 0, 0)),
    # 1 of 2 + 2 is 1/2 each: household 2 came first.
    "short of demand": ([-1, 2, 2], [0] * 3, [0, 2, 1], [-1, 0, 1], [0, 0, 0], (1, 0, 0)),
}

MCAFEE_GOLDEN = {
    # Bids 50 40 | 20 and offers 10 20 | 50: p = 35 lies between 20 and 40.
    "all trade": (
        [-1, -1, -1, 1, 1, 1],
        [4, 3, 1, 0, 1, 4],
        [0, 1, 2, 3, 4, 5],
        [-1, -1, 0, 1, 1, 0],
        [-35, -35, 0, 35, 35, 0],
        (2, 70, 2450),
    ),
    # Bids 50 40 | 40 and offers 10 20 | retail 50: p = 45 is more than 40. One trade is left,
    # the buyer pays 40, the seller gets 20.
    "trade reduction": (
        [-1, -1, -1, 1, 1],
        [4, 3, 3, 0, 1],
        [0, 1, 2, 3, 4],
        [-1, 0, 0, 1, 0],
        [-40, 0, 0, 20, 0],
        (1, 30, 1000),
    ),
    # Offers are short of one: household 4 would sell 3 of its 4. It leaves, and so does the bid at
    # 30; of 3 + 3 bid for at 50, the 4 of household 3 go pro rata.
    "long side is rationed": (
        [-3, -3, -1, 4, 4],
        [4, 4, 2, 0, 1],
        [0, 1, 2, 3, 4],
        [-2, -2, 0, 4, 0],
        [-60, -60, 0, 80, 0],
        (4, 100, 2600),
    ),
    "a large seller": ([-2, -2, 5], [4, 3, 0], [0, 1, 2], [0, 0, 0], [0, 0, 0], (0, 0, 0)),
    "a pair that fits": ([-2, 2], [4, 0], [0, 1], [-2, 2], [-60, 60], (2, 60, 1800)),
    "no crossing": ([-5, 5], [1, 2], [0, 1], [0, 0], [0, 0], (0, 0, 0)),
}

VCG_GOLDEN = {
    # Without the buyer nobody trades, so she pays what the seller asks; he gets what she bids.
    "bilateral": ([-5, 3], [4, 1], [0, 1], [-3, 3], [-60, 150], (3, 105, 4350)),
    # The bid at 40 is displaced, so it is the price of the one at 50.
    "displaced bid": ([-1, -1, 1], [4, 3, 0], [0, 1, 2], [-1, 0, 1], [-40, 0, 50], (1, 45, 2050)),
    # Without household 2 the offer at 30 would serve, so it gets 30; the buyer pays its 20.
    "displaced offer": ([-1, 1, 1], [4, 2, 1], [0, 1, 2], [-1, 0, 1], [-20, 0, 30], (1, 25, 650)),
    # Household 1 displaces one quantum bid for at 40 and one at 20: 60 for its 2, 30 each.
    "divisible": (
        [-1, -2, -3, 3],
        [3, 4, 1, 0],
        [0, 1, 2, 3],
        [-1, -2, 0, 3],
        [-20, -40, 0, 140],
        (3, 100, 3866),
    ),
    "no crossing": ([-5, 5], [1, 2], [0, 1], [0, 0], [0, 0], (0, 0, 0)),
}

GOLDEN = {
    "cda": CDA_GOLDEN,
    "call": CALL_GOLDEN,
    "mid-market-rate": MID_MARKET_RATE_GOLDEN,
    "supply-demand-ratio": SUPPLY_DEMAND_RATIO_GOLDEN,
    "bill-sharing": BILL_SHARING_GOLDEN,
    "mcafee": MCAFEE_GOLDEN,
    "vcg": VCG_GOLDEN,
}


@pytest.mark.parametrize(
    ("mechanism", "case"), [(name, case) for name, cases in GOLDEN.items() for case in cases]
)
def test_worked_by_hand(mechanism, case):
    order, level, arrival, traded, payment, moments = GOLDEN[mechanism][case]
    batch = book(order, level, arrival)
    expected = Outcome(traded, payment, *moments, [])
    assert_equal(clear(load_mechanism(mechanism), *batch), 0, expected)
    assert REFERENCES[mechanism](*batch.one(0))[:5] == expected[:5]


# ------------------------------------------------------------------ call


def test_call_price_is_rounded_down_to_a_tick():
    result = clear(load_mechanism("call"), *book([-1, 1], [1, 0], ticks=[10, 15, 20]))
    assert result.payment.tolist() == [[-12, 12]]  # midpoint of [10, 15]


@pytest.mark.parametrize("percent", range(101))
def test_theta_is_exact(percent):
    """A bid at 0 + width and an offer at 0 leave the whole band: the price is theta of it."""
    rule = load_mechanism("call", {"theta": percent / 100})
    for width in (100, 300, 1700, 99900):
        result = clear(rule, *book([-1, 1], [1, 0], ticks=[7, 7 + width]))
        assert result.payment.tolist() == [
            [-7 - percent * width // 100, 7 + percent * width // 100]
        ]


@brief
@given(batch=books(), theta=st.fractions(0, 1, max_denominator=50))
def test_call_with_theta_equals_the_reference(batch, theta):
    result = clear(load_mechanism("call", {"theta": float(theta)}), *batch)
    for b in range(len(batch.order)):
        assert_equal(result, b, clear_call(*batch.one(b), theta))


@pytest.mark.parametrize("theta", [-0.1, 1.1, float("nan")])
def test_theta_is_a_share(theta):
    with pytest.raises(PeerWattError, match=r"theta .* must lie in 0\.\.1"):
        load_mechanism("call", {"theta": theta})


# ------------------------------------------------------------------ published price pairs


def mid_market_prices(supply, demand, feed_in, retail):
    """Buyers' and sellers' price by Long et al. (2017), and the price of a trade."""
    middle = Fraction(feed_in + retail, 2)
    if supply <= demand:
        return (supply * middle + (demand - supply) * retail) / Fraction(demand), middle, middle
    return middle, (demand * middle + (supply - demand) * feed_in) / Fraction(supply), middle


def sdr_prices(supply, demand, feed_in, retail):
    """The same by Liu et al. (2017)."""
    ratio = Fraction(supply, demand)
    price = sdr_price(supply, demand, feed_in, retail)
    return price * ratio + retail * (1 - ratio) if ratio < 1 else price, price, price


def bill_sharing_prices(supply, demand, feed_in, retail):
    """The same from the community's bill, shared by imports and by exports."""
    imported, exported = max(demand - supply, 0), max(supply - demand, 0)
    return Fraction(retail * imported, demand), Fraction(feed_in * exported, supply), Fraction(0)


@pytest.mark.parametrize(
    ("mechanism", "published"),
    [
        ("mid-market-rate", mid_market_prices),
        ("supply-demand-ratio", sdr_prices),
        ("bill-sharing", bill_sharing_prices),
    ],
)
@thorough
@given(batch=books())
def test_bills_equal_the_published_prices(mechanism, published, batch):
    """If every position is quoted in full and the rest settles with the grid.

    A bill differs by the rounding only: less than one quantum of the rationed side, at grid price
    less trade price, and half a tick for each quantum traded.
    """
    result = clear(load_mechanism(mechanism), *batch)
    for b in range(len(batch.order)):
        order, _, ticks, _ = batch.one(b)
        supply, demand = sum(q for q in order if q > 0), -sum(q for q in order if q < 0)
        feed_in, retail = ticks[0], ticks[-1]
        if supply == 0 or demand == 0 or feed_in <= 0:
            continue
        buy, sell, trade = published(supply, demand, feed_in, retail)
        for i, position in enumerate(order):
            traded = int(result.traded[b, i])
            rest = position - traded
            received = int(result.payment[b, i]) + rest * (feed_in if rest > 0 else retail)
            exact = position * (sell if position > 0 else buy)
            rationed = sum(order) * position > 0  # on the long side
            grid = feed_in if position > 0 else retail
            bound = rationed * abs(grid - trade) + Fraction(abs(traded), 2)
            assert abs(received - exact) <= bound
            if trade.denominator == 1 and not rationed:
                assert received == exact


def test_worked_values_of_the_supply_demand_ratio():
    """Retail 0.30 and feed-in 0.08: sellers' and buyers' price by the ratio."""
    worked = {
        Fraction(1, 4): (0.1778, 0.2694),
        Fraction(1, 2): (0.1263, 0.2132),
        Fraction(3, 4): (0.0980, 0.1485),
        Fraction(1): (0.08, 0.08),
        Fraction(3, 2): (0.08, 0.08),
    }
    rule = load_mechanism("supply-demand-ratio")
    for ratio, (sell, buy) in worked.items():
        supply, demand = 1024 * ratio.numerator, 1024 * ratio.denominator
        exact_buy, exact_sell, _ = sdr_prices(supply, demand, 800, 3000)
        assert round(float(exact_sell) / 1e4, 4) == sell
        assert round(float(exact_buy) / 1e4, 4) == buy
        result = clear(rule, *book([supply, -demand], [0, 0], ticks=[800, 3000]))
        assert result.value[0] == round(1e4 * sell) * result.volume[0]
        imported = max(demand - supply, 0)
        paid = -result.payment[0, 1] + imported * 3000
        assert paid / demand / 1e4 == pytest.approx(buy, abs=1e-4)


@pytest.mark.parametrize("feed_in", [0, -5])
def test_without_a_feed_in_tariff_the_ratio_says_nothing(feed_in):
    for order in ([1, -3], [3, -1], [0, -3], [0, 0]):
        ticks = [feed_in, feed_in + 40]
        result = clear(load_mechanism("supply-demand-ratio"), *book(order, [0, 0], ticks=ticks))
        assert result.value[0] == feed_in * result.volume[0]


# ------------------------------------------------------------------ orders of one quantum


def unit_books(generator, count):
    for _ in range(count):
        n = int(generator.integers(2, 10))
        order = generator.choice([-1, 1], n)
        yield book(order, generator.integers(0, 5, n), generator.permutation(n))


def merit_order(batch):
    """Ticks of bids and offers, best first, and the number k that trades."""
    order, level, ticks, _ = batch.one(0)
    bids = sorted((ticks[k] for q, k in zip(order, level, strict=True) if q < 0), reverse=True)
    offers = sorted(ticks[k] for q, k in zip(order, level, strict=True) if q > 0)
    k = sum(b >= s for b, s in zip(bids, offers, strict=False))
    return bids, offers, k


def test_unit_orders_make_mcafee_1992():
    kinds = set()
    for batch in unit_books(np.random.default_rng(0), 500):
        bids, offers, k = merit_order(batch)
        result = clear(load_mechanism("mcafee"), *batch)
        paid, received = -result.payment.clip(max=0).sum(), result.payment.clip(min=0).sum()
        if k == 0:
            assert result.volume[0] == paid == received == 0
            continue
        next_bid = bids[k] if k < len(bids) else TICKS[0]
        next_offer = offers[k] if k < len(offers) else TICKS[-1]
        price = (next_bid + next_offer) // 2
        full = offers[k - 1] <= price <= bids[k - 1]
        kinds.add((full, k > 1))
        expected = (k, k * price, k * price)
        if not full:
            expected = (k - 1, (k - 1) * bids[k - 1], (k - 1) * offers[k - 1])
        assert (result.volume[0], paid, received) == expected
    assert len(kinds) == 4


def test_unit_orders_make_the_textbook_vcg():
    """Buyers pay max(s_k, b_{k+1}), sellers get min(b_k, s_{k+1})."""
    deficits = 0
    for batch in unit_books(np.random.default_rng(1), 500):
        bids, offers, k = merit_order(batch)
        result = clear(load_mechanism("vcg"), *batch)
        assert result.volume[0] == k
        if k == 0:
            continue
        buy = max(offers[k - 1], bids[k] if k < len(bids) else TICKS[0])
        sell = min(bids[k - 1], offers[k] if k < len(offers) else TICKS[-1])
        assert set(result.payment[0][result.traded[0] < 0]) == {-buy}
        assert set(result.payment[0][result.traded[0] > 0]) == {sell}
        deficits += sell > buy
    assert deficits > 0
