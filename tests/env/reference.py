"""Plain, slow, obviously right reference of a community's slots: Python integers, one household
after the other. Only the features of the observation are numpy scalars, in single precision."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import Any

import numpy as np

from market.reference import REFERENCES
from peerwatt.community import Task

QUARTERS = {0: -4, 1: -2, 2: -1, 4: 0, 5: 1, 6: 2, 7: 4}
FOLLOW = 3
LOAD, PV, ARRIVAL, START = 1, 2, 3, 4
TRAINING = 1
MASK = 2**64 - 1


def mix(key: int, counter: int) -> int:
    """SplitMix64's output number `counter` of the generator in state `key`."""
    z = (key + (counter + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def below(bits: int, bound: int) -> int:
    return ((bits >> 32) * bound) >> 32


def permutation(key: int, n: int) -> list[int]:
    out: list[int] = []
    for i in range(n):
        j = below(mix(key, i), i + 1)
        out.append(i)
        out[i], out[j] = out[j], i
    return out


def single(value: float) -> np.float32:
    return np.float32(value)


class ReferenceMarket:
    """One community of a `VectorMarket`: number `community` of a training batch, or a scenario."""

    def __init__(
        self,
        task: Task,
        *,
        seed: int = 0,
        community: int = 0,
        mechanism: str | None = None,
        scenario: tuple[int, int] | None = None,
    ) -> None:
        card = task.card
        self.task = task
        self.seed = seed
        self.community = community
        self.clear = REFERENCES[mechanism or card.market.mechanism]
        self.scenario = scenario
        noise = card.profiles.evaluation_noise if scenario else card.profiles.train_noise
        self.noise = round(noise * math.sqrt(3) * 65536)
        self.episode = -1
        self.levels = card.market.price_levels
        self.day = task.slots_per_day
        self.households = range(task.community.size)

    def grid(self, row: int) -> list[int]:
        """Prices of the slot: evenly from feed-in to retail, rounded half up to a tick."""
        feed_in, retail = self.task.community.feed_in, int(self.task.community.retail[row])
        steps = self.levels - 1
        return [
            feed_in + (2 * k * (retail - feed_in) + steps) // (2 * steps) for k in range(steps + 1)
        ]

    def reset(self) -> np.ndarray:
        self.episode += 1
        if self.scenario:
            self.key, self.start = (int(x) for x in self.scenario)
        else:
            self.key = 0
            for part in (self.seed, TRAINING, self.community, self.episode):
                self.key = mix(self.key, part)
            starts = self.task.training_starts("train").tolist()
            self.start = starts[below(mix(self.key, START), len(starts))]
        self.slot = 0
        self.charge_level = self.task.community.lowest.tolist()
        self.last: dict[str, Any] | None = None
        return self.observe()

    def noisy(self, quanta: int, purpose: int, counter: int) -> int:
        bits = mix(mix(self.key, purpose), counter)
        parts = [(bits >> shift) & 0xFFFF for shift in (0, 16, 32, 48)]
        factor = 65536 + (((sum(parts) - 131070) * self.noise) >> 16)
        return (quanta * max(0, factor)) >> 16

    def energy(self, i: int) -> tuple[int, int]:
        """Load and PV of household i in the slot about to be played."""
        row = self.start + self.slot
        load = int(self.task.community.load[row, i])
        pv = int(self.task.community.pv[row, i])
        if self.noise:
            counter = row * len(self.households) + i
            load, pv = self.noisy(load, LOAD, counter), self.noisy(pv, PV, counter)
        return load, pv

    def battery(self, i: int, code: int, net: int) -> tuple[int, int, int]:
        """Charge and discharge at the household's side, and change of the state of charge."""
        community = self.task.community
        power, efficiency = int(community.power[i]), int(community.efficiency[i])
        wanted = net if code == FOLLOW else power * QUARTERS[code] // 4
        if wanted > 0:
            room = int(community.highest[i]) - self.charge_level[i]
            if room == 0:
                return 0, 0, 0
            fitting = bisect_right(range(power + 1), room, key=lambda c: c * efficiency >> 16) - 1
            charge = min(wanted, fitting)
            return charge, 0, charge * efficiency >> 16
        held = self.charge_level[i] - int(community.lowest[i])
        discharge = min(-wanted, power, held * efficiency >> 16)
        drawn = bisect_left(range(held), discharge, key=lambda x: x * efficiency >> 16)
        return 0, discharge, -drawn

    def step(self, actions: np.ndarray) -> dict[str, Any]:
        """Play a slot; return its record, rewards, and the next observation."""
        community = self.task.community
        row = self.start + self.slot
        ticks = self.grid(row)
        feed_in, retail = ticks[0], ticks[-1]

        def bill(rest: int) -> int:
            return -rest * feed_in if rest > 0 else -rest * retail

        names = ("load", "pv", "charge", "discharge", "stored", "position", "order", "level")
        record: dict[str, Any] = {name: [] for name in names}
        grid_cost = []
        for i, (level, part, code) in zip(self.households, actions.tolist(), strict=True):
            load, pv = self.energy(i)
            charge, discharge, stored = 0, 0, 0
            if community.capacity[i] > 0:
                charge, discharge, stored = self.battery(i, code, pv - load)
            self.charge_level[i] += stored
            position = pv - load - charge + discharge
            size = abs(position) * part // (self.task.card.market.quantity_levels - 1)
            order = size if position > 0 else -size
            values = (load, pv, charge, discharge, stored, position, order, level)
            for name, value in zip(names, values, strict=True):
                record[name].append(value)
            grid_cost.append(bill(pv - load))

        arrival = permutation(mix(mix(self.key, ARRIVAL), row), len(self.households))
        outcome = self.clear(record["order"], record["level"], ticks, arrival)
        record |= {
            "traded": outcome.traded,
            "payment": outcome.payment,
            "moments": [outcome.volume, outcome.value, outcome.square],
            "grid_cost": grid_cost,
        }
        record["cost"] = [
            bill(record["position"][i] - outcome.traded[i]) - outcome.payment[i]
            for i in self.households
        ]
        scale = self.task.money_unit / self.task.card.market.reward_scale
        self.last = {"feed_in": feed_in, "spread": retail - feed_in} | record
        self.slot += 1
        over = self.slot == self.task.horizon
        return record | {
            "reward": [single(-cost * scale) for cost in record["cost"]],
            "grid_reward": [single(-cost * scale) for cost in grid_cost],
            "truncated": over,
            "observation": None if over and self.scenario else self.observe(),
        }

    def observe(self) -> np.ndarray:
        community = self.task.community
        row = self.start + self.slot
        day, hour = divmod(row, self.day)
        net = community.pv.astype(int) - community.load
        highest = int(community.retail.max())
        kwh = single(1 / 1024)

        def share(money: int, quanta: int) -> np.float32:
            """Place of a mean price between feed-in (0) and retail (1) of the last slot."""
            assert self.last
            width = self.last["spread"] * quanta
            above = money - self.last["feed_in"] * quanta
            return single(min(max(above, 0), width)) / single(width)

        rows = []
        for i in self.households:
            load, pv = self.energy(i)
            yesterday = row - self.day
            forecast = [
                single(sum(net[yesterday + 1 : yesterday + 1 + ahead, i].tolist()))
                * single(1 / (1024 * ahead))
                for ahead in (1, self.day // 4, self.day // 2)
            ]
            capacity = int(community.capacity[i])
            retail_ahead = community.retail[row + 1 : row + 1 + self.day // 4].tolist()
            public = [
                math.sin(2 * math.pi * hour / self.day),
                math.cos(2 * math.pi * hour / self.day),
                community.weekday[day] >= 5,
                community.sunny[day],
                int(community.retail[row]) / highest,
                community.feed_in / highest,
                retail_ahead[0] / highest,
                sum(price / highest for price in retail_ahead) / len(retail_ahead),
            ]
            memory = [single(0)] * 5
            if self.last:
                traded, payment = self.last["traded"][i], self.last["payment"][i]
                volume, value, _ = self.last["moments"]
                memory = [
                    single(max(traded, 0)) * kwh,
                    single(max(-traded, 0)) * kwh,
                    share(abs(payment), abs(traded)) if traded else single(0),
                    share(value, volume) if volume else single(0),
                    single(volume) * kwh / single(len(self.households)),
                ]
            rows.append(
                [
                    single(load) * kwh,
                    single(pv) * kwh,
                    single(pv) * kwh - single(load) * kwh,
                    *forecast,
                    single(self.charge_level[i]) / single(capacity) if capacity else single(0),
                    single(capacity) * kwh * single(0.1),
                    *(single(value) for value in public),
                    *memory,
                ]
            )
        return np.array(rows, np.float32)
