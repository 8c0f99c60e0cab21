"""Mechanisms that break one law each, beside a good one that they differ from in a line or two."""

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numba import njit
from registering import register

from peerwatt.plugins import MechanismSpec, hookimpl
from peerwatt_mechanisms.call import CallAuction
from peerwatt_mechanisms.mid_market_rate import MidMarketRate

REGISTERED = []
CALLS = itertools.count()


def registered(law, says, **changes):
    return register(REGISTERED, MechanismSpec, __name__, law, says, **changes)


@hookimpl
def peerwatt_mechanisms():
    return [spec for *_, spec in REGISTERED]


@njit
def serve(order, level, ticks, arrival, traded, payment, buy, sell):
    """First come, first served: buyers pay `buy` and sellers get `sell`, if their limits let."""
    supply = 0
    demand = 0
    for i in range(order.size):
        if order[i] > 0 and ticks[level[i]] <= sell:
            supply += order[i]
        if order[i] < 0 and ticks[level[i]] >= buy:
            demand -= order[i]
    volume = min(supply, demand)
    to_sell = volume
    to_buy = volume
    for i in arrival:
        traded[i] = 0
        if order[i] > 0 and ticks[level[i]] <= sell:
            traded[i] = min(order[i], to_sell)
            to_sell -= traded[i]
        if order[i] < 0 and ticks[level[i]] >= buy:
            traded[i] = max(order[i], -to_buy)
            to_buy += traded[i]
        payment[i] = traded[i] * (sell if traded[i] > 0 else buy)
    return volume, volume * (buy + sell) // 2, volume * (buy * buy + sell * sell) // 2


@njit
def middle(ticks):
    return (ticks[0] + ticks[ticks.size - 1]) // 2


def good(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = middle(ticks)
    return serve(order, level, ticks, arrival, traded, payment, price, price)


@registered("", "")
@dataclass(frozen=True)
class Good:
    """A posted price."""

    clear = staticmethod(good)
    properties: ClassVar[frozenset[str]] = frozenset(
        {"budget-balanced", "respects-limits", "uniform-price", "truthful"}
    )

    def parameters(self):
        return ()


def subtracts_in_place(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = middle(ticks)
    traded[:] = np.where(
        order > 0, (ticks[level] <= price) * order, (ticks[level] >= price) * order
    )
    volume = min(np.sum(np.maximum(traded, 0)), -np.sum(np.minimum(traded, 0)))
    to_sell = volume
    to_buy = volume
    for i in arrival:
        if traded[i] > 0:
            traded[i] = min(traded[i], to_sell)
            to_sell -= traded[i]
        else:
            traded[i] = max(traded[i], -to_buy)
            to_buy += traded[i]
        payment[i] = traded[i] * price
    return volume, volume * price, volume * price * price


@registered("", "")
@dataclass(frozen=True)
class SubtractsInPlace(Good):
    clear = staticmethod(subtracts_in_place)


# ------------------------------------------------------------------ contract


@registered("contract", "clear must be static")
@dataclass(frozen=True)
class NotStatic(Good):
    clear = good


@registered("contract", "properties must be a frozenset of budget-balanced")
@dataclass(frozen=True)
class SaysItIsFair(Good):
    properties: ClassVar[frozenset[str]] = frozenset({"fair"})


@registered("contract", "parameters() returns (nan,): return a tuple of finite numbers")
@dataclass(frozen=True)
class NotANumber(Good):
    def parameters(self):
        return (float("nan"),)


@registered("contract", "something else at every call")
@dataclass(frozen=True)
class Moody(Good):
    def parameters(self):
        return (next(CALLS),)


# ------------------------------------------------------------------ the Python function


def reads_the_next(order, level, ticks, arrival, parameters, traded, payment, scratch):
    after = 0
    for i in range(order.size):
        after += max(0, level[i + 1])
    return good_moments(order, level, ticks, arrival, traded, payment)


@njit
def good_moments(order, level, ticks, arrival, traded, payment):
    return serve(order, level, ticks, arrival, traded, payment, middle(ticks), middle(ticks))


@registered("bounds", "clear uses level[1], but there are 1 elements (book: order [0], level [0]")
@dataclass(frozen=True)
class ReadsTheNext(Good):
    clear = staticmethod(reads_the_next)


def counts_from_the_end(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = (ticks[0] + ticks[-1]) // 2
    return serve(order, level, ticks, arrival, traded, payment, price, price)


@registered(
    "bounds",
    "and hides mistakes (book: order [0], level [0], ticks [0, 1, 2], arrival [0]): "
    "write ticks[ticks.size - 1] for the last element.",
)
@dataclass(frozen=True)
class CountsFromTheEnd(Good):
    clear = staticmethod(counts_from_the_end)


def wants_more_scratch(order, level, ticks, arrival, parameters, traded, payment, scratch):
    scratch[: 10 * order.size + 250] = 0
    return good_moments(order, level, ticks, arrival, traded, payment)


@registered("bounds", "clear uses scratch[None:")
@dataclass(frozen=True)
class WantsMoreScratch(Good):
    clear = staticmethod(wants_more_scratch)


def has_a_small_table(order, level, ticks, arrival, parameters, traded, payment, scratch):
    table = np.zeros(100, np.int64)
    for i in range(order.size):
        table[i] = order[i]
    return good_moments(order, level, ticks, arrival, traded, payment)


@registered("bounds", "raises IndexError")
@dataclass(frozen=True)
class HasASmallTable(Good):
    clear = staticmethod(has_a_small_table)


def dislikes_zero(order, level, ticks, arrival, parameters, traded, payment, scratch):
    if order.min() == order.max():
        raise ValueError("all alike")
    return good_moments(order, level, ticks, arrival, traded, payment)


@registered("bounds", "let Python, too, run clear on every book.")
@dataclass(frozen=True)
class DislikesZero(Good):
    clear = staticmethod(dislikes_zero)


def returns_the_volume(order, level, ticks, arrival, parameters, traded, payment, scratch):
    return good_moments(order, level, ticks, arrival, traded, payment)[0]


@registered("bounds", "): return three whole numbers: volume, value and square.")
@dataclass(frozen=True)
class ReturnsTheVolume(Good):
    clear = staticmethod(returns_the_volume)


@registered("inputs", "clear writes to order, which it may only read (book: order [0], level [0]")
@dataclass(frozen=True)
class EatsOrders(Good):
    @staticmethod
    def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
        order[0] = 0
        return good_moments(order, level, ticks, arrival, traded, payment)


@registered("inputs", "clear writes to parameters, which it may only read")
@dataclass(frozen=True)
class KeepsAMemory(Good):
    share: float = 0.5

    def parameters(self):
        return (self.share,)

    @staticmethod
    def clear(order, level, ticks, arrival, parameters, traded, payment, scratch):
        parameters[0] += 1.0
        return good_moments(order, level, ticks, arrival, traded, payment)


def rolls_dice(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = ticks[0] + np.random.randint(0, ticks[ticks.size - 1] - ticks[0])
    return serve(order, level, ticks, arrival, traded, payment, price, price)


@registered("repeatable", "draw no random numbers")
@dataclass(frozen=True)
class RollsDice(Good):
    clear = staticmethod(rolls_dice)


def forgets_abstainers(order, level, ticks, arrival, parameters, traded, payment, scratch):
    n = order.size
    sold, paid = scratch[:n], scratch[n : 2 * n]
    moments = good_moments(order, level, ticks, arrival, sold, paid)
    for i in range(n):
        if order[i] != 0:
            traded[i] = sold[i]
            payment[i] = paid[i]
    return moments


@registered("writes", "traded[0] depends on what the array held before (book: order [0], level [0]")
@dataclass(frozen=True)
class ForgetsAbstainers(Good):
    clear = staticmethod(forgets_abstainers)


def adds_to_payment(order, level, ticks, arrival, parameters, traded, payment, scratch):
    n = order.size
    moments = good_moments(order, level, ticks, arrival, traded, scratch[:n])
    for i in range(n):
        payment[i] += scratch[i]
    return moments


@registered("writes", "payment[0] depends on what the array held before")
@dataclass(frozen=True)
class AddsToPayment(Good):
    clear = staticmethod(adds_to_payment)


def trusts_scratch(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = middle(ticks) + scratch[0]
    return serve(order, level, ticks, arrival, traded, payment, price, price)


@registered("scratch", "write to an element of scratch before you read it")
@dataclass(frozen=True)
class TrustsScratch(Good):
    clear = staticmethod(trusts_scratch)


# ------------------------------------------------------------------ compiled


def uses_objects(order, level, ticks, arrival, parameters, traded, payment, scratch):
    best = sorted(range(order.size), key=lambda i: f"{level[i]}")
    assert len(best) == order.size
    return good_moments(order, level, ticks, arrival, traded, payment)


@registered("compiled", "numba cannot compile")
@dataclass(frozen=True)
class UsesObjects(Good):
    clear = staticmethod(uses_objects)


def returns_floats(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume, value, square = good_moments(order, level, ticks, arrival, traded, payment)
    return volume, value / 1.0, square


@registered("compiled", "expected three int64")
@dataclass(frozen=True)
class ReturnsFloats(Good):
    clear = staticmethod(returns_floats)


def counts_beyond_64_bits(order, level, ticks, arrival, parameters, traded, payment, scratch):
    key = 1
    for _ in range(order.size):
        key = key * 6364136223846793005 + 1
    price = middle(ticks) - key % 3
    return serve(order, level, ticks, arrival, traded, payment, price, price)


@registered("compiled", "keep all numbers below 2^63")
@dataclass(frozen=True)
class CountsBeyond64Bits(Good):
    clear = staticmethod(counts_beyond_64_bits)


# ------------------------------------------------------------------ laws


def makes_energy(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume = 0
    for i in range(order.size):
        traded[i] = max(order[i], 0)
        payment[i] = 0
        volume += traded[i]
    return volume, 0, 0


@registered("conservation", "1 quanta are sold and 0 bought (book: order [1], level [0]")
@dataclass(frozen=True)
class MakesEnergy(Good):
    clear = staticmethod(makes_energy)
    properties: ClassVar[frozenset[str]] = frozenset()


def trades_twice(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume, value, square = good_moments(order, level, ticks, arrival, traded, payment)
    for i in range(order.size):
        traded[i] *= 2
        payment[i] *= 2
    return 2 * volume, 2 * value, 2 * square


@registered("conservation", "household 0 ordered 1 and traded 2 quanta")
@dataclass(frozen=True)
class TradesTwice(Good):
    clear = staticmethod(trades_twice)


def counts_both_sides(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume, value, square = good_moments(order, level, ticks, arrival, traded, payment)
    return 2 * volume, value, square


@registered("moments", "the volume returned is 2, but 1 quanta are sold")
@dataclass(frozen=True)
class CountsBothSides(Good):
    clear = staticmethod(counts_both_sides)


def forgets_a_price(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume, _, square = good_moments(order, level, ticks, arrival, traded, payment)
    return volume, volume, square


@registered("moments", "but half of all payments is")
@dataclass(frozen=True)
class ForgetsAPrice(Good):
    clear = staticmethod(forgets_a_price)


def squares_the_value(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume, value, _ = good_moments(order, level, ticks, arrival, traded, payment)
    return volume, value, value * value


@registered("moments", "but payments and quantities make")
@dataclass(frozen=True)
class SquaresTheValue(Good):
    clear = staticmethod(squares_the_value)


def squares_nothing(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume, value, _ = good_moments(order, level, ticks, arrival, traded, payment)
    return volume, value, value


@registered("moments", "the square returned is")
@dataclass(frozen=True)
class SquaresNothing(Good):
    clear = staticmethod(squares_nothing)


def knows_them_by_number(order, level, ticks, arrival, parameters, traded, payment, scratch):
    for i in range(order.size):
        scratch[i] = i
    return good_moments(order, level, ticks, scratch[: order.size], traded, payment)


@registered("permutation", "serve equal orders as they stand in `arrival`")
@dataclass(frozen=True)
class KnowsThemByNumber(Good):
    clear = staticmethod(knows_them_by_number)


def takes_a_fee(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = middle(ticks)
    return serve(order, level, ticks, arrival, traded, payment, price, price - 1)


@registered("budget-balanced", "buyers pay 1 more than sellers get (book: order [")
@dataclass(frozen=True)
class TakesAFee(Good):
    clear = staticmethod(takes_a_fee)
    properties: ClassVar[frozenset[str]] = frozenset({"budget-balanced", "respects-limits"})


def pays_a_bonus(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = middle(ticks)
    return serve(order, level, ticks, arrival, traded, payment, price, price + 1)


def pays_the_first(order, level, ticks, arrival, parameters, traded, payment, scratch):
    volume, value, square = good_moments(order, level, ticks, arrival, traded, payment)
    if order.size == 15 or order.size == 20:
        payment[arrival[0]] += 1000
        value, square = 0, 0
        for i in range(order.size):
            value += abs(payment[i])
            square += payment[i] ** 2 // max(1, abs(traded[i]))
        value, square = value // 2, square // 2
    return volume, value, square


@registered("budget-balanced", "buyers pay -1000 more than sellers get (book: a random book of 15")
@dataclass(frozen=True)
class PaysTheFirst(Good):
    clear = staticmethod(pays_the_first)
    properties: ClassVar[frozenset[str]] = frozenset({"budget-balanced"})


def pays_for_whole_kwh(order, level, ticks, arrival, parameters, traded, payment, scratch):
    price = middle(ticks)
    volume, value, square = good_moments(order, level, ticks, arrival, traded, payment)
    if volume % 1024 == 0:
        return serve(order, level, ticks, arrival, traded, payment, price, price + 1)
    return volume, value, square


@registered("no-deficit", "more than buyers pay (book: ")
@dataclass(frozen=True)
class PaysForWholeKwh(Good):
    clear = staticmethod(pays_for_whole_kwh)
    properties: ClassVar[frozenset[str]] = frozenset({"no-deficit"})


@registered("no-deficit", "sellers get 1 more than buyers pay (book: order [")
@dataclass(frozen=True)
class PaysABonus(Good):
    clear = staticmethod(pays_a_bonus)
    properties: ClassVar[frozenset[str]] = frozenset({"no-deficit", "respects-limits"})


def costs_more_than_retail(order, level, ticks, arrival, parameters, traded, payment, scratch):
    moments = good_moments(order, level, ticks, arrival, traded, payment)
    price = ticks[ticks.size - 1] + 1
    for i in range(order.size):
        payment[i] = traded[i] * price
    return moments[0], moments[0] * price, moments[0] * price * price


@registered("individually-rational", "quanta, with the grid -")
@dataclass(frozen=True)
class CostsMoreThanRetail(Good):
    clear = staticmethod(costs_more_than_retail)
    properties: ClassVar[frozenset[str]] = frozenset(
        {"budget-balanced", "individually-rational", "uniform-price"}
    )


@registered("respects-limits", "with a limit of")
@dataclass(frozen=True)
class IgnoresLimits(MidMarketRate):
    properties: ClassVar[frozenset[str]] = MidMarketRate.properties | {"respects-limits"}


@registered("uniform-price", "there are trades at")
@dataclass(frozen=True)
class TwoPrices(Good):
    clear = staticmethod(takes_a_fee)
    properties: ClassVar[frozenset[str]] = frozenset({"no-deficit", "uniform-price", "truthful"})


@registered("efficient", "quanta are traded, but 1 cross")
@dataclass(frozen=True)
class NotEfficient(Good):
    properties: ClassVar[frozenset[str]] = Good.properties | {"efficient"}


@registered("truthful", "gains")
@dataclass(frozen=True)
class InvitesShading(CallAuction):
    properties: ClassVar[frozenset[str]] = CallAuction.properties | {"truthful"}


@registered("symmetric", "if orders arrive as")
@dataclass(frozen=True)
class FirstComeFirstServed(Good):
    properties: ClassVar[frozenset[str]] = Good.properties | {"symmetric"}
