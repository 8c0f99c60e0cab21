"""The fused slot kernel: profiles, battery, orders, clearing, settlement, reward, observation.

One call advances B communities of N households by one slot. All arrays are flat and contiguous
and indexed `b * N + i`; energies are quanta, prices ticks, money quanta x ticks (see
`peerwatt.market.units`). A household's slot, in this order:

1. The battery moves as the action says, within power, capacity and state-of-charge bounds. Stored
   energy is rounded down and drawn energy up, so a rounded battery never beats an exact one.
2. Position = PV - load - charge + discharge. A positive position offers, a negative one bids, for
   the fraction and at the price level of the action.
3. The mechanism clears; the rest of the position settles with the grid. Demand is always served.
4. Reward = -cost of the slot / reward scale, where cost is what was paid less what was received.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from peerwatt.community.random import TRAINING, below, centred, episode_key, mix, shuffle
from peerwatt.market.kernels import clear_call, clear_cda

jit = njit(cache=True, error_model="numpy", nogil=True)

BATTERY_ACTIONS = (
    "discharge",
    "discharge-half",
    "discharge-quarter",
    "follow",
    "idle",
    "charge-quarter",
    "charge-half",
    "charge",
)
"""Battery levels as shares of rated power; `follow` absorbs the own surplus, or covers the own
deficit, as far as the battery can."""
FOLLOW, IDLE = 3, 4
_QUARTERS = np.array([-4, -2, -1, 0, 0, 1, 2, 4], np.int64)

OBSERVATION_NAMES = (
    "load",
    "pv",
    "net",
    "forecast_net_next_slot",
    "forecast_net_next_6h",
    "forecast_net_next_12h",
    "state_of_charge",
    "storage_capacity",
    "hour_sin",
    "hour_cos",
    "weekend",
    "sunny",
    "retail",
    "feed_in",
    "retail_next_slot",
    "retail_next_6h",
    "last_sold",
    "last_bought",
    "last_own_price",
    "last_public_price",
    "last_public_volume",
)
"""What a household observes. Energies in kWh per slot (capacity in tens of kWh), net = PV - load;
tariffs as shares of the highest retail price; trade prices as (p - feed-in) / (retail - feed-in).
Forecasts are persistence: the same slots yesterday, before household noise. `sunny` is the public
day-ahead weather flag."""
FEATURES = len(OBSERVATION_NAMES)
PUBLIC_FEATURES = 8  # hour_sin .. retail_next_6h, from a table

_KWH = 1.0 / 1024.0
_ETA_ONE = 1 << 16
_LOAD, _PV, _ARRIVAL, _START = 1, 2, 3, 4  # purposes of draws within an episode


class Tables(NamedTuple):
    """What never changes during a run: the community, its profiles and its tariff."""

    load: NDArray[np.int32]  # [T * N] quanta per slot
    pv: NDArray[np.int32]  # [T * N] quanta per slot, 0 without PV
    net_sums: NDArray[np.int64]  # [(T + 1) * N] running sums of pv - load
    tariff: NDArray[np.int64]  # [T] row of `ticks` that holds in the slot
    ticks: NDArray[np.int64]  # [P * K] price grids, ascending from feed-in to retail
    public: NDArray[np.float32]  # [T * 8] public features
    capacity: NDArray[np.int64]  # [N] quanta, 0 without storage
    power: NDArray[np.int64]  # [N] quanta per slot, on the side of the household
    efficiency: NDArray[np.int64]  # [N] one-way efficiency in 1 / 65536
    lowest: NDArray[np.int64]  # [N] lower bound of the state of charge, quanta
    highest: NDArray[np.int64]  # [N] upper bound
    starts: NDArray[np.int64]  # [W] first slots of the windows of the split


class State(NamedTuple):
    """What a slot changes. Flat arrays over B communities or B * N households."""

    key: NDArray[np.uint64]  # [B] of the episode
    episode: NDArray[np.int64]  # [B] episodes begun, less one
    start: NDArray[np.int64]  # [B] table row of the episode's first slot
    slot: NDArray[np.int64]  # [B] slot within the episode
    charge_level: NDArray[np.int64]  # [B * N] state of charge, quanta
    load_now: NDArray[np.int64]  # [B * N] load of the slot about to be played
    pv_now: NDArray[np.int64]  # [B * N]
    last_traded: NDArray[np.int64]  # [B * N] traded in the slot before
    last_payment: NDArray[np.int64]  # [B * N]
    last_moments: NDArray[np.int64]  # [B * 3]
    last_tariff: NDArray[np.int64]  # [B]


class Slot(NamedTuple):
    """Outcome of the slot just played. Flat arrays; quanta and quanta x ticks."""

    tariff: NDArray[np.int64]  # [B] row of `ticks`
    load: NDArray[np.int64]  # [B * N]
    pv: NDArray[np.int64]  # [B * N]
    charge: NDArray[np.int64]  # [B * N] into the battery, on the household's side
    discharge: NDArray[np.int64]  # [B * N] out of the battery, on the household's side
    stored: NDArray[np.int64]  # [B * N] change of the state of charge
    position: NDArray[np.int64]  # [B * N] pv - load - charge + discharge
    order: NDArray[np.int64]  # [B * N] offered > 0, bid for < 0
    level: NDArray[np.int64]  # [B * N] price level of the order
    traded: NDArray[np.int64]  # [B * N] sold > 0, bought < 0
    payment: NDArray[np.int64]  # [B * N] received > 0, paid < 0
    cost: NDArray[np.int64]  # [B * N] paid less received, market and grid
    grid_cost: NDArray[np.int64]  # [B * N] the same without market and storage
    moments: NDArray[np.int64]  # [B * 3] volume, value, square (see market.kernels)


@jit
def _profiles(b, n, noise, tables, state):
    """Realise load and PV of the slot about to be played."""
    row = min(state.start[b] + state.slot[b], tables.tariff.size - 1)
    for i in range(n):
        k = b * n + i
        load = np.int64(tables.load[row * n + i])
        pv = np.int64(tables.pv[row * n + i])
        if noise > 0:
            counter = np.uint64(row * n + i)
            draw = centred(mix(mix(state.key[b], _LOAD), counter))
            load = (load * max(0, _ETA_ONE + ((draw * noise) >> 16))) >> 16
            if pv > 0:
                draw = centred(mix(mix(state.key[b], _PV), counter))
                pv = (pv * max(0, _ETA_ONE + ((draw * noise) >> 16))) >> 16
        state.load_now[k] = load
        state.pv_now[k] = pv


@jit
def _observe(b, n, levels, day, tables, state, out):
    """Write the observations of community b into `out[b * n * F ...]`."""
    row = min(state.start[b] + state.slot[b], tables.tariff.size - 1)
    hour = day // 24
    yesterday = row + 1 - day
    now = tables.net_sums[yesterday * n : (yesterday + 1) * n]
    soon = tables.net_sums[(yesterday + 1) * n : (yesterday + 2) * n]
    later = tables.net_sums[(yesterday + 6 * hour) * n : (yesterday + 6 * hour + 1) * n]
    late = tables.net_sums[(yesterday + 12 * hour) * n : (yesterday + 12 * hour + 1) * n]
    per_six = np.float32(_KWH / (6 * hour))
    per_twelve = np.float32(_KWH / (12 * hour))
    kwh = np.float32(_KWH)
    public = tables.public[row * PUBLIC_FEATURES : (row + 1) * PUBLIC_FEATURES]
    feed_in = tables.ticks[state.last_tariff[b] * levels]
    spread = np.float32(tables.ticks[(state.last_tariff[b] + 1) * levels - 1] - feed_in)
    volume = state.last_moments[3 * b]
    public_price = np.float32(0.0)
    if volume > 0:
        mean = np.float32(state.last_moments[3 * b + 1]) / np.float32(volume)
        public_price = (mean - np.float32(feed_in)) / spread
    public_volume = np.float32(volume) * kwh / np.float32(n)
    for i in range(n):
        k = b * n + i
        o = k * FEATURES
        load = np.float32(state.load_now[k]) * kwh
        pv = np.float32(state.pv_now[k]) * kwh
        out[o] = load
        out[o + 1] = pv
        out[o + 2] = pv - load
        out[o + 3] = np.float32(soon[i] - now[i]) * kwh
        out[o + 4] = np.float32(later[i] - now[i]) * per_six
        out[o + 5] = np.float32(late[i] - now[i]) * per_twelve
        capacity = tables.capacity[i]
        if capacity > 0:
            out[o + 6] = np.float32(state.charge_level[k]) / np.float32(capacity)
        else:
            out[o + 6] = np.float32(0.0)
        out[o + 7] = np.float32(capacity) * kwh * np.float32(0.1)
        for j in range(PUBLIC_FEATURES):
            out[o + 8 + j] = public[j]
        traded = state.last_traded[k]
        out[o + 16] = np.float32(max(traded, 0)) * kwh
        out[o + 17] = np.float32(max(-traded, 0)) * kwh
        if traded != 0:
            price = np.float32(state.last_payment[k]) / np.float32(traded)
            out[o + 18] = (price - np.float32(feed_in)) / spread
        else:
            out[o + 18] = np.float32(0.0)
        out[o + 19] = public_price
        out[o + 20] = public_volume


@jit
def _clear_memory(b, n, tables, state):
    """Put community b at the first slot of its episode: empty batteries, no last trades."""
    state.slot[b] = 0
    state.last_tariff[b] = tables.tariff[state.start[b]]
    for j in range(3):
        state.last_moments[3 * b + j] = 0
    for i in range(n):
        k = b * n + i
        state.charge_level[k] = tables.lowest[i]
        state.last_traded[k] = 0
        state.last_payment[k] = 0


@jit
def _next_episode(b, seed, tables, state):
    """Draw the next training episode of community b."""
    state.episode[b] += 1
    key = episode_key(seed, TRAINING, b, state.episode[b])
    state.key[b] = key
    state.start[b] = tables.starts[below(mix(key, _START), tables.starts.size)]


@jit
def reset_slots(mask, n, levels, day, noise, seed, sampled, tables, state, observation):
    """Begin an episode in the communities where `mask` [B] is set, and observe all communities.

    `sampled` draws new training episodes; otherwise the key and start in `state` are replayed.
    """
    for b in range(mask.size):
        if mask[b]:
            if sampled:
                _next_episode(b, seed, tables, state)
            _clear_memory(b, n, tables, state)
            _profiles(b, n, noise, tables, state)
        _observe(b, n, levels, day, tables, state, observation)


@jit
def _battery(code, net, level, i, tables):
    """Return (charge, discharge, change of the state of charge) of household i, in quanta."""
    power = tables.power[i]
    efficiency = tables.efficiency[i]
    target = net
    if code != FOLLOW:
        target = (power * _QUARTERS[code]) >> 2
    if target > 0:
        room = tables.highest[i] - level
        if room <= 0:
            return 0, 0, 0
        charge = min(min(target, power), (((room + 1) << 16) - 1) // efficiency)
        return charge, 0, (charge * efficiency) >> 16
    if target < 0:
        available = level - tables.lowest[i]
        discharge = min(min(-target, power), (available * efficiency) >> 16)
        drawn = ((discharge << 16) + efficiency - 1) // efficiency
        return 0, discharge, -drawn
    return 0, 0, 0


@jit
def step_slots(
    action, nvec, mechanism, n, levels, quantities, day, horizon, noise, seed, autoreset, scale,
    tables, state, slot, reward, truncated, observation, final_observation,
):  # fmt: skip
    """Play one slot in every community; see the module.

    Args (beyond the flat arrays of `Tables`, `State`, `Slot`): `action` [B * N * 3] int64, `nvec`
    [3] sizes of its heads, `horizon` slots per episode, `scale` reward per quantum x tick,
    `truncated` [B] bool. With `autoreset` a finished community begins its next episode at once:
    `observation` is then the first of the new episode and `final_observation` the last of the old.

    Returns the index of the first action outside its space, in which case nothing has changed, or
    -1.
    """
    for k in range(action.size):
        if action[k] < 0 or action[k] >= nvec[k % 3]:
            return k
    communities = truncated.size
    arrival = np.empty(n, np.int64)
    queue = np.empty(n, np.int64)
    head = np.empty(128, np.int64)
    tail = np.empty(128, np.int64)
    storage = nvec[2] > 1
    for b in range(communities):
        first = b * n
        row = state.start[b] + state.slot[b]
        tariff = tables.tariff[row]
        ticks = tables.ticks
        grid = tariff * levels
        feed_in = ticks[grid]
        retail = ticks[grid + levels - 1]
        slot.tariff[b] = tariff
        for i in range(n):
            k = first + i
            load = state.load_now[k]
            pv = state.pv_now[k]
            net = pv - load
            charge, discharge, stored = 0, 0, 0
            if storage and tables.capacity[i] > 0:
                level = state.charge_level[k]
                charge, discharge, stored = _battery(action[3 * k + 2], net, level, i, tables)
                state.charge_level[k] = level + stored
            position = net - charge + discharge
            slot.load[k] = load
            slot.pv[k] = pv
            slot.charge[k] = charge
            slot.discharge[k] = discharge
            slot.stored[k] = stored
            slot.position[k] = position
            part = action[3 * k + 1]
            if part == quantities - 1:
                slot.order[k] = position
            else:
                quantity = abs(position) * part // (quantities - 1)
                slot.order[k] = quantity if position > 0 else -quantity
            slot.level[k] = action[3 * k]
            slot.grid_cost[k] = -net * (feed_in if net > 0 else retail)

        shuffle(mix(mix(state.key[b], _ARRIVAL), np.uint64(row)), n, arrival)
        if mechanism == 0:
            volume, value, square = clear_cda(
                first, n, slot.order, slot.level, ticks, grid, arrival, 0, slot.traded,
                slot.payment, queue, head, tail,
            )  # fmt: skip
        else:
            volume, value, square = clear_call(
                first, n, slot.order, slot.level, ticks, grid, levels, arrival, 0, slot.traded,
                slot.payment, head, tail,
            )  # fmt: skip
        slot.moments[3 * b] = volume
        slot.moments[3 * b + 1] = value
        slot.moments[3 * b + 2] = square

        for i in range(n):
            k = first + i
            rest = slot.position[k] - slot.traded[k]
            cost = -rest * (feed_in if rest > 0 else retail) - slot.payment[k]
            slot.cost[k] = cost
            reward[k] = np.float32(-cost * scale)
            state.last_traded[k] = slot.traded[k]
            state.last_payment[k] = slot.payment[k]
        state.last_tariff[b] = tariff
        for j in range(3):
            state.last_moments[3 * b + j] = slot.moments[3 * b + j]

        state.slot[b] += 1
        _profiles(b, n, noise, tables, state)
        _observe(b, n, levels, day, tables, state, observation)
        truncated[b] = state.slot[b] >= horizon
        if truncated[b] and autoreset:
            here = first * FEATURES
            for j in range(n * FEATURES):
                final_observation[here + j] = observation[here + j]
            _next_episode(b, seed, tables, state)
            _clear_memory(b, n, tables, state)
            _profiles(b, n, noise, tables, state)
            _observe(b, n, levels, day, tables, state, observation)
    return -1
