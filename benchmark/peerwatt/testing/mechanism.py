"""The laws of a market mechanism, held against order books that hypothesis draws.

First the Python function behind `clear` plays on arrays that check every index, for numba checks
none; only what has passed is run compiled, must do the same there, and is held to the laws of the
market and to the properties that the mechanism declares. A counterexample is the smallest book that
hypothesis finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from unittest import mock

import numpy as np
from numba.core.caching import FunctionCache

from peerwatt.errors import told
from peerwatt.market.mechanism import (
    BOOK,
    IMPLIED,
    SCRATCH,
    SCRATCH_PER_HOUSEHOLD,
    CompiledMechanism,
    check_mechanism,
    compile_mechanism,
    plain_function,
)
from peerwatt.testing.books import (
    ANY,
    CORNERS,
    LARGE,
    SMALL,
    STREETS,
    UNSTEADY,
    Book,
    Kind,
    Law,
    Outcome,
    hold,
    random_book,
)
from peerwatt.testing.frame import Check, NotApplicable, Subject, Violation
from peerwatt.testing.interpreted import Meddling, Mended, interpreted, outcome, run_python

INTERPRETED = 5
"""The Python function is slow: it plays each fifth of them."""


# ------------------------------------------------------------------ the Python function


def _python(examined: Subject) -> Callable[..., Outcome]:
    """Return `run_python` of the mechanism."""

    def make() -> Callable[..., Outcome]:
        mechanism = examined.make()
        function = interpreted(plain_function(mechanism))
        return partial(run_python, function, tuple(map(float, mechanism.parameters())))

    return examined.once("python", make)


def _hold_python(examined: Subject, law: Law, mend: str) -> None:
    """Hold the Python function to `law`; the sentence ends with the `mend`."""
    fixed = (*CORNERS, random_book(40, 64), random_book(200, 3))
    _hold(examined, law, mend, ANY, INTERPRETED, fixed)


def _hold(
    examined: Subject, law: Law, mend: str, kind: Kind, step: int, fixed: tuple[Book, ...]
) -> None:
    try:
        hold(law, kind, step, fixed)
    except Violation as breach:
        text = str(breach).rstrip(".")
        mend = breach.mend if isinstance(breach, Mended) else mend
        raise Violation(f"{examined.title}: {text}: {mend}.") from None


def _check_contract(examined: Subject) -> None:
    mechanism = examined.make()
    check_mechanism(mechanism, examined.spec.name)
    numbers = mechanism.parameters()
    examined.require(
        isinstance(numbers, tuple)
        and all(isinstance(x, int | float) and math.isfinite(x) for x in numbers),
        f"parameters() returns {numbers!r}: return a tuple of finite numbers.",
    )
    examined.require(
        numbers == mechanism.parameters(),
        "parameters() returns something else at every call: derive it from the options only.",
    )


def _check_bounds(examined: Subject) -> None:
    run = _python(examined)
    _hold_python(
        examined,
        lambda found: (run(found), None)[1],
        "numba would not notice, but read or overwrite other memory, so check the index",
    )


def _check_inputs(examined: Subject) -> None:
    run = _python(examined)

    def law(found: Book) -> None:
        try:
            run(found)
        except Meddling:
            raise
        except Violation:
            pass  # for the other laws to tell

    _hold_python(examined, law, "copy what you want to change into scratch")


def _check_repeatable(examined: Subject) -> None:
    run = _python(examined)

    def law(found: Book) -> None:
        if not _same(run(found), run(found)):
            raise Violation(f"{UNSTEADY} (book: {found})")

    _hold_python(
        examined,
        law,
        "draw no random numbers (what chance there is, is in `arrival`), and keep nothing from "
        "call to call",
    )


def _check_writes(examined: Subject) -> None:
    run = _python(examined)

    def law(found: Book) -> None:
        one, other = run(found, held=7_777_777), run(found, held=-3)
        for name in ("traded", "payment"):
            differ = np.flatnonzero(getattr(one, name) != getattr(other, name))
            if len(differ):
                raise Violation(
                    f"{name}[{differ[0]}] depends on what the array held before (book: {found})"
                )
        if one.moments != other.moments:
            raise Violation(
                f"what clear returns depends on what traded and payment held before (book: {found})"
            )

    _hold_python(
        examined,
        law,
        "write both for every household, those who abstain too, before you add to them",
    )


def _check_scratch(examined: Subject) -> None:
    run = _python(examined)

    def law(found: Book) -> None:
        zeros, junk = run(found), run(found, scratch=-5_555_555)
        if not _same(zeros, junk):
            raise Violation(f"the outcome depends on what scratch held before (book: {found})")

    _hold_python(examined, law, "write to an element of scratch before you read it")


def _same(one: Outcome, other: Outcome) -> bool:
    return (
        np.array_equal(one.traded, other.traded)
        and np.array_equal(one.payment, other.payment)
        and one.moments == other.moments
    )


# ------------------------------------------------------------------ the compiled function


def run_compiled(rule: CompiledMechanism, found: Book) -> Outcome:
    """Clear a book with the compiled function, without the kernel's own checks."""
    n = len(found.order)
    traded, payment = np.full(n, 7_777_777), np.full(n, -3)
    inputs = [*(np.ascontiguousarray(row) for row in found), rule.parameters.copy()]
    for row in inputs:
        row.setflags(write=False)
    scratch = np.full(SCRATCH_PER_HOUSEHOLD * n + SCRATCH, -5_555_555)
    try:
        returned = rule.function(*inputs, traded, payment, scratch)
    except Exception as error:
        raise Violation(f"clear raises {told(error)} (book: {found})") from error
    return outcome(traded, payment, returned, found)


def _compiled(examined: Subject) -> Callable[[Book], Outcome]:
    """Return `run_compiled` of the mechanism.

    What numba finds on disk does not count: it does not notice that a constant or a function has
    changed which is in another file than `clear`. This renews it.
    """

    def make() -> Callable[[Book], Outcome]:
        with mock.patch.object(FunctionCache, "load_overload", lambda *_: None):
            rule = compile_mechanism(examined.make(), examined.spec.name)
            rule.function.compile(BOOK)  # the double auction is compiled on its first call
        return partial(run_compiled, rule)

    return examined.once("compiled", make)


def _check_compiled(examined: Subject) -> None:
    run, compiled = _python(examined), _compiled(examined)

    def law(found: Book) -> None:
        one, other = run(found), compiled(found)
        if not _same(one, other):
            raise Violation(f"in Python: {one}; compiled: {other} (book: {found})")

    _hold_python(
        examined,
        law,
        "keep all numbers below 2^63 and all types alike: numba's integers have 64 bits, and "
        "uint64 with int64 makes floats",
    )


# ------------------------------------------------------------------ laws


def _hold_compiled(
    examined: Subject,
    law: Callable[[Book, Outcome], str | None],
    mend: str,
    kind: Kind = ANY,
    fixed: tuple[Book, ...] = (*CORNERS, *STREETS, *LARGE),
) -> None:
    """Hold the compiled function to `law`, which returns what is wrong, or None."""
    run = _compiled(examined)

    def check(found: Book) -> None:
        outcome = run(found)
        wrong = law(found, outcome)
        if wrong is not None:
            raise Violation(f"{wrong} (book: {found}; outcome: {outcome})")

    _hold(examined, check, mend, kind, 1, fixed)


def _declared(examined: Subject, name: str) -> None:
    """Raise `NotApplicable` unless the mechanism declares the property `name`."""
    declared = examined.make().properties
    for stronger, weaker in IMPLIED.items():
        if weaker == name and stronger in declared:
            raise NotApplicable(f"it follows from {stronger!r}")
    if name not in declared:
        raise NotApplicable(f"{name!r} is not declared")


def _check_conservation(examined: Subject) -> None:
    def law(found: Book, outcome: Outcome) -> str | None:
        traded, order = outcome.traded, found.order
        beyond = np.flatnonzero((np.abs(traded) > np.abs(order)) | (traded * order < 0))
        if len(beyond):
            i = beyond[0]
            return f"household {i} ordered {order[i]} and traded {traded[i]} quanta"
        if traded.sum() != 0:
            sold, bought = traded[traded > 0].sum(), -traded[traded < 0].sum()
            return f"{sold} quanta are sold and {bought} bought"
        return None

    _hold_compiled(
        examined, law, "let nobody trade beyond her order, and match every quantum sold and bought"
    )


def _check_moments(examined: Subject) -> None:
    uniform = "uniform-price" in examined.make().properties

    def law(found: Book, outcome: Outcome) -> str | None:
        volume, value, square = outcome.moments
        trades = [
            (abs(q), abs(m))
            for q, m in zip(outcome.traded.tolist(), outcome.payment.tolist(), strict=True)
        ]
        sold = sum(q for q, _ in trades) // 2
        if volume != sold:
            return f"the volume returned is {volume}, but {sold} quanta are sold"
        money = sum(m for _, m in trades) // 2
        if value != money:
            return f"the value returned is {value}, but half of all payments is {money}"
        # A household may trade at several prices, so its mean price bounds the square from below,
        # and the highest and lowest price from above.
        n = len(trades)
        least = sum((Fraction(m * m, q) for q, m in trades if q), Fraction(0)) / 2
        prices = [Fraction(m, q) for q, m in trades if q]
        low = min([Fraction(int(found.ticks[0])), *prices])
        high = max([Fraction(int(found.ticks[-1])), *prices])
        most = least if uniform else (low + high) * (value + 1) - low * high * volume
        if not least - n - 1 <= square <= most + n:
            wanted = f"{float(least):.0f}" if uniform else f"{float(least):.0f}..{float(most):.0f}"
            return f"the square returned is {square}, but payments and quantities make {wanted}"
        return None

    _hold_compiled(
        examined,
        law,
        "return traded quanta, sum of quantity x price and sum of quantity x price^2; with two "
        "prices, half the sum over all households of |payment| and of payment^2 / |traded|, "
        "rounded down",
    )


def _check_permutation(examined: Subject) -> None:
    run = _compiled(examined)

    def law(found: Book, outcome: Outcome) -> str | None:
        n = len(found.order)
        # Household i was household old[i]; they come in the same order as before.
        for old in (np.arange(n)[::-1], np.roll(np.arange(n), 1)):
            new = np.argsort(old)
            other = run(Book(found.order[old], found.level[old], found.ticks, new[found.arrival]))
            same = Outcome(outcome.traded[old], outcome.payment[old], outcome.moments)
            if not _same(other, same):
                return f"with the households numbered {old.tolist()[:12]} the outcome is {other}"
        return None

    _hold_compiled(
        examined,
        law,
        "a household's number may not matter, so serve equal orders as they stand in `arrival`",
    )


def _check_budget(examined: Subject) -> None:
    _declared(examined, "budget-balanced")

    def law(found: Book, outcome: Outcome) -> str | None:
        kept = -int(outcome.payment.sum())
        return None if kept == 0 else f"buyers pay {kept} more than sellers get"

    _hold_compiled(
        examined,
        law,
        'let payments sum to 0, or drop "budget-balanced" from properties',
    )


def _check_deficit(examined: Subject) -> None:
    _declared(examined, "no-deficit")

    def law(found: Book, outcome: Outcome) -> str | None:
        paid_in = int(outcome.payment.sum())
        return None if paid_in <= 0 else f"sellers get {paid_in} more than buyers pay"

    _hold_compiled(
        examined,
        law,
        'let sellers get no more than buyers pay, or drop "no-deficit" from properties',
    )


def _check_rational(examined: Subject) -> None:
    _declared(examined, "individually-rational")

    def law(found: Book, outcome: Outcome) -> str | None:
        feed_in, retail = found.ticks[0], found.ticks[-1]
        traded, payment = outcome.traded, outcome.payment
        worst = np.where(traded > 0, traded * feed_in, traded * retail)
        worse = np.flatnonzero(payment < worst)
        if not len(worse):
            return None
        i = worse[0]
        return f"household {i} gets {payment[i]} for {traded[i]} quanta, with the grid {worst[i]}"

    _hold_compiled(
        examined,
        law,
        "let buyers pay at most the retail price, sellers get at least the feed-in tariff and "
        'nobody pay without trading, or drop "individually-rational" from properties',
    )


def _check_limits(examined: Subject) -> None:
    _declared(examined, "respects-limits")

    def law(found: Book, outcome: Outcome) -> str | None:
        traded, payment = outcome.traded, outcome.payment
        limit = found.ticks[found.level]
        worse = np.flatnonzero(payment < traded * limit)
        if not len(worse):
            return None
        i = worse[0]
        return f"household {i} gets {payment[i]} for {traded[i]} quanta with a limit of {limit[i]}"

    _hold_compiled(
        examined,
        law,
        "let no buyer pay more and no seller get less than her level's price, or drop "
        '"respects-limits" from properties',
    )


def _check_uniform(examined: Subject) -> None:
    _declared(examined, "uniform-price")

    def law(found: Book, outcome: Outcome) -> str | None:
        prices = set()
        for q, m in zip(outcome.traded.tolist(), outcome.payment.tolist(), strict=True):
            if q == 0 and m != 0:
                return f"a household pays or gets {m} without trading"
            if q != 0:
                prices.add(Fraction(m, q))
        if len(prices) <= 1:
            return None
        return f"there are trades at {min(prices)} and at {max(prices)}"

    _hold_compiled(examined, law, 'use one price for all, or drop "uniform-price" from properties')


def _check_efficient(examined: Subject) -> None:
    _declared(examined, "efficient")

    def law(found: Book, outcome: Outcome) -> str | None:
        order, level, ticks = found.order, found.level, found.ticks
        levels = np.arange(len(ticks))[:, None]
        demand = np.maximum(-order, 0) @ (level >= levels).T  # at level k or higher
        supply = np.maximum(order, 0) @ (level <= levels).T  # at level k or lower
        volume = int(np.minimum(demand, supply).max())
        done = int(np.maximum(outcome.traded, 0).sum())
        if done != volume:
            return f"{done} quanta are traded, but {volume} cross"
        best = int((np.minimum(demand[1:], supply[:-1]) * np.diff(ticks)).sum())
        worth = -int((outcome.traded * ticks[level]).sum())
        if worth != best:
            return f"the trades are worth {worth} by their levels, the best ones are worth {best}"
        return None

    _hold_compiled(
        examined,
        law,
        "trade the largest crossing volume, highest bids and lowest offers first, or drop "
        '"efficient" from properties',
    )


def _check_truthful(examined: Subject) -> None:
    _declared(examined, "truthful")
    run = _compiled(examined)

    def law(found: Book, outcome: Outcome) -> str | None:
        for i in np.flatnonzero(found.order):
            limit = int(found.ticks[found.level[i]])
            honest = int(outcome.payment[i]) - int(outcome.traded[i]) * limit
            for quoted in range(len(found.ticks)):
                level = found.level.copy()
                level[i] = quoted
                other = run(found._replace(level=level))
                gain = int(other.payment[i]) - int(other.traded[i]) * limit - honest
                if gain > 0:
                    return (
                        f"household {i}, whose limit is level {found.level[i]}, gains {gain} by "
                        f"quoting level {quoted}"
                    )
        return None

    _hold_compiled(
        examined,
        law,
        "no household's price may depend on her own level, but for whether she trades; or drop "
        '"truthful" from properties',
        SMALL,
        (*CORNERS, *(found for found in STREETS if len(found.ticks) == 3)),
    )


def _check_symmetric(examined: Subject) -> None:
    _declared(examined, "symmetric")
    run = _compiled(examined)

    def law(found: Book, outcome: Outcome) -> str | None:
        n = len(found.order)
        for turn in (found.arrival[::-1], np.roll(found.arrival, 1), np.arange(n)):
            other = run(found._replace(arrival=turn))
            moved = np.abs(other.traded - outcome.traded)
            if moved.max() > 1:
                i = int(moved.argmax())
                return (
                    f"household {i} trades {outcome.traded[i]} quanta, and {other.traded[i]} if "
                    f"orders arrive as {turn.tolist()[:12]}"
                )
            money = np.abs(other.payment - outcome.payment)
            traded = np.maximum(np.abs(outcome.traded), np.abs(other.traded))
            price = np.maximum(np.abs(outcome.payment), np.abs(other.payment)) / np.maximum(
                traded, 1
            )
            if money.max() > max(int(found.ticks[-1]), math.ceil(price.max())):
                i = int(money.argmax())
                return (
                    f"household {i} gets {outcome.payment[i]}, and {other.payment[i]} if orders "
                    f"arrive as {turn.tolist()[:12]}"
                )
        return None

    _hold_compiled(
        examined,
        law,
        "share equal orders out in proportion instead of serving the first, or drop "
        '"symmetric" from properties',
    )


_PYTHON = ("contract", "inputs", "bounds", "repeatable", "writes", "scratch")
_LAWS = (*_PYTHON, "compiled")

CHECKS = (
    Check(
        "contract",
        "It is a mechanism: a static clear, known properties, finite numbers as parameters.",
        _check_contract,
    ),
    Check(
        "inputs",
        "clear leaves the orders and parameters that it reads alone.",
        _check_inputs,
        needs=("contract",),
    ),
    Check("bounds", "clear stays within its arrays.", _check_bounds, needs=("contract", "inputs")),
    Check(
        "repeatable",
        "clear does the same whenever it meets the same book.",
        _check_repeatable,
        needs=_PYTHON[:3],
    ),
    Check(
        "writes",
        "clear writes traded and payment of every household, whatever they held before.",
        _check_writes,
        needs=_PYTHON[:4],
    ),
    Check(
        "scratch",
        "What scratch held before does not matter.",
        _check_scratch,
        needs=_PYTHON[:4],
    ),
    Check(
        "compiled",
        "numba compiles clear, and it does the same as in Python.",
        _check_compiled,
        needs=_PYTHON,
    ),
    Check(
        "conservation",
        "What is sold is bought, and nobody trades beyond or against her order.",
        _check_conservation,
        needs=_LAWS,
    ),
    Check(
        "moments",
        "The volume, value and square returned are those of the trades.",
        _check_moments,
        needs=(*_LAWS, "conservation"),
    ),
    Check(
        "permutation",
        "Numbering the households otherwise changes nothing else.",
        _check_permutation,
        needs=_LAWS,
    ),
    Check(
        "budget-balanced",
        "If declared: what buyers pay is what sellers get.",
        _check_budget,
        needs=_LAWS,
    ),
    Check(
        "no-deficit",
        "If declared: sellers never get more than buyers pay.",
        _check_deficit,
        needs=_LAWS,
    ),
    Check(
        "individually-rational",
        "If declared: nobody is worse off than with the grid alone.",
        _check_rational,
        needs=_LAWS,
    ),
    Check(
        "respects-limits",
        "If declared: no trade is worse than the order's price level.",
        _check_limits,
        needs=_LAWS,
    ),
    Check(
        "uniform-price",
        "If declared: all is traded at one price.",
        _check_uniform,
        needs=_LAWS,
    ),
    Check(
        "efficient",
        "If declared: as much is traded as the levels allow, the most valued first.",
        _check_efficient,
        needs=_LAWS,
    ),
    Check(
        "truthful",
        "If declared: no household gains by another price level, whatever the others quote.",
        _check_truthful,
        needs=_LAWS,
    ),
    Check(
        "symmetric",
        "If declared: the order of arrival decides at most who bears a rounding of one quantum.",
        _check_symmetric,
        needs=_LAWS,
    ),
)
