"""How often the 95 % intervals of `peerwatt.evaluation.statistics` cover the truth.

    python perf/intervals.py [--samples 500] [--resamples 1000] [--tasks 1 4] [--runs 5 10 20 30]

Scores are drawn from distributions of which the truth is known, again and again, and the functions
that publish our numbers are called on them. `normal`; `skewed`, an exponential; `collapse`, bounded
to [0, 1], where one run in five fails; `ties`, a normal one rounded to whole numbers. With four
tasks, each lies elsewhere. Runs of the second entry are drawn from the same distribution, moved; in
`P (high)` by more. `profile` is one point of the band, at the median and at the 0.8 quantile.

Printed is the coverage in per cent, `-` behind it where it is below 93 and `+` where above 97. Its
standard error is 1.0 with 500 samples. Takes about four minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from peerwatt.evaluation.statistics import (
    bootstrap_difference,
    bootstrap_iqm,
    iqm,
    optimality_gap,
    paired_difference,
    performance_profile,
    probability_of_improvement,
)

LOW, HIGH = 93.0, 97.0
MANY = 2_000_000  # draws that stand for the truth
ROUNDING = 1e-9
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def collapse(generator: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    fails = generator.random(shape) < 0.2
    centre = np.where(fails, 0.1, 0.7)
    return np.clip(generator.normal(centre, 0.05), 0.0, 1.0)


@dataclass(frozen=True)
class Source:
    """A distribution of scores, and how far tasks and entries lie apart on its scale."""

    draw: Draw
    scale: float

    def entry(self, generator: np.random.Generator, runs: int, tasks: int) -> np.ndarray:
        """Return scores [R, T]."""
        return self.draw(generator, (runs, tasks)) + 0.5 * self.scale * np.arange(tasks)


SOURCES = {
    "normal": Source(lambda g, shape: g.normal(size=shape), 1.0),
    "skewed": Source(lambda g, shape: g.exponential(size=shape), 1.0),
    "collapse": Source(collapse, 0.1),
    "ties": Source(lambda g, shape: np.round(1.5 * g.normal(size=shape)), 1.5),
}
MOVES = {"P": 1.0, "P (high)": 2.2}


class Truths:
    """What the statistics of a source would be with endless runs."""

    def __init__(self, source: Source, tasks: int) -> None:
        generator = np.random.default_rng([1, tasks])
        first, second = (source.entry(generator, MANY // tasks, tasks) for _ in range(2))
        self.iqm = iqm(first)
        self.mean = float(first.mean())
        self.median, self.upper, self.target = np.quantile(first, [0.5, 0.8, 0.7])
        self.gap = float(np.maximum(self.target - first, 0).mean())
        self.above = {level: float((first > level).mean()) for level in (self.median, self.upper)}
        self.beats = {
            name: float(
                np.mean(
                    [
                        np.searchsorted(np.sort(b), a + move * source.scale, side).mean() / len(b)
                        for a, b in zip(first.T, second.T, strict=True)
                        for side in ("left", "right")
                    ]
                )
            )
            for name, move in MOVES.items()
        }


def intervals(
    source: Source, truth: Truths, runs: int, tasks: int, resamples: int, sample: int
) -> Iterator[tuple[str, float, float, float]]:
    """Yield name, truth and bounds of every interval of one sample."""
    generator = np.random.default_rng([sample, runs, tasks])
    a, b, shared = (source.entry(generator, runs, tasks) for _ in range(3))
    options = {"resamples": resamples}
    yield "IQM", truth.iqm, *bootstrap_iqm(a, generator, **options)[1:]
    gap = optimality_gap(a, generator, target=float(truth.target), **options)
    yield "optimality gap", truth.gap, *gap[1:]
    pairs = paired_difference(shared + a, shared, generator, **options)
    yield "paired difference", truth.mean, *pairs[1:]
    difference = bootstrap_difference(a + source.scale, b, generator, **options)
    yield "difference of IQMs", source.scale, *difference[1:]
    for name, move in MOVES.items():
        chance = probability_of_improvement(a + move * source.scale, b)
        yield name, truth.beats[name], *chance[1:]
    _, _, low, high = performance_profile(a, list(truth.above))
    for k, (name, share) in enumerate(
        zip(("profile, median", "profile, 0.8"), truth.above.values(), strict=True)
    ):
        yield name, share, low[k], high[k]


def coverage(
    source: Source, truth: Truths, runs: int, tasks: int, samples: int, resamples: int
) -> dict[str, float]:
    """Return the coverage of each statistic in per cent."""
    covered: dict[str, int] = {}
    for sample in range(samples):
        for name, value, low, high in intervals(source, truth, runs, tasks, resamples, sample):
            hit = low - ROUNDING <= value <= high + ROUNDING
            covered[name] = covered.get(name, 0) + hit
    return {name: 100 * hits / samples for name, hits in covered.items()}


def written(share: float) -> str:
    return f"{share:8.1f}{'-' if share < LOW else '+' if share > HIGH else ' '}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1_000)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--runs", type=int, nargs="+", default=[5, 10, 20, 30])
    options = parser.parse_args()
    began = time.process_time()
    inside = cells = 0
    for tasks in options.tasks:
        for name, source in SOURCES.items():
            truth = Truths(source, tasks)
            columns = [
                coverage(source, truth, runs, tasks, options.samples, options.resamples)
                for runs in options.runs
            ]
            print(f"\n{name}, {tasks} task{'s' if tasks > 1 else ''}", flush=True)
            print(f"{'':22s}" + "".join(f"{f'R = {runs}':>8s} " for runs in options.runs))
            for statistic in columns[0]:
                row = [column[statistic] for column in columns]
                inside += sum(LOW <= share <= HIGH for share in row)
                cells += len(row)
                print(f"{statistic:22s}" + "".join(map(written, row)), flush=True)
    print(
        f"\n{inside} of {cells} within {LOW:.0f} .. {HIGH:.0f} %; {options.samples} samples, "
        f"standard error {(95 * 5 / options.samples) ** 0.5:.1f}; "
        f"{time.process_time() - began:.0f} s of CPU"
    )


if __name__ == "__main__":
    main()
