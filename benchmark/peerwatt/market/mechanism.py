"""Market mechanisms: what one is, what it promises, and how the kernels call it.

A mechanism is a plain function that numba can compile, and a frozen dataclass of options around
it. The kernels call it through a pointer: they are compiled once, whatever the mechanism, and a
stranger's one runs inside the same fused loop as the mechanisms that come with PeerWatt. Only the
double auction is inlined as well, for the sake of the last few per cent.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numba import njit, types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import intrinsic
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError

PROPERTIES: Mapping[str, str] = {
    "budget-balanced": "what buyers pay is what sellers get",
    "no-deficit": "sellers never get more than buyers pay; the operator keeps the rest",
    "individually-rational": "nobody is worse off than with the grid alone: buyers pay at most the "
    "retail price, sellers get at least the feed-in tariff",
    "respects-limits": "no buyer pays more, and no seller gets less, than her order's price level",
    "uniform-price": "all that is traded in a slot is traded at one price",
    "efficient": "as much is traded as the orders' price levels allow, the most valued first",
    "truthful": "no household gains by quoting another price level than its true limit, whatever "
    "the others quote",
    "symmetric": "the order in which orders arrive decides at most who bears a rounding of one "
    "quantum",
}
"""What a mechanism may declare of itself; conformance tests hold it to that."""

IMPLIED = {"budget-balanced": "no-deficit", "respects-limits": "individually-rational"}
"""Property -> weaker property that follows from it."""

BOOK = (
    types.Array(types.int64, 1, "C", readonly=True),  # order
    types.Array(types.int64, 1, "C", readonly=True),  # level
    types.Array(types.int64, 1, "C", readonly=True),  # ticks
    types.Array(types.int64, 1, "C", readonly=True),  # arrival
    types.Array(types.float64, 1, "C", readonly=True),  # parameters
    types.Array(types.int64, 1, "C"),  # traded
    types.Array(types.int64, 1, "C"),  # payment
    types.Array(types.int64, 1, "C"),  # scratch
)
MOMENTS = types.UniTuple(types.int64, 3)
SIGNATURE = MOMENTS(*BOOK)

SCRATCH_PER_HOUSEHOLD = 8
SCRATCH = 256
"""A mechanism of n households gets `SCRATCH_PER_HOUSEHOLD * n + SCRATCH` integers to work in."""

INLINED = 0
"""The address by which the kernels know the double auction that is compiled into them."""


class Mechanism(Protocol):
    """A rule that clears the orders of one community and slot.

    A frozen dataclass whose fields are its options. `clear` is a static function that numba can
    compile in nopython mode, of one order book of n households and K price levels:

        clear(order, level, ticks, arrival, parameters, traded, payment, scratch)

    Read-only, int64 but for the last:

    - `order` [n]: quanta (1/1024 kWh) offered > 0, bid for < 0, 0 abstains;
    - `level` [n]: index of each order's limit price in `ticks`;
    - `ticks` [K]: prices ascending from the feed-in tariff to the retail price;
    - `arrival` [n]: random permutation, the order in which orders arrive;
    - `parameters` [p] float64: what `parameters()` returned.

    To be written for every household,
    int64, whatever they hold before:

    - `traded` [n]: sold > 0, bought < 0, no more than was ordered; what is bought is sold;
    - `payment` [n]: received > 0, paid < 0, in quanta x ticks.

    `scratch` [8 n + 256] int64 of any content is there to work in: allocate nothing. numba checks
    no bounds; the conformance suite does.

    It returns three int64 moments of the trades: traded quanta, the sum of quantity x price and the
    sum of quantity x price^2. Where buyers pay another price than sellers get, these are half the
    sum over all households of |payment| and of payment^2 / |traded|, rounded down.
    """

    @property
    def properties(self) -> frozenset[str]:
        """The keys of `PROPERTIES` that the mechanism promises."""
        ...

    @property
    def clear(self) -> Callable[..., Any]:
        """The static function that clears one book."""
        ...

    def parameters(self) -> tuple[float, ...]:
        """Return the options as numbers for `clear`; empty if it has none."""
        ...


@dataclass(frozen=True, eq=False)
class CompiledMechanism:
    """A mechanism as the kernels take it. Pickling it compiles it again where it arrives."""

    name: str
    mechanism: Mechanism
    address: int  # of the machine code in this process, or `INLINED`
    parameters: NDArray[np.float64]
    function: Dispatcher  # keeps the machine code alive

    def __reduce__(self) -> tuple[Callable[..., CompiledMechanism], tuple[Mechanism, str]]:
        """An address means nothing in another process."""
        return compile_mechanism, (self.mechanism, self.name)


def compile_mechanism(
    mechanism: Mechanism | CompiledMechanism, name: str | None = None
) -> CompiledMechanism:
    """Compile `mechanism` for the kernels; the same function is compiled once per process.

    Args:
        mechanism: an instance; `peerwatt.plugins.loader.load_mechanism` gives registered ones.
        name: what to call it; by default the name of its class.

    Raises:
        PeerWattError: it does not fulfil the contract, or numba cannot compile it.
    """
    from peerwatt.market.kernels import double_auction

    if isinstance(mechanism, CompiledMechanism):
        return mechanism
    name = name or type(mechanism).__name__
    check_mechanism(mechanism, name)
    try:
        parameters = np.array(mechanism.parameters(), np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise PeerWattError(
            f"mechanism {name!r}: parameters() must return a tuple of numbers: {error}."
        ) from None
    parameters.setflags(write=False)
    if mechanism.clear is double_auction:
        return CompiledMechanism(name, mechanism, INLINED, parameters, double_auction)
    try:
        function, address = _compiled(plain_function(mechanism))
    except PeerWattError as error:
        raise PeerWattError(f"mechanism {name!r}: {error}") from error.__cause__
    return CompiledMechanism(name, mechanism, address, parameters, function)


def plain_function(mechanism: Mechanism) -> Callable[..., Any]:
    """Return the Python function behind `mechanism.clear`, compiled or not."""
    clear = mechanism.clear
    return clear.py_func if isinstance(clear, Dispatcher) else clear


def check_mechanism(mechanism: Any, name: str) -> None:
    """Refuse an object that does not fulfil the contract of `Mechanism`.

    Raises:
        PeerWattError: the sentence says what is missing.
    """
    if not dataclasses.is_dataclass(mechanism) or isinstance(mechanism, type):
        raise PeerWattError(f"mechanism {name!r} must be an instance of a dataclass.")
    for attribute in ("clear", "parameters"):
        if not callable(getattr(mechanism, attribute, None)):
            raise PeerWattError(f"mechanism {name!r} lacks a function {attribute!r}.")
    if not isinstance(inspect.getattr_static(mechanism, "clear"), staticmethod):
        raise PeerWattError(
            f"mechanism {name!r}: clear must be static: write `clear = staticmethod(clear)`."
        )
    properties = getattr(mechanism, "properties", None)
    if not isinstance(properties, frozenset) or not properties <= set(PROPERTIES):
        raise PeerWattError(
            f"mechanism {name!r}: properties must be a frozenset of {', '.join(PROPERTIES)} "
            f"(got {properties!r})."
        )


@functools.cache
def _compiled(clear: Callable[..., Any]) -> tuple[Dispatcher, int]:
    """Compile `clear` for `SIGNATURE` and return it with the address of its machine code.

    Always with these flags, whatever its author chose: one thread, no Python objects.
    """
    place = f"clear ({clear.__code__.co_filename}:{clear.__code__.co_firstlineno})"
    try:
        function = _jitted(clear)
        function.compile(BOOK)  # with a return type, floats would silently become integers
        result: Any = function.overloads[BOOK]
        if _whole(result.signature.return_type):
            function = njit(error_model="numpy", nogil=True)(clear)
            function.compile(SIGNATURE)
            result = function.overloads[BOOK]
    except NumbaError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = [line for line in lines if not line.startswith(("Failed in", "During:", "---"))]
        raise PeerWattError(f"numba cannot compile {place}: {' '.join(told)[:300]}.") from error
    except TypeError as error:
        raise PeerWattError(
            f"{place} must take (order, level, ticks, arrival, parameters, traded, payment, "
            f"scratch): {error}."
        ) from error
    if result.signature.return_type != MOMENTS:
        raise PeerWattError(
            f"{place} returns {result.signature.return_type}, expected three int64 (volume, value, "
            "square): turn each into one with np.int64(...), floats with np.int64(math.floor(...))."
        )
    code = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    return function, int(code)


def _jitted(clear: Callable[..., Any]) -> Dispatcher:
    """Make `clear` ready for compilation; keep the machine code on disk where that is safe.

    numba does not notice that a file changed whose compiled functions `clear` calls, so only what
    calls none of other files is kept, and what comes with PeerWatt.
    """
    values = list(clear.__globals__.values())
    values += [v for m in values if isinstance(m, ModuleType) for v in vars(m).values()]
    functions = [value for value in values if isinstance(value, Dispatcher)]
    files = {function.py_func.__code__.co_filename for function in functions}
    alone = files <= {clear.__code__.co_filename}
    if alone or clear.__module__.partition(".")[0] == "peerwatt_mechanisms":
        try:
            return njit(cache=True, error_model="numpy", nogil=True)(clear)
        except RuntimeError:  # no file to keep the cache beside, as in a notebook
            pass
    return njit(error_model="numpy", nogil=True)(clear)


def _whole(returned: Any) -> bool:
    """Return whether these are three whole numbers, but not plain int64: literals such as 0."""
    parts: Any = getattr(returned, "types", ())
    whole = [types.unliteral(part) == types.int64 for part in parts]
    return returned != MOMENTS and len(whole) == 3 and all(whole)


@intrinsic
def invoke(  # type: ignore[no-untyped-def]
    typing_context, address, order, level, ticks, arrival, parameters, traded, payment, scratch
):
    """Call the machine code at `address`, compiled for `SIGNATURE`; errors propagate.

    numba's own first-class functions would be looked up by the interpreter at every step. An error
    leaves a reference to each array behind: whoever sees one must not go on.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        convention = context.call_conv
        kind = convention.get_function_type(MOMENTS, BOOK)
        pointer = builder.inttoptr(arguments[0], kind.as_pointer())
        status, moments = convention.call_function(builder, pointer, MOMENTS, BOOK, arguments[1:])
        with builder.if_then(status.is_error, likely=False):
            convention.return_status_propagate(builder, status)
        return moments

    return MOMENTS(types.int64, *BOOK), generate
