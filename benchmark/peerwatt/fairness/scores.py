"""Closed forms of the four fairness scores of a cleared slot.

With surplus S, deficit D, community volume Q, mean trade price p, its volume-weighted standard
deviation s, feed-in f, retail r and reference price p*:

- FTG, fairness to grid: ``Q / min(S, D)``, the share of the feasible trade that happened.
- FBS, fairness between sellers: Jain's index of the fill rates sold / surplus over *every*
  household that had surplus, so a seller who was shut out counts. A monopoly has nobody to be
  compared with: undefined.
- FPP, fairness of pricing: ``clip(1 - |p - p*| / h - s / h, 0, 1)`` with ``h = (r - f) / 2``.
- FTB, fairness to buyers: mean over every household with a deficit of
  ``bought / deficit x (1 - (paid / bought - f) / (r - f))``.

Surplus and deficit are what physically existed after the battery, not what was quoted. So this is
what the scores see of households that withhold, that is, quote less than they have or need:

- FTG and FTB see it: what could have been traded and was not counts as missing, whoever withheld
  it. All else unchanged, a kWh less lowers FTG, and FTB too unless it would have cost the retail
  price. To withhold what neighbours then trade instead costs no trade and leaves FTG as it was.
- FBS compares the fills that came about. A seller who withholds alone looks like one who was shut
  out, which lowers it where she would have sold as large a share as the others; where all sellers
  withhold the same share, FBS stays as it was.
- FPP judges the prices of the trades that happened, and sees withholding only where nothing at all
  was traded.

So FBS and FPP do not tell how much was traded: read them beside FTG.

Where no trade was feasible (``min(S, D) = 0``) every score is NaN; where trade was feasible and
none happened every defined score is 0.

Source: the definitions are PeerWatt's own. FairMarket-RL (arXiv 2506.22708, 2508.18610) names and
describes the scores without publishing formulas. Jain's index: R. Jain, D. Chiu, W. Hawe, "A
quantitative measure of fairness and discrimination", DEC-TR-301, 1984.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from peerwatt.fairness.critic import FairnessScores, Floats, SlotBatch

jit = njit(cache=True, error_model="numpy", nogil=True)

HOUSEHOLD_FIELDS = frozenset(
    {"surplus", "deficit", "offered", "demanded", "sold", "bought", "received", "paid"}
)
"""Fields of a `SlotBatch` that are [M, N]; the others are [M]."""


def score_slots(slots: SlotBatch) -> FairnessScores:
    """Return FTG, FBS, FPP and FTB of M cleared slots, each [M] in [0, 1] or NaN.

    Reads prices, `surplus`, `deficit`, `sold`, `bought`, `paid` and `volume`, never what was
    quoted, and changes none of them. Retail must lie above feed-in, as in every task.
    """
    shape = np.shape(slots.surplus)
    for name, array in zip(slots._fields, slots, strict=True):
        expected = shape if name in HOUSEHOLD_FIELDS else shape[:1]
        if len(shape) != 2 or np.shape(array) != expected:
            raise ValueError(f"slots.{name} has the shape {np.shape(array)}, not {expected}")
    scores = np.empty((4, shape[0]))
    _score(
        _flat(slots.feed_in),
        _flat(slots.retail),
        _flat(slots.reference),
        _flat(slots.mean_price),
        _flat(slots.price_deviation),
        _flat(slots.volume),
        _flat(slots.surplus),
        _flat(slots.deficit),
        _flat(slots.sold),
        _flat(slots.bought),
        _flat(slots.paid),
        scores,
    )
    return FairnessScores(*scores)


def feasible(slots: SlotBatch) -> Floats:
    """Return the trade that was physically feasible, ``min(S, D)``, [M] in kWh.

    It weighs a slot in the mean of an episode, which makes the mean FTG the traded share of all
    feasible trade.
    """
    return np.minimum(slots.surplus.sum(axis=1), slots.deficit.sum(axis=1))


def _flat(array: Floats) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float64)


@jit
def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))


@jit
def _score(
    feed_in: Floats,
    retail: Floats,
    reference: Floats,
    mean_price: Floats,
    deviation: Floats,
    volume: Floats,
    surplus: Floats,
    deficit: Floats,
    sold: Floats,
    bought: Floats,
    paid: Floats,
    scores: Floats,
) -> None:
    """Fill `scores` [4, M]. Energies are multiples of 2**-10 kWh: comparisons with 0 are exact."""
    for m in range(surplus.shape[0]):
        band = retail[m] - feed_in[m]
        supply = demand = fills = squares = content = 0.0
        sellers = buyers = 0
        for n in range(surplus.shape[1]):
            if surplus[m, n] > 0.0:
                fill = sold[m, n] / surplus[m, n]
                supply += surplus[m, n]
                fills += fill
                squares += fill * fill
                sellers += 1
            if deficit[m, n] > 0.0:
                demand += deficit[m, n]
                buyers += 1
                if bought[m, n] > 0.0:
                    dearness = _unit((paid[m, n] / bought[m, n] - feed_in[m]) / band)
                    content += bought[m, n] / deficit[m, n] * (1.0 - dearness)
        possible = min(supply, demand)
        if possible <= 0.0:
            scores[0, m] = scores[1, m] = scores[2, m] = scores[3, m] = np.nan
        elif volume[m] <= 0.0:
            scores[0, m] = scores[2, m] = scores[3, m] = 0.0
            scores[1, m] = 0.0 if sellers > 1 else np.nan
        else:
            distance = abs(mean_price[m] - reference[m]) + deviation[m]
            scores[0, m] = _unit(volume[m] / possible)
            scores[1, m] = _unit(fills * fills / (sellers * squares)) if sellers > 1 else np.nan
            scores[2, m] = _unit(1.0 - 2.0 * distance / band)
            scores[3, m] = _unit(content / buyers)
