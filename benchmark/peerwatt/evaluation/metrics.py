"""Metrics of played episodes: closed formulas on the kernel's records.

`welfare` and `entry_score` turn the episodes of a run into one number. They read plain sequences,
so that a stored result and an evaluation in memory are scored by the same lines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from peerwatt.community import Task
from peerwatt.env import Slot
from peerwatt.env.records import slot_batch
from peerwatt.fairness import qoe
from peerwatt.fairness.scores import feasible, score_slots
from peerwatt.market.units import QUANTA_PER_KWH

Floats = NDArray[np.float64]

METRICS = {
    "ftg": "fairness to grid: traded / tradable energy",
    "fbs": "fairness between sellers: Jain index of fill rates",
    "fbs_kwh": "tradable energy in the slots where FBS is defined (several sellers), kWh",
    "fpp": "fairness of pricing: closeness and tightness of prices around the reference",
    "ftb": "fairness to buyers: fill times the buyer's share of the price band",
    "feasible_share": "share of slots in which trade was feasible",
    "feasible_kwh": "tradable energy, sum over slots of min(surplus, deficit), kWh",
    "volume_kwh": "energy traded inside the community, kWh",
    "p2p_ratio": "traded / (traded + imported + exported)",
    "mean_price": "volume-weighted mean trade price, money per kWh",
    "price_qoe": "QoE fairness of the prices that the households met (Hossfeld)",
    "self_consumption": "1 - exported / generated, trade counts as inside",
    "self_sufficiency": "1 - imported / load, trade counts as inside",
    "peak_import_kw": "mean over days of the highest community import, kW",
    "battery_cycles": "discharged energy / capacity of all batteries",
    "stored_at_end_kwh": "energy left in the batteries at the end, worth nothing, kWh",
    "operator_revenue": "retail x import - feed-in x export, money",
    "operator_revenue_grid": "the same under grid-only, money",
    "market_surplus": "what buyers paid less what sellers got, kept by the market maker, or "
    "paid in where negative, money",
    "losers": "share of households that paid more than under grid-only",
}
"""Name -> meaning. Scores of slots are averaged with weight min(surplus, deficit); the sum of these
weights is `feasible_kwh`, and `fbs_kwh` for FBS, which needs several sellers."""

NOTHING_TO_WIN = 1e-9
"""Share of the grid-only bills up to which a possible gain is the solver's rounding."""

Values = Sequence[float | None] | Floats


def welfare(cost: Values, grid_cost: Values, oracle_cost: Values) -> float | None:
    """Return the share of the possible saving that was realised: 0 is grid-only, 1 the optimum.

    A ratio of sums over the episodes, so that an episode with little to win counts little. None
    where nothing can be won, or where a cost is missing.
    """
    costs = [[_number(x) for x in values] for values in (cost, grid_cost, oracle_cost)]
    paid, grid, least = map(math.fsum, costs)
    possible = grid - least
    # A comparison with NaN is false, so a missing cost ends here too.
    if not possible > NOTHING_TO_WIN * math.fsum(map(abs, costs[1])) or math.isnan(paid):
        return None
    return (grid - paid) / possible


def entry_score(metrics: Mapping[str, Values], name: str) -> float | None:
    """Return fairness score `name` over all episodes: its mean over slots by tradable kWh.

    An episode weighs as much as its slots in which the score is defined: `<name>_kwh` if recorded,
    else `feasible_kwh`; if neither is, all weigh the same. Episodes without the score are left
    out; None if all are, or if the score was not recorded.
    """
    if name not in metrics:
        return None
    values = metrics[name]
    alike = [1.0] * len(values)
    weights = metrics.get(f"{name}_kwh", metrics.get("feasible_kwh", alike))
    pairs = [(_number(v), _number(w)) for v, w in zip(values, weights, strict=True)]
    pairs = [(value, weight) for value, weight in pairs if not math.isnan(value) and weight > 0]
    total = math.fsum(weight for _, weight in pairs)
    return math.fsum(value * weight for value, weight in pairs) / total if total > 0 else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def episode_metrics(
    task: Task, ticks: NDArray[np.int64], record: Slot, episodes: int
) -> dict[str, Floats]:
    """Return every metric of `METRICS` as [E]; NaN where it is undefined.

    Args:
        task: the task that was played.
        ticks: [P * K] its price grids.
        record: slots flat over [T, E, N].
        episodes: number of episodes E.
    """
    n = task.community.size
    shape = (task.horizon, episodes, n)
    kwh = 1.0 / QUANTA_PER_KWH
    slots = slot_batch(task, ticks, record)
    weight = feasible(slots).reshape(shape[:2])
    out: dict[str, Floats] = {}
    for name, values in zip(score_slots(slots)._fields, score_slots(slots), strict=True):
        score = values.reshape(shape[:2])
        mass = np.where(np.isnan(score), 0.0, weight)
        out[name] = _ratio(np.nansum(score * mass, axis=0), mass.sum(axis=0))
        if name == "fbs":
            out["fbs_kwh"] = mass.sum(axis=0)
    out["feasible_share"] = (weight > 0).mean(axis=0)
    out["feasible_kwh"] = weight.sum(axis=0)

    rest = (record.position - record.traded).reshape(shape)
    imported = np.maximum(-rest, 0).sum(axis=(0, 2)) * kwh
    exported = np.maximum(rest, 0).sum(axis=(0, 2)) * kwh
    load = record.load.reshape(shape).sum(axis=(0, 2)) * kwh
    pv = record.pv.reshape(shape).sum(axis=(0, 2)) * kwh
    moments = record.moments.reshape(*shape[:2], 3).sum(axis=0)
    volume = moments[:, 0] * kwh
    out["volume_kwh"] = volume
    out["p2p_ratio"] = _ratio(volume, volume + imported + exported)
    out["mean_price"] = _ratio(moments[:, 1] * task.money_unit, volume)
    out["price_qoe"] = _price_qoe(task, ticks, record, episodes)
    out["self_consumption"] = 1.0 - _ratio(exported, pv)
    out["self_sufficiency"] = 1.0 - _ratio(imported, load)
    community_import = np.maximum(-rest.sum(axis=2), 0) * kwh * 60 / task.card.episode.slot_minutes
    daily = community_import.reshape(-1, task.slots_per_day, episodes).max(axis=1)
    out["peak_import_kw"] = daily.mean(axis=0)
    capacity = np.full(episodes, task.community.capacity.sum() * kwh)
    discharged = record.discharge.reshape(shape).sum(axis=(0, 2)) * kwh
    out["battery_cycles"] = _ratio(discharged, capacity)
    out["stored_at_end_kwh"] = record.stored.reshape(shape).sum(axis=(0, 2)) * kwh
    cost = record.cost.reshape(shape).sum(axis=0)
    grid_cost = record.grid_cost.reshape(shape).sum(axis=0)
    # What the households pay is what grid and market maker take.
    surplus = -record.payment.reshape(shape).sum(axis=(0, 2))
    out["market_surplus"] = surplus * task.money_unit
    out["operator_revenue"] = (cost.sum(axis=1) - surplus) * task.money_unit
    out["operator_revenue_grid"] = grid_cost.sum(axis=1) * task.money_unit
    out["losers"] = (cost > grid_cost).mean(axis=1)
    return out


def _price_qoe(task: Task, ticks: NDArray[np.int64], record: Slot, episodes: int) -> Floats:
    """Return [E]: QoE of the mean place in [feed-in, retail] at which each household traded."""
    n = task.community.size
    shape = (task.horizon, episodes, n)
    grids = ticks.reshape(-1, task.card.market.price_levels)[record.tariff]
    feed_in = np.repeat(grids[:, 0], n)
    spread = np.repeat(grids[:, -1] - grids[:, 0], n)
    place = np.abs(record.payment) - np.abs(record.traded) * feed_in
    # A mechanism that is not individually rational may price outside the band: that is its end.
    place = np.clip(place, 0, np.abs(record.traded) * spread)
    quantity = np.abs(record.traded).reshape(shape).sum(axis=0).astype(float)
    mean = _ratio((place / spread).reshape(shape).sum(axis=0), quantity)
    known = [row[np.isfinite(row)] for row in mean]
    return np.array([qoe(row, 0.0, 1.0) if row.size else np.nan for row in known])
