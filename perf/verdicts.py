"""How often is the verdict of `peerwatt regress` wrong, and how often does it see a drop?

    python perf/verdicts.py [--calls 2000]

Simulated calls: every entry has welfare and four further metrics, whose paired differences are
drawn anew for each call and judged by the very functions that the command uses, at its default
alpha of 0.05. The unit is the standard deviation (SD) of a paired difference. The margins are 0.1
where drops are counted, lest a wide margin hide false alarms, and 1.25 where it is asked how often
the same is called no worse (0.005 was 1.5 SD of the welfare of `ippo` on `pilot-v1`, with 10 seeds
of 1M agent-steps).
Prints Markdown tables; each share has a standard error of at most sqrt(p (1 - p) / calls).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from peerwatt.evaluation.verdict import ALPHA, Decision, SignFlips, Test, decide, sign_flip
from peerwatt.runs.regression.learners import METRICS, PRIMARY_WEIGHT
from peerwatt.runs.regression.looks import plan_looks

MARGIN, NARROW = 1.25, 0.1
WEIGHTS = [PRIMARY_WEIGHT, *[(1 - PRIMARY_WEIGHT) / (len(METRICS) - 1)] * (len(METRICS) - 1)]
Draw = Callable[[np.random.Generator, int], np.ndarray]  # differences [n] without any drop


def normal(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.normal(0, 1, n)


def heavy(generator: np.random.Generator, n: int) -> np.ndarray:
    return generator.standard_t(3, n) / 3**0.5


def skewed(generator: np.random.Generator, n: int) -> np.ndarray:
    """Differences of two runs that are each 1 less something exponential."""
    return (generator.exponential(1, n) - generator.exponential(1, n)) / 2**0.5


def collapsing(generator: np.random.Generator, n: int) -> np.ndarray:
    """Either run collapses, by 10 SD, in 5 % of the seeds."""
    gone = generator.random((2, n)) < 0.05
    return generator.normal(0, 1, n) + 10.0 * (gone[0].astype(float) - gone[1])


DRAWS: dict[str, Draw] = {
    "normal": normal,
    "heavy tails (t, 3 degrees of freedom)": heavy,
    "skewed runs (exponential)": skewed,
    "collapses in 5 % of runs": collapsing,
}


def share(hits: int, calls: int) -> str:
    return f"{100 * hits / calls:.1f} %"


def flips_of(
    generator: np.random.Generator, draw: Draw, entries: int, n: int, drop: float
) -> list[np.ndarray]:
    """Return the differences of each test; the welfare of the first entry has dropped."""
    rows = [draw(generator, n) for _ in range(entries * len(METRICS))]
    rows[0] = rows[0] - drop
    return rows


def judged(rows: list[list[SignFlips]], margin: float, looks: int = 1) -> list[Decision]:
    weights = WEIGHTS * (len(rows) // len(WEIGHTS))
    tests = [Test(tuple(row), margin, weight) for row, weight in zip(rows, weights, strict=True)]
    return decide(tests, alpha=ALPHA, looks=looks)


def once(
    generator: np.random.Generator, draw: Draw, entries: int, n: int, drop: float, margin: float
) -> list[Decision]:
    rows = flips_of(generator, draw, entries, n, drop)
    return judged([[sign_flip(row, generator)] for row in rows], margin)


def regression(decisions: list[Decision]) -> bool:
    return any(decision.outcome == "regression" for decision in decisions)


def sequential(
    generator: np.random.Generator, entries: int, drop: float, margin: float, most: int = 40
) -> tuple[str, int]:
    """Do as --until-decided does: return the overall verdict and the seeds used."""
    looks = plan_looks(10, most)
    rows = flips_of(generator, normal, entries, most, drop)
    seen: list[list[SignFlips]] = [[] for _ in rows]
    sizes = [0] * entries  # looks made of each entry
    open_entries = set(range(entries))
    while True:
        for entry in open_entries:
            for i in range(entry * len(METRICS), (entry + 1) * len(METRICS)):
                seen[i].append(sign_flip(rows[i][: looks[sizes[entry]]], generator))
            sizes[entry] += 1
        decisions = judged(seen, margin, len(looks))
        seeds = looks[max(sizes) - 1]
        if regression(decisions):
            return "regression", seeds
        open_entries = {
            entry
            for entry in range(entries)
            if decisions[entry * len(METRICS)].outcome == "undecided" and sizes[entry] < len(looks)
        }
        if not open_entries:
            done = all(d.outcome == "no worse" for d in decisions[:: len(METRICS)])
            return ("no worse" if done else "undecided"), seeds


def follows_advice(generator: np.random.Generator, drop: float, most: int = 40) -> str:
    """Add the seeds that an undecided verdict asks for and call again, without --until-decided."""
    rows = flips_of(generator, normal, 1, most, drop)
    n = 10
    while True:
        decisions = judged([[sign_flip(row[:n], generator)] for row in rows], NARROW)
        if regression(decisions):
            return "regression"
        if decisions[0].outcome == "no worse" or n == most:
            return decisions[0].outcome
        n = min(most, n + decisions[0].more)


def false_alarms(calls: int) -> Iterator[str]:
    yield "| nothing changed | 5 seeds | 10 seeds | 20 seeds |\n|---|---|---|---|"
    for name, draw in DRAWS.items():
        cells = []
        for n in (5, 10, 20):
            generator = np.random.default_rng([n, 1])
            hits = sum(regression(once(generator, draw, 1, n, 0.0, NARROW)) for _ in range(calls))
            cells.append(share(hits, calls))
        yield f"| {name} | {' | '.join(cells)} |"


def power(calls: int) -> Iterator[str]:
    yield "| drop of welfare, 10 seeds | 1 entry | 2 entries | 5 entries | 10 entries |"
    yield "|---|---|---|---|---|"
    for name, drop in (
        ("1 SD of the paired difference", 1.0),
        ("1 SD between runs, uncorrelated (0.71 of the former)", 0.5**0.5),
        ("1.5 SD of the paired difference", 1.5),
        ("2 SD of the paired difference", 2.0),
    ):
        cells = []
        for entries in (1, 2, 5, 10):
            generator = np.random.default_rng([entries, 2])
            times = calls if entries < 5 else calls // 2
            hits = sum(
                once(generator, normal, entries, 10, drop, NARROW)[0].outcome == "regression"
                for _ in range(times)
            )
            cells.append(share(hits, times))
        yield f"| {name} | {' | '.join(cells)} |"
    # The best that is possible where runs do not correlate: the t test of 10 and 10 normal runs.
    best = stats.nct.sf(stats.t.ppf(1 - ALPHA, 18), 18, 5**0.5)
    yield ""
    yield (
        f"A two-sample t test at 5 % that knows the runs to be normal sees a drop of 1 SD between "
        f"uncorrelated runs, 10 + 10, in {100 * best:.1f} %."
    )


def no_worse(calls: int) -> Iterator[str]:
    yield "| true change of welfare (margin 1.25 SD) | 5 seeds | 10 seeds |\n|---|---|---|"
    for name, drop in (
        ("none: called no worse", 0.0),
        ("drop by half the margin: called no worse", MARGIN / 2),
        ("drop by the margin: called no worse, wrongly", MARGIN),
    ):
        cells = []
        for n in (5, 10):
            generator = np.random.default_rng([n, 3])
            hits = sum(
                once(generator, normal, 1, n, drop, MARGIN)[0].outcome == "no worse"
                for _ in range(calls)
            )
            cells.append(share(hits, calls))
        yield f"| {name} | {' | '.join(cells)} |"


def sequences(calls: int) -> Iterator[str]:
    yield "| --until-decided, looks at 10, 20 and 40 seeds | regression | no worse | undecided | "
    yield "mean seeds |\n|---|---|---|---|---|"
    for entries in (1, 3):
        for margin, drop in (
            *((NARROW, drop) for drop in (0.0, 1.0)),
            *((MARGIN, drop) for drop in (0.0, 0.5, 1.0, MARGIN)),
        ):
            generator = np.random.default_rng([entries, 4])
            times = calls // 4
            verdicts = [sequential(generator, entries, drop, margin) for _ in range(times)]
            counts = [
                share(sum(v == name for v, _ in verdicts), times)
                for name in ("regression", "no worse", "undecided")
            ]
            seeds = np.mean([n for _, n in verdicts])
            counted = "1 entry" if entries == 1 else f"{entries} entries"
            name = f"{counted}, margin {margin:g}, drop {drop:g} SD"
            yield f"| {name} | {' | '.join(counts)} | {seeds:.0f} |"
    yield ""
    yield "| calling again after adding what is asked for, to 40 seeds | regression |\n|---|---|"
    generator = np.random.default_rng(5)
    hits = sum(follows_advice(generator, 0.0) == "regression" for _ in range(calls // 2))
    yield f"| nothing changed, 1 entry | {share(hits, calls // 2)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=2_000)
    calls = parser.parse_args().calls
    for title, table in (
        ("False alarms", false_alarms),
        ("Power", power),
        ("No worse", no_worse),
        ("Sequences", sequences),
    ):
        print(f"\n### {title}\n")
        for line in table(calls):
            print(line, end="" if line.endswith("undecided | ") else "\n", flush=True)


if __name__ == "__main__":
    main()
