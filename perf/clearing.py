"""Speed of the continuous double auction: numba kernel against scalar C -O3.

    python perf/clearing.py [--repeats 15] [--cc cc]

The same C data structure (`clearing_cda.c`) is compiled into a temporary folder and called through
ctypes. Results are checked equal before anything is timed. Inputs rotate through at least 262,144
different random orders: repeating one small batch trains the branch predictor and overstates
throughput several times. Repeats of the variants are interleaved, so that a busy machine hits all
of them alike; figures are medians of thread CPU time, and the ratio is taken repeat by repeat.
Call overhead from Python is included, once per batch, for both.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numba import njit
from numpy.typing import NDArray

from peerwatt.market import CompiledMechanism, compile_mechanism, price_grid
from peerwatt.market.kernels import clear_batch, clear_cda
from peerwatt.plugins.loader import load_mechanism

Ints = NDArray[np.int64]

SIZES = [(64, 4), (1024, 4), (64, 20), (1024, 20), (64, 100), (16, 1000)]
DISTINCT_ORDERS = 262_144
LEVELS = 21
FLAGS = {"C": ["-O3"], "native": ["-O3", "-march=native"]}
"""Two yardsticks: plain C, and C for this very processor, which is what numba compiles for."""


class Batch:
    """Random orders of B books and the arrays in which one implementation leaves its results."""

    def __init__(self, books: int, n: int, generator: np.random.Generator) -> None:
        self.books, self.n = books, n
        # The mixture of sell, buy and abstain is what a community with solar sees in daytime.
        quantity = generator.integers(1, 2048, (books, n))
        self.order = (
            quantity * generator.choice([-1, 0, 1], (books, n), p=[0.5, 0.1, 0.4])
        ).ravel()
        self.level = generator.integers(0, LEVELS, books * n)
        retail = generator.integers(2000, 5000, books)
        self.ticks = price_grid(800, retail, LEVELS).ravel()
        self.arrival = generator.permuted(np.tile(np.arange(n), (books, 1)), axis=1).ravel()

    def outputs(self) -> tuple[Ints, Ints, Ints]:
        """Return new traded, payment and moments arrays."""
        size = self.books * self.n
        return (
            np.empty(size, np.int64),
            np.empty(size, np.int64),
            np.empty(3 * self.books, np.int64),
        )


@njit(error_model="numpy", nogil=True)
def mix(key):
    """Splitmix64: the counter-based generator's finaliser."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


@njit(error_model="numpy", nogil=True)
def clear_drawn(seed, books, n, levels, order, level, ticks, turn, traded, payment, moments):
    """As `clear_batch` for the CDA, drawing each book's arrival permutation in the kernel."""
    queue = np.empty(n, np.int64)
    head = np.empty(128, np.int64)
    tail = np.empty(128, np.int64)
    for b in range(books):
        counter = mix(np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b))
        for k in range(n):
            counter += np.uint64(0x9E3779B97F4A7C15)
            j = np.int64(((mix(counter) >> np.uint64(32)) * np.uint64(k + 1)) >> np.uint64(32))
            turn[k] = turn[j]
            turn[j] = k
        volume, value, square = clear_cda(
            b * n, n, order, level, ticks, b * levels, turn, 0, traded, payment,
            queue, head, tail,
        )  # fmt: skip
        moments[3 * b] = volume
        moments[3 * b + 1] = value
        moments[3 * b + 2] = square


def compile_c(compiler: str, flags: list[str], folder: str) -> Callable[..., None]:
    """Compile the C kernel and return its batch function."""
    library = Path(folder) / f"clearing_cda{'_'.join(flags)}.so"
    source = Path(__file__).with_name("clearing_cda.c")
    command = [*shlex.split(compiler), *flags, "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(str(library)).clear_batch
    function.restype = None
    return function


def call_c(function: Callable[..., None], batch: Batch, outputs: tuple[Ints, ...]) -> Callable:
    """Return a closure that clears `batch` in C, its pointers prepared beforehand."""
    scratch = [np.empty(size, np.int64) for size in (batch.n, 128, 128)]
    arrays = [batch.order, batch.level, batch.ticks, batch.arrival, *outputs, *scratch]
    sizes = [ctypes.c_int64(x) for x in (batch.books, batch.n, LEVELS)]
    arguments = (*sizes, *(ctypes.c_void_p(a.ctypes.data) for a in arrays))

    def run(keep: object = arrays) -> None:
        function(*arguments)

    return run


def call_numba(rule: CompiledMechanism, batch: Batch, outputs: tuple[Ints, ...]) -> Callable:
    """Return a closure that clears `batch` with the mechanism `rule`."""
    arguments = (rule.address, rule.parameters, batch.books, batch.n, LEVELS, batch.order,
                 batch.level, batch.ticks, batch.arrival, *outputs)  # fmt: skip
    return lambda: clear_batch(*arguments)


def call_drawn(seed: int, batch: Batch, outputs: tuple[Ints, ...]) -> Callable:
    """Return a closure that draws the arrivals and clears `batch` with the numba CDA."""
    turn = np.empty(batch.n, np.int64)
    arguments = (seed, batch.books, batch.n, LEVELS, batch.order, batch.level, batch.ticks, turn,
                 *outputs)  # fmt: skip
    return lambda: clear_drawn(*arguments)


def check_equal(
    rule: CompiledMechanism, batches: list[Batch], function: Callable[..., None]
) -> None:
    """Stop unless numba and C agree on every traded quantum, payment and moment."""
    for batch in batches:
        ours, theirs = batch.outputs(), batch.outputs()
        call_numba(rule, batch, ours)()
        call_c(function, batch, theirs)()
        for one, other in zip(ours, theirs, strict=True):
            if not np.array_equal(one, other):
                raise SystemExit("numba and C disagree: no timing is worth reporting.")


def measure(runs: dict[str, list[Callable]], repeats: int, orders: int) -> dict[str, list[float]]:
    """Return million orders per CPU second of each variant, one figure per repeat, interleaved."""
    sweeps = max(1, 500_000 // orders)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, calls in runs.items():
            start = time.thread_time()
            for _ in range(sweeps):
                for call in calls:
                    call()
            rates[name].append(sweeps * orders / (time.thread_time() - start) / 1e6)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--cc", default="cc", help="C compiler, with further flags if wanted")
    options = parser.parse_args()
    cda, call = (compile_mechanism(load_mechanism(name)) for name in ("cda", "call"))
    with tempfile.TemporaryDirectory() as folder:
        c = {name: compile_c(options.cc, flags, folder) for name, flags in FLAGS.items()}
        print(
            f"Python {platform.python_version()}, numba {numba.__version__}, {options.cc}; "
            f"{LEVELS} price levels; million orders per CPU second\n\n"
            "                numba      C -O3            C -O3 native    numba, arrivals   numba\n"
            "     B     N    CDA        CDA    ratio     CDA    ratio    drawn inside      call"
        )
        ratios: dict[str, list[float]] = {name: [] for name in c}
        for books, n in SIZES:
            generator = np.random.default_rng([books, n])
            count = -(-DISTINCT_ORDERS // (books * n))
            batches = [Batch(books, n, generator) for _ in range(count)]
            for function in c.values():
                check_equal(cda, batches, function)
            outputs = batches[0].outputs()
            runs = {
                "numba": [call_numba(cda, b, outputs) for b in batches],
                "drawn": [call_drawn(i, b, outputs) for i, b in enumerate(batches)],
                "call": [call_numba(call, b, outputs) for b in batches],
            }
            for name, function in c.items():
                runs[name] = [call_c(function, b, outputs) for b in batches]
            rates = measure(runs, options.repeats, count * books * n)
            middle = {name: statistics.median(values) for name, values in rates.items()}
            for name, values in ratios.items():
                pairs = zip(rates["numba"], rates[name], strict=True)
                values.append(statistics.median(a / b for a, b in pairs))
            print(
                f"{books:6d}{n:6d}{middle['numba']:7.1f}{middle['C']:11.1f}{ratios['C'][-1]:9.2f}"
                f"{middle['native']:8.1f}{ratios['native'][-1]:9.2f}{middle['drawn']:16.1f}"
                f"{middle['call']:10.1f}"
            )
        for name, values in ratios.items():
            print(
                f"\nnumba / {' '.join(['C', *FLAGS[name]])}: geometric mean "
                f"{statistics.geometric_mean(values):.2f}, worst {min(values):.2f}",
                end="",
            )
        print()


if __name__ == "__main__":
    main()
