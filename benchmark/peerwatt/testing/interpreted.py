"""A mechanism's function run by Python, on arrays that check every index: numba checks none."""

from __future__ import annotations

import operator
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.cpython.unsafe.numbers import leading_zeros, trailing_zeros

from peerwatt.errors import shown, told
from peerwatt.market.mechanism import SCRATCH, SCRATCH_PER_HOUSEHOLD
from peerwatt.testing.books import Book, Ints, Outcome
from peerwatt.testing.frame import Violation


class Meddling(Violation):
    """A write to what is only to be read."""


class Mended(Violation):
    """A breach that is to be mended otherwise than most breaches of the law."""

    def __init__(self, text: str, mend: str) -> None:
        super().__init__(text)
        self.mend = mend


class Guarded(np.ndarray):
    """An array that refuses an index below 0 or beyond its end, slices included."""

    label: str

    def __array_finalize__(self, source: Any) -> None:
        self.label = getattr(source, "label", "an array")

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """Return scalars of sums and the like, as numba does: `-=` would change an array's item."""
        return array[()] if array.ndim == 0 else super().__array_wrap__(array, context, False)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.view(np.ndarray))

    def __getitem__(self, key: Any) -> Any:
        self._inside(key)
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._inside(key)
        if not self.flags.writeable:
            raise Meddling(f"clear writes to {self.label}, which it may only read")
        super().__setitem__(key, value)

    def _inside(self, key: Any) -> None:
        if isinstance(key, slice):
            ends = [end for end in (key.start, key.stop) if end is not None]
            last = self.size
        else:
            numbers = np.asarray(key)
            if numbers.dtype.kind not in "iu":
                return  # a mask, or what numpy refuses itself
            ends, last = numbers.ravel().tolist(), self.size - 1
        for end in ends:
            if not 0 <= operator.index(end) <= last:
                text = f"{key.start}:{key.stop}" if isinstance(key, slice) else end
                if operator.index(end) < 0:
                    raise Mended(
                        f"clear uses {self.label}[{text}]; this suite allows no index below 0, "
                        "for it counts from the end and hides mistakes",
                        f"write {self.label}[{self.label}.size - 1] for the last element",
                    )
                raise Violation(
                    f"clear uses {self.label}[{text}], but there are {self.size} elements"
                )


def _leading_zeros(number: Any) -> Any:
    return type(number)(64 - int(number).bit_length())


def _trailing_zeros(number: Any) -> Any:
    value = int(number)
    return type(number)((value & -value).bit_length() - 1 if value else 64)


STAND_INS = {leading_zeros: _leading_zeros, trailing_zeros: _trailing_zeros}
"""What only numba can run, and what does the same in Python."""


def interpreted(function: Any, memo: dict[int, dict[str, Any]] | None = None) -> Any:
    """Return a copy of a Python function that calls Python functions where it calls compiled ones.

    So that `Guarded` arrays reach every line, whatever file it is in.
    """
    memo = {} if memo is None else memo
    space = memo.get(id(function.__globals__))
    if space is None:
        space = memo[id(function.__globals__)] = dict(function.__globals__)
        for name, value in function.__globals__.items():
            space[name] = _in_python(value, memo)
    cells = function.__closure__
    return types.FunctionType(
        function.__code__,
        space,
        function.__name__,
        function.__defaults__,
        cells and tuple(types.CellType(_in_python(c.cell_contents, memo)) for c in cells),
    )


def _in_python(value: Any, memo: dict[int, dict[str, Any]]) -> Any:
    if isinstance(value, Dispatcher):
        return interpreted(value.py_func, memo)
    if isinstance(value, types.ModuleType):
        inside = vars(value)
        if any(isinstance(one, Dispatcher) for one in inside.values()):
            names = {k: _in_python(v, memo) for k, v in inside.items() if isinstance(v, Dispatcher)}
            return types.SimpleNamespace(**{**inside, **names})
    try:
        return STAND_INS.get(value, value)
    except TypeError:  # not hashable
        return value


def run_python(
    function: Any, parameters: tuple[float, ...], found: Book, held: int = 0, scratch: int = 0
) -> Outcome:
    """Clear a book in Python; the arrays to write hold `held`, and the scratch array `scratch`."""
    n = len(found.order)
    arrays = {
        "order": found.order,
        "level": found.level,
        "ticks": found.ticks,
        "arrival": found.arrival,
        "parameters": np.array(parameters, np.float64),
        "traded": np.full(n, held),
        "payment": np.full(n, held),
        "scratch": np.full(SCRATCH_PER_HOUSEHOLD * n + SCRATCH, scratch),
    }
    views = []
    for name, array in arrays.items():
        view: Any = array.view(Guarded)
        view.label = name
        view.setflags(write=name in ("traded", "payment", "scratch"))
        views.append(view)
    try:
        with np.errstate(all="ignore"):
            returned = function(*views)
    except Mended as breach:
        raise Mended(f"{breach} (book: {found})", breach.mend) from None
    except Violation as breach:
        raise type(breach)(f"{breach} (book: {found})") from None
    except IndexError as error:
        raise Violation(f"clear, run by Python, raises {told(error)} (book: {found})") from error
    except Exception as error:
        raise Mended(
            f"clear, run by Python, raises {told(error)} (book: {found})",
            "let Python, too, run clear on every book",
        ) from error
    return outcome(arrays["traded"], arrays["payment"], returned, found)


def outcome(traded: Ints, payment: Ints, returned: Any, found: Book) -> Outcome:
    """Put together what `clear` wrote and `returned`; three numbers, or it is a `Violation`."""
    if not isinstance(returned, tuple) or len(returned) != 3:
        raise Mended(
            f"clear returns {shown(repr(returned), 60)} (book: {found})",
            "return three whole numbers: volume, value and square",
        )
    volume, value, square = map(int, returned)
    return Outcome(traded, payment, (volume, value, square))
