"""The evaluation protocol: play a frozen policy on held-out scenarios and measure what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peerwatt.community import Split, Task
from peerwatt.env import Scenarios, Slot, VectorMarket, evaluation_scenarios
from peerwatt.errors import unknown_name
from peerwatt.evaluation.metrics import entry_score, episode_metrics, welfare
from peerwatt.evaluation.oracle import oracle_cost
from peerwatt.evaluation.policy import Policy
from peerwatt.market import CompiledMechanism, Mechanism

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """What a policy did in E episodes; money in the task's currency, one value per episode."""

    cost: Floats  # [E] of the community: what the grid charges it
    grid_cost: Floats  # [E] without any trade, storage idle
    oracle_cost: Floats  # [E] perfect-foresight optimum
    savings: Floats  # [E, N] saved against grid-only by each household
    grid_bills: Floats  # [E, N] bill of each household under grid-only
    metrics: dict[str, Floats]  # name -> [E], NaN where undefined

    @property
    def welfare(self) -> float:
        """Share of the possible saving that was realised: 0 is grid-only, 1 the optimum.

        A ratio of sums over the episodes, so that an episode with little to win counts little; NaN
        where nothing can be won.
        """
        value = welfare(self.cost, self.grid_cost, self.oracle_cost)
        return float("nan") if value is None else value

    def score(self, name: str) -> float:
        """Return fairness score `name` over all slots, weighted by tradable kWh; NaN if undefined.

        Slots in which the score is undefined are left out.

        Raises:
            PeerWattError: there is no metric `name`.
        """
        if name not in self.metrics:
            raise unknown_name("metric", name, self.metrics)
        value = entry_score(self.metrics, name)
        return float("nan") if value is None else value


class Evaluator:
    """Evaluates policies on the same held-out scenarios of one task and split.

    The optimum is solved once; every policy then meets the same load, PV, tariff and order
    arrivals. Nothing here touches a training environment or its generators.
    """

    def __init__(
        self,
        task: Task,
        split: Split,
        *,
        episodes: int | None = None,
        mechanism: str | Mechanism | CompiledMechanism | None = None,
        scenarios: Scenarios | None = None,
    ) -> None:
        self.task = task
        self.split = split
        self.scenarios = scenarios or evaluation_scenarios(task, split, episodes)
        self.mechanism = mechanism
        self._oracle: Floats | None = None

    def __call__(self, policy: Policy, seed: int) -> Evaluation:
        """Play `policy` in all scenarios at once; `seed` drives its own draws only."""
        task = self.task
        market = VectorMarket(task, scenarios=self.scenarios, mechanism=self.mechanism)
        record = play(market, policy, np.random.default_rng([seed, 0xE7A1]))
        episodes, n = market.num_envs, market.num_agents
        cost = record.cost.reshape(task.horizon, episodes, n).sum(axis=0)
        # What the market maker keeps, or pays in, stays in the community: no cost of it.
        surplus = -record.payment.reshape(task.horizon, episodes, n).sum(axis=(0, 2))
        grid_cost = record.grid_cost.reshape(task.horizon, episodes, n).sum(axis=0)
        if self._oracle is None:
            load, pv = (a.reshape(task.horizon, episodes, n) for a in (record.load, record.pv))
            retail = market.tables.ticks.reshape(-1, task.card.market.price_levels)[:, -1]
            self._oracle = oracle_cost(
                task.community,
                (load - pv).sum(axis=2).T,
                retail[record.tariff.reshape(task.horizon, episodes)].T,
            )
        money = task.money_unit
        return Evaluation(
            cost=(cost.sum(axis=1) - surplus) * money,
            grid_cost=grid_cost.sum(axis=1) * money,
            oracle_cost=self._oracle * money,
            savings=(grid_cost - cost) * money,
            grid_bills=grid_cost * money,
            metrics=episode_metrics(task, market.tables.ticks, record, episodes),
        )


def play(market: VectorMarket, policy: Policy, generator: np.random.Generator) -> Slot:
    """Play one episode in every community of `market`; return its slots, time first.

    The policy sees read-only views: it cannot spoil the environment. The fields of the result are
    flat over [T, B, N] (or [T, B]).
    """
    observation = market.reset()
    slots = []
    for _ in range(market.horizon):
        seen = observation.view()
        seen.setflags(write=False)
        actions = policy.act(seen, market.action_mask, generator)
        step = market.step(actions)
        observation = step.observation
        slots.append([field.copy() for field in step.slot])
    return Slot(*(np.concatenate(fields) for fields in zip(*slots, strict=True)))
