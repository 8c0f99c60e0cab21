"""Speed of the environment under each mechanism, a stranger's too, against the double auction.

    python perf/mechanisms.py [--repeats 15]

64 communities of 20 households, all with battery, as in `environment.py`: million agent-steps per
CPU second, medians of thread CPU time. The kernels have the double auction `cda` inlined and call
every other mechanism through a pointer. So do they with the two at the end, which are nobody's
plugin: plain Python functions, as a stranger writes them. One is the double auction itself, which
shows what the call costs; the other trades at the middle, first come, first served. Repeats are
interleaved, so that a busy machine hits all alike, and the ratio is taken repeat by repeat
(median, lowest, highest). A mechanism that trades less, or computes more, has its own cost: ratios
compare whole environments.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
from card import synthetic_task
from environment import Row, vector_row

from peerwatt.community import Task
from peerwatt.market.kernels import double_auction
from peerwatt.plugins.loader import load_mechanism, registry


def middle(order, level, ticks, arrival, parameters, traded, payment, scratch):
    """Trade at the middle of the band, first come, first served."""
    price = (ticks[0] + ticks[ticks.size - 1]) // 2
    supply = 0
    demand = 0
    for i in range(order.size):
        supply += max(order[i], 0)
        demand += max(-order[i], 0)
    volume = min(supply, demand)
    to_sell = volume
    to_buy = volume
    for i in arrival:
        traded[i] = min(order[i], to_sell) if order[i] > 0 else max(order[i], -to_buy)
        to_sell -= max(traded[i], 0)
        to_buy += min(traded[i], 0)
        payment[i] = traded[i] * price
    return volume, volume * price, volume * price * price


@dataclass(frozen=True)
class StrangersMiddle:
    """`middle` as a mechanism."""

    properties = frozenset({"budget-balanced", "individually-rational", "uniform-price"})
    clear = staticmethod(middle)

    def parameters(self) -> tuple[float, ...]:
        """Return no parameters."""
        return ()


@dataclass(frozen=True)
class StrangersDoubleAuction(StrangersMiddle):
    """The double auction, not inlined."""

    properties = frozenset({"budget-balanced", "respects-limits"})
    clear = staticmethod(double_auction.py_func)


def rows(task: Task) -> list[Row]:
    names = sorted(registry()["mechanism"], key=lambda name: (name != "cda", name))
    rules = {name: load_mechanism(name) for name in names}
    rules |= {
        "a stranger's double auction": StrangersDoubleAuction(),
        "a stranger's middle price": StrangersMiddle(),
    }
    return [vector_row(name, None, task, 64, mechanism=rule) for name, rule in rules.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}; "
        f"64 x 20, all with battery; median of {options.repeats}, million agent-steps per CPU "
        "second\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        table = rows(synthetic_task(Path(folder)))
        for _ in range(options.repeats):
            for row in table:
                row.measure()
    print(f"{'':30s}{'median':>8s}{'/ cda':>8s}{'lowest':>8s}{'highest':>9s}")
    for row in table:
        ratios = [a / b for a, b in zip(row.rates, table[0].rates, strict=True)]
        print(
            f"{row.name:30s}{statistics.median(row.rates):8.2f}{statistics.median(ratios):8.2f}"
            f"{min(ratios):8.2f}{max(ratios):9.2f}"
        )


if __name__ == "__main__":
    main()
