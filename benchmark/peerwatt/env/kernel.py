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
from peerwatt.market.kernels import clear_cda, lawful
from peerwatt.market.mechanism import INLINED, SCRATCH, SCRATCH_PER_HOUSEHOLD, invoke
from peerwatt.market.units import QUANTA_PER_KWH

U = np.uint64  # a signed index is checked for wraparound, an unsigned one is not

jit = njit(cache=True, error_model="numpy", nogil=True)
inlined = njit(cache=True, error_model="numpy", nogil=True, forceinline=True)

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
OBSERVATION_BOUNDS = (
    *((0.0, np.inf),) * 2,  # load, pv
    *((-np.inf, np.inf),) * 4,  # net, forecasts
    (0.0, 1.0),  # state_of_charge
    (0.0, np.inf),  # storage_capacity
    *((-1.0, 1.0),) * 2,  # hour
    *((0.0, 1.0),) * 6,  # weekend, sunny, tariffs
    *((0.0, np.inf),) * 2,  # last_sold, last_bought
    *((0.0, 1.0),) * 2,  # last prices
    (0.0, np.inf),  # last_public_volume
)
"""Lowest and highest value of each."""
FEATURES = len(OBSERVATION_NAMES)
FORECAST_FEATURES = 3  # forecast_net_next_slot .. _12h, from a table
PUBLIC_FEATURES = 8  # hour_sin .. retail_next_6h, from a table

PLAYED, UNLAWFUL = -1, -2
"""What `step_slots` returns, unless it is the index of a bad action."""

_F = U(FEATURES)
_KWH = np.float32(1.0 / QUANTA_PER_KWH)
_ONE = 1 << 16
_LOAD, _PV, _ARRIVAL, _START = 1, 2, 3, 4  # purposes of draws within an episode


class Tables(NamedTuple):
    """What never changes during a run: the community, its profiles and its tariff."""

    load: NDArray[np.int32]  # [T * N] quanta per slot
    pv: NDArray[np.int32]  # [T * N] quanta per slot, 0 without PV
    forecast: NDArray[np.float32]  # [T * N * 3] forecast features
    public: NDArray[np.float32]  # [T * 8] public features
    tariff: NDArray[np.int64]  # [T] row of `ticks` that holds in the slot
    ticks: NDArray[np.int64]  # [P * K] price grids, ascending from feed-in to retail
    capacity: NDArray[np.int64]  # [N] quanta, 0 without storage
    power: NDArray[np.int64]  # [N] quanta per slot, on the side of the household
    efficiency: NDArray[np.int64]  # [N] one-way efficiency in 1 / 65536
    lowest: NDArray[np.int64]  # [N] lower bound of the state of charge, quanta
    highest: NDArray[np.int64]  # [N] upper bound
    starts: NDArray[np.int64]  # [W] first slots of the windows of the split


class State(NamedTuple):
    """What a slot changes, beside its record. Flat arrays over communities or households."""

    key: NDArray[np.uint64]  # [B] of the episode
    episode: NDArray[np.int64]  # [B] episodes begun, less one
    start: NDArray[np.int64]  # [B] table row of the episode's first slot
    slot: NDArray[np.int64]  # [B] slot within the episode
    charge_level: NDArray[np.int64]  # [B * N] state of charge, quanta
    load_now: NDArray[np.int64]  # [B * N] load of the slot about to be played
    pv_now: NDArray[np.int64]  # [B * N]


class Slot(NamedTuple):
    """Record of the slot just played. Flat arrays; quanta and quanta x ticks."""

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


@inlined
def _ratio(part, whole):
    """Return the ratio of two integers in single precision."""
    return np.float32(part) / np.float32(whole)


@inlined
def _begin(b, n, seed, sampled, tables, state):
    """Put community b at the first slot of an episode, batteries at their lower bound.

    `sampled` draws the next training episode; otherwise key and start in `state` are replayed.
    """
    if sampled:
        state.episode[b] += 1
        key = episode_key(seed, TRAINING, b, state.episode[b])
        state.key[b] = key
        state.start[b] = tables.starts[below(mix(key, _START), tables.starts.size)]
    state.slot[b] = 0
    for i in range(U(n)):
        state.charge_level[b * U(n) + i] = tables.lowest[i]


@inlined
def _observe(b, n, levels, noise, tables, state, slot, out):
    """Realise load and PV of the slot about to be played, and write `out[b * N * F ...]`.

    `slot` records the slot before; in the first slot of an episode there is none.
    """
    households = U(n)
    first = b * households
    row = U(state.start[b] + state.slot[b])
    profile = row * households
    remembers = state.slot[b] > 0
    load_key = mix(state.key[b], _LOAD)
    pv_key = mix(state.key[b], _PV)

    # Prices as shares of the band [feed-in, retail]: exact numerators, so that 0 <= share <= 1.
    grid = U(slot.tariff[b] * levels)
    feed_in = tables.ticks[grid]
    spread = tables.ticks[grid + U(levels - 1)] - feed_in
    volume = slot.moments[U(3) * b] if remembers else 0
    above = slot.moments[U(3) * b + U(1)] - feed_in * volume
    above = min(max(above, 0), spread * volume)  # the mechanism may price outside the band
    public_price = _ratio(above, spread * volume) if volume > 0 else np.float32(0.0)
    public_volume = np.float32(volume) * _KWH / np.float32(n)

    for i in range(households):
        k = first + i
        load = np.int64(tables.load[profile + i])
        pv = np.int64(tables.pv[profile + i])
        if noise > 0:
            load = _noisy(load, noise, mix(load_key, profile + i))
            if pv > 0:
                pv = _noisy(pv, noise, mix(pv_key, profile + i))
        state.load_now[k] = load
        state.pv_now[k] = pv

        o = k * _F
        out[o] = np.float32(load) * _KWH
        out[o + U(1)] = np.float32(pv) * _KWH
        out[o + U(2)] = np.float32(pv) * _KWH - np.float32(load) * _KWH
        for j in range(FORECAST_FEATURES):
            out[o + U(3 + j)] = tables.forecast[(profile + i) * U(FORECAST_FEATURES) + U(j)]
        capacity = tables.capacity[i]
        charged = _ratio(state.charge_level[k], capacity)
        out[o + U(6)] = charged if capacity > 0 else np.float32(0.0)
        out[o + U(7)] = np.float32(capacity) * _KWH * np.float32(0.1)
        for j in range(PUBLIC_FEATURES):
            out[o + U(8 + j)] = tables.public[row * U(PUBLIC_FEATURES) + U(j)]
        traded = slot.traded[k] if remembers else 0
        own = abs(slot.payment[k]) - feed_in * abs(traded)
        own_price = _ratio(min(max(own, 0), spread * abs(traded)), spread * abs(traded))
        out[o + U(16)] = np.float32(max(traded, 0)) * _KWH
        out[o + U(17)] = np.float32(max(-traded, 0)) * _KWH
        out[o + U(18)] = own_price if traded != 0 else np.float32(0.0)
        out[o + U(19)] = public_price
        out[o + U(20)] = public_volume


@inlined
def _noisy(quanta, noise, bits):
    """Return `quanta` times 1 + centred noise, rounded down and never negative."""
    return (quanta * max(0, _ONE + ((centred(bits) * noise) >> 16))) >> 16


@jit
def reset_slots(mask, n, levels, noise, seed, sampled, tables, state, slot, observation):
    """Begin an episode in the communities where `mask` [B] is set, and observe them."""
    for b in range(U(mask.size)):
        if mask[b]:
            _begin(b, n, seed, sampled, tables, state)
            _observe(b, n, levels, noise, tables, state, slot, observation)


@inlined
def _divide(dividend, divisor):
    """Return `dividend // divisor` of non-negative numbers; signed division costs far more."""
    return np.int64(U(dividend) // U(divisor))


@inlined
def _battery(code, net, level, power, efficiency, lowest, highest):
    """Return (charge, discharge, change of the state of charge) in quanta.

    Branches that depend on the action are avoided: the processor cannot foresee them.
    """
    wanted = net if code == FOLLOW else (power * _QUARTERS[U(code)]) >> 2
    charge = min(max(wanted, 0), power)
    stored = (charge * efficiency) >> 16
    room = highest - level
    if room <= 0:
        charge, stored = 0, 0
    elif stored > room:  # charge the most that leaves (charge * efficiency) >> 16 <= room
        charge, stored = _divide(((room + 1) << 16) - 1, efficiency), room
    discharge = min(min(max(-wanted, 0), power), ((level - lowest) * efficiency) >> 16)
    drawn = _divide((discharge << 16) + efficiency - 1, efficiency)
    return charge, discharge, stored - drawn


@inlined
def _first_bad(action, price_levels, quantity_levels, battery_levels):
    """Return the index of the first action outside its space, or -1."""
    bad = False
    for k in range(U(0), U(action.size), U(3)):
        bad |= U(action[k]) >= U(price_levels)  # a negative number is a huge unsigned one
        bad |= U(action[k + U(1)]) >= U(quantity_levels)
        bad |= U(action[k + U(2)]) >= U(battery_levels)
    if bad:
        sizes = (price_levels, quantity_levels, battery_levels)
        for k in range(action.size):
            if action[k] < 0 or action[k] >= sizes[k % 3]:
                return k
    return -1


@jit
def step_slots(
    action, price_levels, quantity_levels, battery_levels, mechanism, parameters, n, horizon, noise,
    seed, sampled, scale, tables, state, slot, reward, grid_reward, truncated, observation,
    final_observation,
):  # fmt: skip
    """Play one slot in every community; see the module.

    Args (beyond the flat arrays of `Tables`, `State`, `Slot`): `action` [B * N * 3] int64, address
    and parameters of a `CompiledMechanism`, `horizon` slots per episode, `scale` reward per
    quantum x tick, `reward` and `grid_reward` [B * N], `truncated` [B] bool. If episodes are
    `sampled`, a finished community begins its next one at once: `observation` is then the first of
    the new episode and `final_observation` the last of the old. Otherwise it stops there, and its
    last observation stays: what follows the window may belong to another split.

    Returns the index of the first action outside its space, in which case nothing has changed;
    `UNLAWFUL` if the mechanism's outcome is no clearing, in the middle of the slot; else `PLAYED`.
    """
    bad = _first_bad(action, price_levels, quantity_levels, battery_levels)
    if bad >= 0:
        return bad
    households = U(n)
    whole = quantity_levels - 1
    arrival = np.empty(n, np.int64)
    scratch = np.empty(SCRATCH_PER_HOUSEHOLD * n + SCRATCH, np.int64)
    queue = scratch[:n]
    head = scratch[n : n + 128]
    tail = scratch[n + 128 : n + 256]
    for b in range(U(truncated.size)):
        first = b * households
        row = U(state.start[b] + state.slot[b])
        tariff = tables.tariff[row]
        grid = U(tariff * price_levels)
        feed_in = tables.ticks[grid]
        retail = tables.ticks[grid + U(price_levels - 1)]
        slot.tariff[b] = tariff
        for i in range(households):
            k = first + i
            load = state.load_now[k]
            pv = state.pv_now[k]
            net = pv - load
            charge, discharge, stored = 0, 0, 0
            if tables.capacity[i] > 0:
                level = state.charge_level[k]
                charge, discharge, stored = _battery(
                    action[U(3) * k + U(2)], net, level, tables.power[i], tables.efficiency[i],
                    tables.lowest[i], tables.highest[i],
                )  # fmt: skip
                state.charge_level[k] = level + stored
            position = net - charge + discharge
            quantity = _divide(abs(position) * action[U(3) * k + U(1)], whole)
            slot.load[k] = load
            slot.pv[k] = pv
            slot.charge[k] = charge
            slot.discharge[k] = discharge
            slot.stored[k] = stored
            slot.position[k] = position
            slot.order[k] = quantity if position > 0 else -quantity
            slot.level[k] = action[U(3) * k]
            grid_cost = -net * (feed_in if net > 0 else retail)
            slot.grid_cost[k] = grid_cost
            grid_reward[k] = np.float32(-grid_cost * scale)

        shuffle(mix(mix(state.key[b], _ARRIVAL), row), n, arrival)
        if mechanism == INLINED:
            volume, value, square = clear_cda(
                first, n, slot.order, slot.level, tables.ticks, grid, arrival, 0, slot.traded,
                slot.payment, queue, head, tail,
            )  # fmt: skip
        else:
            last = first + households
            volume, value, square = invoke(
                mechanism, slot.order[first:last], slot.level[first:last],
                tables.ticks[grid : grid + U(price_levels)], arrival, parameters,
                slot.traded[first:last], slot.payment[first:last], scratch,
            )  # fmt: skip
            if not lawful(first, last, slot.order, slot.traded, slot.payment, volume, value):
                return UNLAWFUL
        slot.moments[U(3) * b] = volume
        slot.moments[U(3) * b + U(1)] = value
        slot.moments[U(3) * b + U(2)] = square

        for i in range(households):
            k = first + i
            rest = slot.position[k] - slot.traded[k]
            cost = -rest * (feed_in if rest > 0 else retail) - slot.payment[k]
            slot.cost[k] = cost
            reward[k] = np.float32(-cost * scale)

        state.slot[b] += 1
        finished = state.slot[b] >= horizon
        truncated[b] = finished
        if sampled or not finished:
            _observe(b, n, price_levels, noise, tables, state, slot, observation)
        if sampled and finished:
            for j in range(first * _F, (first + households) * _F):
                final_observation[j] = observation[j]
            _begin(b, n, seed, sampled, tables, state)
            _observe(b, n, price_levels, noise, tables, state, slot, observation)
    return PLAYED
