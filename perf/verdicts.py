"""How often is the verdict of `peerwatt regress` wrong, and how often does it see a drop?

    python perf/verdicts.py [--calls 3000] [--part NAME]

Simulated calls: every entry has welfare and four further metrics, whose paired differences are
drawn anew for each call and judged by the very functions that the command uses, at its default
alpha of 0.05. The unit is the standard deviation (SD) of a paired difference; the default margin
of 0.005 is 1.5 SD of the welfare of `ippo` on `pilot-v1`, with 10 seeds of 1M agent-steps.

Prints Markdown tables, each in about two minutes. Cells are shares with their standard errors; the
dearer a call, the fewer there are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import stats

from peerwatt.evaluation.verdict import ALPHA, Decision, SignFlips, Test, decide, sign_flip
from peerwatt.runs.regression.learners import METRICS, Settings
from peerwatt.runs.regression.looks import plan_looks

NARROW, MARGIN = 0.1, 1.5
WEIGHTS = [Settings().weight_of(name) for name in METRICS]
Draw = Callable[[np.random.Generator, int], np.ndarray]  # differences [n], 0 in the mean


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


def new_collapses(share: float, size: float) -> Draw:
    def draw(generator: np.random.Generator, n: int) -> np.ndarray:
        gone = generator.random(n) < share
        return size * (share - gone) + generator.normal(0, 0.3, n)

    return draw


UNCHANGED: dict[str, Draw] = {
    "normal": normal,
    "heavy tails (t, 3 degrees of freedom)": heavy,
    "skewed runs (exponential)": skewed,
    "collapses in 5 % of runs": collapsing,
}
CHANGED: dict[str, Draw] = {
    "normal": normal,
    "left-skewed (1 less an exponential)": lambda generator, n: 1 - generator.exponential(1, n),
    "left-skewed (less a lognormal)": lambda generator, n: (
        np.exp(0.5) - generator.lognormal(size=n)
    ),
    "20 % of the runs of NEW collapse": new_collapses(0.2, 5.0),
    "5 % of the runs of NEW collapse": new_collapses(0.05, 10.0),
}


def share(hits: Sequence[bool]) -> str:
    p = float(np.mean(hits))
    return f"{100 * p:.1f} ± {100 * (p * (1 - p) / len(hits)) ** 0.5:.1f} %"


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def head(*titles: str) -> str:
    return f"{row(*titles)}\n{'|---' * len(titles)}|"


def entries_of(
    generator: np.random.Generator, draw: Draw, entries: int, n: int, drop: float = 0.0
) -> list[np.ndarray]:
    """Return the differences of each test; the welfare of the first entry has dropped."""
    rows = [draw(generator, n) for _ in range(entries * len(METRICS))]
    rows[0] = rows[0] - drop
    return rows


def flips_of(rows: list[np.ndarray], generator: np.random.Generator) -> list[list[SignFlips]]:
    return [[sign_flip(differences, generator)] for differences in rows]


def judged(rows: Sequence[Sequence[SignFlips]], margin: float, looks: int = 1) -> list[Decision]:
    weights = WEIGHTS * (len(rows) // len(WEIGHTS))
    tests = [Test(tuple(seen), margin, w) for seen, w in zip(rows, weights, strict=True)]
    return decide(tests, alpha=ALPHA, looks=looks)


def regression(decisions: list[Decision]) -> bool:
    return any(decision.outcome == "regression" for decision in decisions)


def alarms(calls: int) -> Iterator[str]:
    """False alarms of a single call, at margins so narrow that they hide none."""
    yield head("nothing changed", "entries", "5 seeds", "10 seeds", "20 seeds")
    for name, draw in UNCHANGED.items():
        for entries in (1, 3) if draw is normal else (1,):
            cells = []
            for n in (5, 10, 20):
                generator = np.random.default_rng([n, entries, 1])
                times = calls if n < 20 else calls // 4
                rows = (entries_of(generator, draw, entries, n) for _ in range(times))
                cells.append(
                    share([regression(judged(flips_of(r, generator), NARROW)) for r in rows])
                )
            yield row(name, str(entries), *cells)


def power(calls: int) -> Iterator[str]:
    """Drops of welfare called a regression, by margin."""
    yield head("drop, 10 seeds", "margin", "1 entry", "2 entries", "5 entries", "10 entries")
    margins = (NARROW, 1.0, MARGIN)
    for name, drop in (
        ("1 SD of the paired difference", 1.0),
        ("1 SD between runs, uncorrelated (0.71 of the former)", 0.5**0.5),
        ("1.5 SD of the paired difference", 1.5),
        ("2 SD of the paired difference", 2.0),
    ):
        cells: dict[float, list[str]] = {margin: [] for margin in margins}
        for entries in (1, 2, 5, 10):
            generator = np.random.default_rng([entries, 2])
            hits: dict[float, list[bool]] = {margin: [] for margin in margins}
            for _ in range(calls if entries < 5 else calls // 3):
                flips = flips_of(entries_of(generator, normal, entries, 10, drop), generator)
                for margin in margins:
                    hits[margin].append(judged(flips, margin)[0].outcome == "regression")
            for margin in margins:
                cells[margin].append(share(hits[margin]))
        for margin in margins:
            yield row(name, f"{margin:g} SD", *cells[margin])
    # The best that is possible where runs do not correlate: the t test of 10 and 10 normal runs.
    best = stats.nct.sf(stats.t.ppf(1 - ALPHA, 18), 18, 5**0.5)
    yield ""
    yield (
        f"A two-sample t test at 5 % that knows the runs to be normal sees a drop of 1 SD between "
        f"uncorrelated runs, 10 + 10, in {100 * best:.1f} %."
    )


def no_worse(calls: int) -> Iterator[str]:
    """What welfare is called, with normal differences."""
    yield head("true drop of welfare", "margin", "seeds", "no worse", "regression", "undecided")
    for margin in (1.0, MARGIN):
        for name, drop in (("none", 0.0), ("half the margin", margin / 2), ("the margin", margin)):
            for n in (5, 10):
                generator = np.random.default_rng([n, 3])
                outcomes = []
                for _ in range(calls):
                    flips = flips_of(entries_of(generator, normal, 1, n, drop), generator)
                    outcomes.append(judged(flips, margin)[0].outcome)
                cells = [
                    share([outcome == which for outcome in outcomes])
                    for which in ("no worse", "regression", "undecided")
                ]
                yield row(name, f"{margin:g} SD", str(n), *cells)


def symmetry(calls: int) -> Iterator[str]:
    """Wrongly no worse: the truth is a drop by just the margin."""
    yield head("differences, when the drop is the margin", "5 seeds", "10 seeds", "20 seeds")
    for name, draw in CHANGED.items():
        cells = []
        for n in (5, 10, 20):
            generator = np.random.default_rng([n, 4])
            hits = [
                sign_flip(draw(generator, n) - MARGIN, generator).p_above(-MARGIN) <= ALPHA
                for _ in range(calls if n < 20 else calls // 2)
            ]
            cells.append(share(hits))
        yield row(name, *cells)


def collapses(calls: int) -> Iterator[str]:
    """What collapses of runs are called, by how many of NEW and of BASE do."""
    yield head(
        "runs that collapse, 10 seeds", "regression", "no worse", "undecided",
        "undecided, but the mean dropped beyond the margin",
    )  # fmt: skip
    for of_base, of_new in (
        *((0.0, 0.0), (0.0, 0.05), (0.0, 0.1), (0.0, 0.2), (0.0, 0.3), (0.0, 0.5)),
        *((0.05, 0.05), (0.2, 0.2)),
    ):
        generator = np.random.default_rng(5)
        decisions = []
        for _ in range(calls):
            rows = entries_of(generator, normal, 1, 10)
            rows[0] += 200.0 * (generator.random(10) < of_base)
            rows[0] -= 200.0 * (generator.random(10) < of_new)
            decisions.append(judged(flips_of(rows, generator), MARGIN)[0])
        open_ones = [decision.outcome == "undecided" for decision in decisions]
        beyond = [
            undecided and decision.estimate < -MARGIN
            for undecided, decision in zip(open_ones, decisions, strict=True)
        ]
        yield row(
            f"{100 * of_new:g} % of NEW, {100 * of_base:g} % of BASE",
            share([decision.outcome == "regression" for decision in decisions]),
            share([decision.outcome == "no worse" for decision in decisions]),
            share(open_ones),
            share(beyond),
        )


class Seen:
    """Tests of one comparison whose pairs become known little by little."""

    def __init__(self, rows: list[np.ndarray], generator: np.random.Generator) -> None:
        self.rows = rows
        self.generator = generator
        self.flips: dict[tuple[int, int], SignFlips] = {}

    def at(self, test: int, n: int) -> SignFlips:
        """Return the flips of the first `n` pairs, those of earlier if they were looked at."""
        if (test, n) not in self.flips:
            self.flips[test, n] = sign_flip(self.rows[test][:n], self.generator)
        return self.flips[test, n]


def until_decided(
    seen: Seen, margin: float, *, plain: Sequence[int] = (), most: int = 40
) -> tuple[str, int]:
    """Do as --until-decided does, after `plain` looks: return the verdict and the seeds used."""
    planned = plan_looks(10, most)
    entries = len(seen.rows) // len(METRICS)
    made = [1] * entries  # planned looks of each entry
    while True:
        decisions = judged(
            [
                [seen.at(i, n) for n in (*plain, *planned[: made[i // len(METRICS)]])]
                for i in range(len(seen.rows))
            ],
            margin,
            len(plain) + len(planned),
        )
        seeds = planned[max(made) - 1]
        if regression(decisions):
            return "regression", seeds
        welfare = [decision.outcome for decision in decisions[:: len(METRICS)]]
        wanting = [
            i for i in range(entries) if welfare[i] == "undecided" and made[i] < len(planned)
        ]
        if not wanting:
            done = all(outcome == "no worse" for outcome in welfare)
            return ("no worse" if done else "undecided"), seeds
        for i in wanting:
            made[i] += 1


def plain_calls(seen: Seen, margin: float, more: Callable[[int, int], int | None]) -> str:
    """Call without --until-decided, again with more seeds while it is undecided.

    Each look is counted, as the command does.

    Args:
        seen: one entry.
        margin: of all metrics.
        more: seeds so far and seeds asked for -> seeds of the next call, None if there is none.
    """
    looks = [10]
    while True:
        decisions = judged(
            [[seen.at(i, n) for n in looks] for i in range(len(seen.rows))], margin, len(looks)
        )
        if regression(decisions):
            return "regression"
        n = more(looks[-1], decisions[0].more)
        if decisions[0].outcome == "no worse" or n is None:
            return decisions[0].outcome
        looks.append(n)


def sequences(calls: int) -> Iterator[str]:
    """The whole procedure of --until-decided, with looks at 10, 20 and 40 seeds."""
    yield head(
        "entries", "margin", "true drop", "regression", "no worse", "undecided", "mean seeds"
    )
    for entries in (1, 3):
        for margin, drop in (
            *((NARROW, drop) for drop in (0.0, 1.0)),
            *((MARGIN, drop) for drop in (0.0, 0.75, 1.0, MARGIN, 2.0) if entries == 1),
        ):
            generator = np.random.default_rng([entries, 6])
            verdicts = [
                until_decided(
                    Seen(entries_of(generator, normal, entries, 40, drop), generator), margin
                )
                for _ in range(calls // (4 * entries))
            ]
            cells = [
                share([verdict == which for verdict, _ in verdicts])
                for which in ("regression", "no worse", "undecided")
            ]
            seeds = f"{np.mean([n for _, n in verdicts]):.0f}"
            yield row(str(entries), f"{margin:g} SD", f"{drop:g} SD", *cells, seeds)


def again(calls: int) -> Iterator[str]:
    """False alarms of one who looks again at the same seeds and more of them."""
    ladder = {10: 14, 14: 20, 20: 28, 28: 40}
    procedures: dict[str, Callable[[Seen], str]] = {
        "one plain call": lambda seen: plain_calls(seen, NARROW, lambda n, asked: None),
        "--until-decided from the start": lambda seen: until_decided(seen, NARROW)[0],
        "a plain call, then --until-decided": lambda seen: (
            "regression"
            if plain_calls(seen, NARROW, lambda n, asked: None) == "regression"
            else until_decided(seen, NARROW, plain=[10])[0]
        ),
        "plain calls at 10, 14, 20, 28 and 40 seeds": lambda seen: plain_calls(
            seen, NARROW, lambda n, asked: ladder.get(n)
        ),
        "plain calls, with the seeds added that the last one told, to 40": lambda seen: plain_calls(
            seen, NARROW, lambda n, asked: min(40, n + asked) if n < 40 else None
        ),
    }
    generator = np.random.default_rng(7)
    hits: dict[str, list[bool]] = {name: [] for name in procedures}
    for _ in range(calls // 2):
        seen = Seen(entries_of(generator, normal, 1, 40), generator)
        for name, procedure in procedures.items():
            hits[name].append(procedure(seen) == "regression")
    yield head("nothing changed, 1 entry, margin 0.1 SD", "regression at any look")
    for name, found in hits.items():
        yield row(name, share(found))


PARTS: dict[str, Callable[[int], Iterator[str]]] = {
    "alarms": alarms,
    "power": power,
    "no-worse": no_worse,
    "symmetry": symmetry,
    "collapses": collapses,
    "until-decided": sequences,
    "again": again,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--part", choices=PARTS, help="one table; by default all")
    options = parser.parse_args()
    for name in [options.part] if options.part else PARTS:
        print(f"\n### {name}: {PARTS[name].__doc__}\n", flush=True)
        for line in PARTS[name](options.calls):
            print(line, flush=True)


if __name__ == "__main__":
    main()
