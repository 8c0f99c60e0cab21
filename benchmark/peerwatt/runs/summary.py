"""Every published number, recomputed from the per-episode records.

A value is first computed per seed, from sums over all episodes, and then aggregated over the seeds:
the interquartile mean (IQM) with a 95 % bootstrap interval.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from peerwatt.evaluation.metrics import entry_score, welfare
from peerwatt.evaluation.statistics import RESAMPLES, Interval, bootstrap_iqm, ranks
from peerwatt.fairness.indices import gini, share_of_losers, worst_off
from peerwatt.runs.entries import Board, Entry
from peerwatt.runs.result import EpisodeMetrics, RunResult

CURVE_RESAMPLES = 2_000
"""Bootstrap resamples per point of a curve, of which only a picture is made."""


@dataclass(frozen=True)
class Measure:
    """One number per run: its name, how it is written, and what it means."""

    key: str
    title: str
    unit: Literal["scale", "score", "percent"]
    better: Literal["high", "low", "neither"]
    meaning: str

    @property
    def digits(self) -> int:
        """Digits after the point that seeds usually support."""
        return {"scale": 3, "score": 2, "percent": 1}[self.unit]


WELFARE = Measure(
    "welfare",
    "Welfare",
    "scale",
    "high",
    "Share of the possible gain that was won: community cost saved against grid-only, over what "
    "the perfect-foresight optimum saves. Grid-only is 0, the optimum is 1.",
)
SCORES = (
    Measure(
        "ftg",
        "FTG",
        "score",
        "high",
        "Fairness to grid: energy traded in the community over what could have been traded.",
    ),
    Measure(
        "fbs",
        "FBS",
        "score",
        "high",
        "Fairness between sellers: Jain index of the share of its surplus that each one sold.",
    ),
    Measure(
        "fpp",
        "FPP",
        "score",
        "high",
        "Fairness of pricing: 1 when all trades happen at the reference price of the task.",
    ),
    Measure(
        "ftb",
        "FTB",
        "score",
        "high",
        "Fairness to buyers: how much of their need they bought, and how far below retail.",
    ),
)
MEAN_SAVING = Measure(
    "mean_saving",
    "Mean saving",
    "percent",
    "high",
    "What all households save together, in per cent of their grid-only bills.",
)
WORST_OFF = Measure(
    "worst_off",
    "Worst-off saving",
    "percent",
    "high",
    "The least saving of any household over all episodes, in per cent of its own grid-only bill "
    "(households that the grid would pay have no such percentage).",
)
LOSERS = Measure(
    "losers",
    "Losers",
    "percent",
    "low",
    "Share of households that pay more over all episodes than they would have under grid-only.",
)
OPERATOR = Measure(
    "operator",
    "Operator revenue",
    "percent",
    "neither",
    "Change of the grid operator's revenue against grid-only.",
)
MARKET = Measure(
    "market_surplus",
    "Market maker",
    "percent",
    "neither",
    "What buyers paid less what sellers got, in per cent of the grid-only bills: the market maker "
    "keeps it, or pays it in where it is negative. 0 under a budget-balanced mechanism.",
)
GINI = Measure(
    "gini",
    "Gini of savings",
    "score",
    "low",
    "Inequality of the households' savings: 0 when all save the same; undefined without a gain.",
)
FEASIBLE = Measure(
    "feasible_share",
    "Slots with feasible trade",
    "score",
    "neither",
    "Share of slots in which some household had surplus and another a deficit.",
)
TABLE = (WELFARE, *SCORES, MEAN_SAVING, WORST_OFF, LOSERS, OPERATOR)
"""Columns of the table."""
MEASURES = (*TABLE, MARKET, GINI, FEASIBLE)
"""All that is aggregated and exported."""
FAIRNESS = (*SCORES, WORST_OFF)
"""Choices for the fairness axis of the scatter."""
SHOWN_RECORDS = {m.key for m in MEASURES} | {
    "feasible_kwh",
    "fbs_kwh",
    "operator_revenue",
    "operator_revenue_grid",
}
"""Recorded metrics that are on the page already, in some form."""


@dataclass(frozen=True)
class Summary:
    """One measure of one entry: per seed and over the seeds."""

    seeds: tuple[float | None, ...]
    interval: Interval | None
    """Missing where no seed has the measure; NaN bounds with fewer than MIN_RUNS seeds."""


@dataclass(frozen=True)
class CurveBand:
    """A learning curve over the seeds: interquartile mean and interval at each step."""

    steps: tuple[float, ...]
    intervals: tuple[Interval, ...]


@dataclass(frozen=True)
class Row:
    """One entry with all its numbers."""

    entry: Entry
    rank: int | None
    summaries: Mapping[str, Summary]
    curve: CurveBand | None
    others: Mapping[str, float | None]
    """Further recorded metrics: mean over episodes and seeds."""

    def interval(self, measure: Measure) -> Interval | None:
        """Return the interval of `measure`, or nothing where it is undefined."""
        return self.summaries[measure.key].interval


def rows_of(board: Board) -> list[Row]:
    """Compute the rows of a board, best first."""
    summaries = [_summaries(entry) for entry in board.entries]
    # By place and not by label, which depends on who else is there.
    seeds = {
        f"{place:09}": np.array([x for x in summary["welfare"].seeds if x is not None])
        for place, summary in enumerate(summaries)
        if summary["welfare"].interval is not None
    }
    places = ranks(seeds, np.random.default_rng(0))
    rows = [
        Row(
            entry=entry,
            rank=places.get(f"{place:09}"),
            summaries=summary,
            curve=_curve(entry),
            others=_others(entry),
        )
        for place, (entry, summary) in enumerate(zip(board.entries, summaries, strict=True))
    ]
    return sorted(rows, key=order)


def columns(rows: Sequence[Row]) -> tuple[Measure, ...]:
    """Return the measures of a table of `rows`: the market maker's only if he is not idle."""
    balances = (row.interval(MARKET) for row in rows)
    idle = all(balance is None or balance.estimate == 0.0 for balance in balances)
    return TABLE if idle else (*TABLE, MARKET)


def run_values(result: RunResult) -> dict[str, float | None]:
    """Compute the measures of one run from its episodes; None where one is undefined."""
    test = result.test
    values: dict[str, float | None] = {
        "welfare": welfare(test.cost, test.grid_cost, test.oracle_cost)
    }
    for score in SCORES:
        values[score.key] = entry_score(test.metrics, score.key)
    savings = np.asarray(test.savings, dtype=np.float64).sum(axis=0)
    bills = np.asarray(test.grid_bills, dtype=np.float64).sum(axis=0)
    scale = float(np.abs(bills).sum())
    values["mean_saving"] = _ratio(float(savings.sum()), float(bills.sum()), 100.0)
    paying = bills > 1e-9 * scale
    values["worst_off"] = (
        float(worst_off(savings[paying] / bills[paying]) * 100.0) if paying.any() else None
    )
    # Sums of rounded money: a saving within rounding of zero is none, not a loss.
    exact = np.where(np.abs(savings) <= 1e-9 * scale, 0.0, savings)
    values["losers"] = float(share_of_losers(exact) * 100.0)
    inequality = float(gini(savings))
    values["gini"] = inequality if math.isfinite(inequality) else None
    # What the grid charges the community is what its operator takes.
    grid = math.fsum(test.grid_cost)
    values["operator"] = _ratio(math.fsum(test.cost) - grid, grid, 100.0)
    values["market_surplus"] = _ratio(math.fsum(_defined(test, "market_surplus")), grid, 100.0)
    values["feasible_share"] = _plain_mean(test, "feasible_share")
    return values


def _summaries(entry: Entry) -> dict[str, Summary]:
    """Aggregate every measure of an entry over its seeds."""
    per_seed = [run_values(result) for result in entry.results]
    summaries = {}
    for measure in MEASURES:
        seeds = tuple(values[measure.key] for values in per_seed)
        defined = [value for value in seeds if value is not None]
        interval = _interval(defined, f"{entry.first.config_hash}/{measure.key}")
        summaries[measure.key] = Summary(seeds=seeds, interval=interval)
    return summaries


def _interval(values: Sequence[float], key: str, resamples: int = RESAMPLES) -> Interval | None:
    """Bootstrap `values` with a generator that depends on `key` alone: same input, same page."""
    if not values:
        return None
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    generator = np.random.default_rng(seed)
    return bootstrap_iqm(np.asarray(values, dtype=np.float64), generator, resamples=resamples)


def _curve(entry: Entry, most: int = 100) -> CurveBand | None:
    """Aggregate the learning curves of the seeds, linear between two validations."""
    curves = []
    for result in entry.results:
        points = {
            float(point.agent_steps): point.welfare
            for point in result.curve
            if point.welfare is not None
        }
        if points:
            steps = np.array(sorted(points))
            curves.append((steps, np.array([points[step] for step in steps])))
    if not curves:
        return None
    start = max(steps[0] for steps, _ in curves)
    stop = min(steps[-1] for steps, _ in curves)
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= start) & (grid <= stop)]
    if grid.size == 0:
        return None
    if grid.size > most:
        grid = grid[np.unique(np.linspace(0, grid.size - 1, most).astype(int))]
    values = np.stack([np.interp(grid, steps, welfare) for steps, welfare in curves])
    key = f"{entry.first.config_hash}/curve"
    intervals = []
    for index in range(grid.size):
        interval = _interval(list(values[:, index]), key, CURVE_RESAMPLES)
        assert interval is not None  # every curve has a value at every step
        intervals.append(interval)
    return CurveBand(steps=tuple(float(step) for step in grid), intervals=tuple(intervals))


def _others(entry: Entry) -> dict[str, float | None]:
    """Average the recorded metrics that the table does not show."""
    names = sorted({name for result in entry.results for name in result.test.metrics})
    means: dict[str, float | None] = {}
    for name in names:
        if name not in SHOWN_RECORDS:
            values = [_plain_mean(result.test, name) for result in entry.results]
            defined = [value for value in values if value is not None]
            means[name] = float(np.mean(defined)) if defined else None
    return means


def order(row: Row) -> tuple[float, float, str]:
    """Return what sorts rows by rank, then by welfare; the unranked come last."""
    interval = row.interval(WELFARE)
    return (
        math.inf if row.rank is None else row.rank,
        math.inf if interval is None else -interval.estimate,
        row.entry.label,
    )


def _defined(test: EpisodeMetrics, name: str) -> list[float]:
    """Return the defined values of a metric; none where it was not recorded."""
    return [value for value in test.metrics.get(name, []) if value is not None]


def _plain_mean(test: EpisodeMetrics, name: str) -> float | None:
    """Average a metric over its defined episodes."""
    values = _defined(test, name)
    return math.fsum(values) / len(values) if values else None


def _ratio(above: float, below: float, scale: float = 1.0) -> float | None:
    """Divide, or return nothing where the divisor is not positive."""
    return scale * above / below if below > 0.0 else None


def written(value: float | None, measure: Measure, *, signed: bool = False) -> str:
    """Write a value as the page shows it; "–" where it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    digits = measure.digits
    value = round(value, digits) + 0.0  # no negative zero
    text = f"{value:+.{digits}f}" if signed and value else f"{value:.{digits}f}"
    return text.replace("-", "−")
