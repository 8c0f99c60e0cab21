"""`VectorMarket`: B communities of N households, stepped together as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from peerwatt.community import Community, Split, Task
from peerwatt.community.random import check_seed
from peerwatt.community.task import tariff_rows
from peerwatt.env.kernel import (
    BATTERY_ACTIONS,
    FEATURES,
    FORECAST_FEATURES,
    IDLE,
    PUBLIC_FEATURES,
    UNLAWFUL,
    Slot,
    State,
    Tables,
    reset_slots,
    step_slots,
)
from peerwatt.env.scenarios import Scenarios
from peerwatt.errors import PeerWattError
from peerwatt.market.clearing import failing, unlawful
from peerwatt.market.mechanism import INLINED, CompiledMechanism, Mechanism, compile_mechanism
from peerwatt.market.units import QUANTA_PER_KWH
from peerwatt.plugins.loader import load_mechanism

Floats = NDArray[np.float32]
NOISE_ONE = 1 << 16


class Step(NamedTuple):
    """Outcome of one slot. The arrays are reused by the next step: copy what you keep."""

    observation: Floats  # [B, N, F] of the next slot; of the next training episode if truncated
    reward: Floats  # [B, N] -cost / reward_scale
    truncated: NDArray[np.bool_]  # [B] the episode ran out of time (it never terminates)
    final_observation: Floats  # [B, N, F] last of the old training episode, where truncated
    grid_reward: Floats  # [B, N] what grid-only would have earned: an action-free baseline
    slot: Slot  # flat integer records of the slot


def build_tables(task: Task, starts: NDArray[np.int64]) -> Tables:
    """Lay out a task's community as the flat, read-only arrays that the kernel reads.

    All are read-only, those of the community too: so the kernel is compiled for one kind of array.
    """
    community = task.community
    slots = len(community.load)
    day = task.slots_per_day
    ticks, tariff = tariff_rows(community, task.card.market.price_levels)
    retail = community.retail / community.retail.max()
    ahead = np.concatenate([retail, retail[:day]])
    hours = 6 * day // 24
    soon = np.lib.stride_tricks.sliding_window_view(ahead[1:], hours).mean(axis=1)[:slots]
    angle = 2 * np.pi * (np.arange(slots) % day) / day
    public = np.stack(
        [
            np.sin(angle),
            np.cos(angle),
            np.repeat(community.weekday >= 5, day),
            np.repeat(community.sunny, day),
            retail,
            np.full(slots, community.feed_in / community.retail.max()),
            ahead[1 : slots + 1],
            soon,
        ],
        axis=1,
    )
    assert public.shape[1] == PUBLIC_FEATURES
    tables = Tables(
        load=community.load.reshape(-1),
        pv=community.pv.reshape(-1),
        forecast=persistence_forecast(community, day).reshape(-1),
        tariff=tariff,
        ticks=ticks.reshape(-1),
        public=np.ascontiguousarray(public, np.float32).reshape(-1),
        capacity=community.capacity,
        power=community.power,
        efficiency=community.efficiency,
        lowest=community.lowest,
        highest=community.highest,
        starts=starts,
    )
    for array in tables:
        array.setflags(write=False)
    return tables


def persistence_forecast(community: Community, day: int) -> Floats:
    """Return the forecast features [T, N, 3] in kWh per slot, with `day` slots a day.

    They are the net load of yesterday's slots that follow the present one: the next, and means over
    the next 6 and 12 hours. The first day of the table has no yesterday: 0.
    """
    slots, n = community.load.shape
    sums = np.zeros((slots + 1, n), np.int64)
    np.cumsum(community.pv.astype(np.int64) - community.load, axis=0, out=sums[1:])
    features = np.zeros((slots, n, FORECAST_FEATURES), np.float32)
    begin = np.arange(slots - day) + 1
    for j, ahead in enumerate((1, day // 4, day // 2)):
        total = (sums[begin + ahead] - sums[begin]).astype(np.float32)
        features[day:, :, j] = total * np.float32(1 / (QUANTA_PER_KWH * ahead))
    return features


def choose_mechanism(
    task: Task, mechanism: str | Mechanism | CompiledMechanism | None
) -> CompiledMechanism:
    """Return `mechanism`, an instance or a registered name, or else the one of the task's card.

    Raises:
        PeerWattError: there is no such mechanism, or it is none.
    """
    if mechanism is None:
        name, options = task.card.market.mechanism_choice
        return compile_mechanism(load_mechanism(name, options), name)
    if isinstance(mechanism, str):
        return compile_mechanism(load_mechanism(mechanism), mechanism)
    return compile_mechanism(mechanism)


def _check_count(num_envs: int) -> int:
    whole = isinstance(num_envs, int | np.integer) and not isinstance(num_envs, bool)
    if not whole or num_envs < 1:
        raise PeerWattError(f"num_envs {num_envs!r} must be a whole number, at least 1.")
    return int(num_envs)


def _check_scenarios(scenarios: Scenarios, task: Task) -> int:
    """Return their number; the kernel would read beyond the profiles without looking."""
    start = np.asarray(scenarios.start)
    last = len(task.community.load) - task.horizon
    if start.ndim != 1 or not start.size or start.shape != np.shape(scenarios.key):
        raise PeerWattError("scenarios need one key and one start for each of at least 1 episode.")
    if start.dtype.kind not in "iu" or start.min() < 0 or start.max() > last:
        raise PeerWattError(
            f"the scenarios leave the profiles of {task.name}: each start must lie in 0..{last}."
        )
    return len(start)


class VectorMarket:
    """A batch of communities on one task.

    Training draws its episodes from a counter-based generator: the seed, the community's number
    and the episode's number fix an episode, so community b is the same whatever the batch size,
    and no other environment in the process can change it. With `scenarios` the batch plays just
    those episodes; after the last slot the observation stays what it was, for the slot after the
    window may belong to another split.

    Args:
        task: what is played.
        num_envs: number of communities B; with `scenarios`, taken from them.
        seed: seed of the training episodes.
        split: weeks that training episodes come from.
        mechanism: overrides the mechanism of the task's card; a name, or an instance.
        scenarios: held-out episodes to play instead of training episodes.

    Raises:
        PeerWattError: an argument is out of range.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int = 1,
        *,
        seed: int = 0,
        split: Split = "train",
        mechanism: str | Mechanism | CompiledMechanism | None = None,
        scenarios: Scenarios | None = None,
    ) -> None:
        card = task.card
        starts = task.training_starts(split)
        if scenarios is None:
            b = _check_count(num_envs)
            if not len(starts):
                raise PeerWattError(
                    f"the {split} split of {task.name} has no window of {card.episode.days} days "
                    "with a day before and a slot after it: there is nothing to play."
                )
        else:
            b = _check_scenarios(scenarios, task)
        self.task = task
        self.mechanism = choose_mechanism(task, mechanism)
        self.num_envs = b
        self.num_agents = n = task.community.size
        self.horizon = task.horizon
        self.action_nvec = (
            card.market.price_levels,
            card.market.quantity_levels,
            len(BATTERY_ACTIONS) if task.community.has_storage else 1,
        )
        self.observation_size = FEATURES
        self.action_mask = self._action_mask()
        self.seed = check_seed(seed)
        self._sampled = scenarios is None
        noise = card.profiles.train_noise if self._sampled else card.profiles.evaluation_noise
        self._noise = round(noise * 3**0.5 * NOISE_ONE)  # see community.random.centred
        self._scale = task.money_unit / card.market.reward_scale
        self.tables = build_tables(task, starts)
        self.state = State(
            key=np.zeros(b, np.uint64) if scenarios is None else scenarios.key.copy(),
            episode=np.full(b, -1, np.int64),
            start=np.zeros(b, np.int64) if scenarios is None else scenarios.start.copy(),
            slot=np.zeros(b, np.int64),
            charge_level=np.zeros(b * n, np.int64),
            load_now=np.zeros(b * n, np.int64),
            pv_now=np.zeros(b * n, np.int64),
        )
        self._slot = Slot(
            tariff=np.zeros(b, np.int64),
            moments=np.zeros(b * 3, np.int64),
            **{
                name: np.zeros(b * n, np.int64)
                for name in Slot._fields
                if name not in ("tariff", "moments")
            },
        )
        self._observation = np.zeros((b, n, FEATURES), np.float32)
        self._final = np.zeros((b, n, FEATURES), np.float32)
        self._reward = np.zeros((b, n), np.float32)
        self._grid_reward = np.zeros((b, n), np.float32)
        self._flat = tuple(
            array.reshape(-1)
            for array in (self._observation, self._final, self._reward, self._grid_reward)
        )
        self._truncated = np.zeros(b, np.bool_)
        self._started = False

    def _action_mask(self) -> NDArray[np.bool_]:
        """Return [N, sum(nvec)]: homes without storage may only idle; the rest is clipped."""
        mask = np.ones((self.num_agents, sum(self.action_nvec)), np.bool_)
        if self.action_nvec[2] > 1:
            battery = mask[:, self.action_nvec[0] + self.action_nvec[1] :]
            battery[self.task.community.capacity == 0] = False
            battery[:, IDLE] = True
        mask.setflags(write=False)
        return mask

    def reset(self, mask: ArrayLike | None = None) -> Floats:
        """Begin an episode in all communities, or in those where `mask` [B] is true.

        Returns the observations [B, N, F] of all communities.
        """
        chosen = np.ones(self.num_envs, np.bool_) if mask is None else np.asarray(mask, np.bool_)
        if chosen.shape != (self.num_envs,):
            raise PeerWattError(
                f"reset mask has shape {chosen.shape}, expected ({self.num_envs},)."
            )
        if not self._started and not chosen.all():
            raise PeerWattError("the first reset must begin all communities.")
        reset_slots(
            chosen,
            self.num_agents,
            self.action_nvec[0],
            self._noise,
            self.seed,
            self._sampled,
            self.tables,
            self.state,
            self._slot,
            self._flat[0],
        )
        self._started = True
        self._truncated[chosen] = False
        return self._observation

    def reseed(self, seed: int) -> None:
        """Begin a new sequence of training episodes with the next `reset`.

        Raises:
            PeerWattError: the seed is out of range.
        """
        self.seed = check_seed(seed)
        self.state.episode[:] = -1
        self._started = False

    def step(self, actions: ArrayLike) -> Step:
        """Play one slot with `actions` [B, N, 3] of integers below `action_nvec`.

        Raises:
            PeerWattError: no reset yet, a played-out scenario, or an action outside its space; the
                sentence names it, and nothing has changed. Or the mechanism fails; the next call
                must be `reset` then.
        """
        array = np.asarray(actions)
        shape = (self.num_envs, self.num_agents, 3)
        if array.dtype.kind not in "iu" or array.shape != shape:
            raise PeerWattError(
                f"actions are {array.dtype} {array.shape}, expected integers {shape}."
            )
        if not self._started:
            raise PeerWattError("call reset before step.")
        if not self._sampled and self._truncated.any():
            raise PeerWattError("a scenario has been played out: call reset to play it again.")
        observation, final, reward, grid_reward = self._flat
        try:
            bad = step_slots(
                np.ascontiguousarray(array, np.int64).reshape(-1),
                *self.action_nvec,
                self.mechanism.address,
                self.mechanism.parameters,
                self.num_agents,
                self.horizon,
                self._noise,
                self.seed,
                self._sampled,
                self._scale,
                self.tables,
                self.state,
                self._slot,
                reward,
                grid_reward,
                self._truncated,
                observation,
                final,
            )
        except Exception as error:  # in the middle of the slot
            self._started = False
            if self.mechanism.address == INLINED:
                raise
            raise PeerWattError(failing(self.mechanism, error)) from error
        if bad == UNLAWFUL:
            self._started = False
            raise PeerWattError(unlawful(self.mechanism))
        if bad >= 0:
            b, i, head = np.unravel_index(bad, shape)
            raise PeerWattError(
                f"action {array[b, i, head]} of household {i} in community {b} leaves its space: "
                f"{('price level', 'quantity', 'battery')[head]} must lie in "
                f"0..{self.action_nvec[head] - 1}."
            )
        return Step(
            self._observation,
            self._reward,
            self._truncated,
            self._final if self._sampled else self._observation,
            self._grid_reward,
            self._slot,
        )

    @property
    def observation(self) -> Floats:
        """Observations [B, N, F] of the slot to be played; the next step overwrites them."""
        return self._observation

    def snapshot(self) -> dict[str, Any]:
        """Return copies of all that the slots to come depend on, for `restore`."""
        return {
            "num_envs": self.num_envs,
            "num_agents": self.num_agents,
            "seed": self.seed,
            "started": self._started,
            "arrays": {name: array.copy() for name, array in self._arrays().items()},
        }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Go on from where `snapshot` was taken of a market made alike; instead of `reset`.

        Raises:
            PeerWattError: it was taken of another market; nothing has changed.
        """
        for name in ("num_envs", "num_agents", "seed"):
            if snapshot[name] != getattr(self, name):
                raise PeerWattError(
                    f"the market has {name} {getattr(self, name)}, but that of the snapshot has "
                    f"{snapshot[name]}: make it as it was made then."
                )
        arrays = self._arrays()
        for name, array in arrays.items():
            then = snapshot["arrays"][name]
            if (then.shape, then.dtype) != (array.shape, array.dtype):
                raise PeerWattError(
                    f"the market's {name} is {array.dtype} {array.shape}, but that of the snapshot "
                    f"{then.dtype} {then.shape}: make it as it was made then."
                )
        for name, array in arrays.items():
            array[...] = snapshot["arrays"][name]
        self._started = snapshot["started"]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that `reset` and `step` write, what they hand out included."""
        return {
            **{f"state.{name}": array for name, array in self.state._asdict().items()},
            **{f"slot.{name}": array for name, array in self._slot._asdict().items()},
            "observation": self._observation,
            "final_observation": self._final,
            "reward": self._reward,
            "grid_reward": self._grid_reward,
            "truncated": self._truncated,
        }

    @property
    def slot(self) -> Slot:
        """Flat integer records of the slot just played; the next step overwrites them."""
        return self._slot

    @property
    def episode_slot(self) -> NDArray[np.int64]:
        """Slot [B] that each community plays next, 0 at the start of an episode."""
        return self.state.slot
