"""The upper anchor of the welfare scale: what the community could have paid at best."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from peerwatt.community import Community
from peerwatt.community.task import EFFICIENCY_ONE


def _battery_kinds(community: Community) -> NDArray[np.int64]:
    """Return [G, 5]: count, usable capacity, power and efficiency of each kind of battery.

    Identical batteries act as one that is as many times larger: their feasible sets are equal
    convex sets, whose sum is the set scaled by their number. So the optimum is unchanged.
    """
    has = community.capacity > 0
    usable = (community.highest - community.lowest)[has]
    kinds = np.stack([usable, community.power[has], community.efficiency[has]], axis=1)
    unique, count = np.unique(kinds, axis=0, return_counts=True)
    return np.concatenate([count[:, None], unique], axis=1)


@lru_cache(maxsize=8)
def _constraints(
    slots: int, efficiencies: tuple[float, ...]
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return the equality and inequality matrices; variables are blocks of `slots`.

    Order: import, export, then charge, discharge, state of charge for each kind of battery.
    """
    one = sparse.eye_array(slots, format="csr")
    zero = sparse.csr_array((slots, slots))
    before = sparse.eye_array(slots, k=-1, format="csr")
    balance = [one, -one]
    storage = []
    kinds = len(efficiencies)
    for kind, efficiency in enumerate(efficiencies):
        balance += [-one, one, zero]
        row = [zero] * (2 + 3 * kinds)
        row[2 + 3 * kind : 5 + 3 * kind] = [-efficiency * one, one / efficiency, one - before]
        storage.append(row)
    inequality = (
        sparse.csr_array(sparse.block_array(storage))
        if storage
        else sparse.csr_array((0, slots * 2))
    )
    return sparse.csr_array(sparse.block_array([balance])), inequality


def oracle_cost(
    community: Community, net_load: NDArray[np.int64], retail: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the least cost [E] of the community with perfect foresight, in quanta x ticks.

    One linear program per episode (HiGHS): buy at the retail price, sell at the feed-in tariff,
    move the batteries. Inside the community energy passes freely, so prices do not matter.
    Batteries start at their lower bound and what is left in them at the end is worth nothing, as
    in the environment; energy may be thrown away, which makes this a bound for batteries that
    round. Charging and discharging at once never pays because 0 <= feed-in < retail.

    Args:
        community: assets and feed-in tariff.
        net_load: [E, T] load less PV of the whole community, quanta.
        retail: [E, T] retail price, ticks.

    Raises:
        RuntimeError: HiGHS found no optimum (the program is always feasible and bounded).
    """
    episodes, slots = net_load.shape
    kinds = _battery_kinds(community)
    count, usable, power, efficiency = (kinds[:, i].astype(float) for i in range(4))
    equality, inequality = _constraints(slots, tuple(efficiency / EFFICIENCY_ONE))
    unbounded = [(0.0, np.inf)] * (2 * slots)
    bounds = list(unbounded)
    for kind in range(len(kinds)):
        bounds += [(0.0, count[kind] * power[kind])] * (2 * slots)
        bounds += [(0.0, count[kind] * usable[kind])] * slots
    box = np.array(bounds)
    best = np.zeros(episodes)
    for episode in range(episodes):
        objective = np.zeros(len(bounds))
        objective[:slots] = retail[episode]
        objective[slots : 2 * slots] = -float(community.feed_in)
        solution = linprog(
            objective,
            A_ub=inequality,
            b_ub=np.zeros(inequality.shape[0]),
            A_eq=equality,
            b_eq=net_load[episode].astype(float),
            bounds=box,
            method="highs",
        )
        if not solution.success:
            raise RuntimeError(f"HiGHS found no optimum: {solution.message}")
        best[episode] = solution.fun
    return best
