"""A loaded task: its card, its community in the kernel's units, and its content hash."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peerwatt.community.card import SPLITS, BatteryCard, Split, TaskCard, read_card
from peerwatt.community.profiles import MAX_TICKS, ProfileTable, read_csv, read_npz
from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.market.clearing import price_grid
from peerwatt.market.units import QUANTA_PER_KWH
from peerwatt.plugins.loader import load_mechanism

EFFICIENCY_ONE = 1 << 16
DAYS_PER_WEEK = 7
DATA_TICK = 0.0001

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Community:
    """N households and T slots of their profiles, in quanta and ticks.

    Its arrays become read-only: whoever holds a task, such as an algorithm, cannot change the data
    that its content hash stands for.
    """

    groups: tuple[str, ...]  # [N] group of each household
    homes: tuple[str, ...]  # [N] name of each household's profile
    load: NDArray[np.int32]  # [T, N] quanta per slot
    pv: NDArray[np.int32]  # [T, N] quanta per slot, 0 without PV
    capacity: Ints  # [N] quanta, 0 without storage
    power: Ints  # [N] quanta per slot
    efficiency: Ints  # [N] one-way, in 1 / 65536
    lowest: Ints  # [N] bounds of the state of charge, quanta
    highest: Ints  # [N]
    feed_in: int  # ticks
    retail: Ints  # [T] ticks
    sunny: NDArray[np.int8]  # [days]
    weekday: NDArray[np.int8]  # [days]

    def __post_init__(self) -> None:
        """Make all arrays read-only."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def size(self) -> int:
        """Number of households N."""
        return len(self.groups)

    @property
    def has_storage(self) -> bool:
        """True if any household has a battery."""
        return bool(self.capacity.any())


@dataclass(frozen=True)
class Task:
    """An immutable task. `content_hash` covers the card and every value of its data."""

    card: TaskCard
    community: Community
    content_hash: str

    @property
    def name(self) -> str:
        """Name with version, such as `pilot-v1`."""
        return self.card.name

    @property
    def slots_per_day(self) -> int:
        """Slots in a day."""
        return 24 * 60 // self.card.episode.slot_minutes

    @property
    def horizon(self) -> int:
        """Slots in an episode."""
        return self.card.episode.days * self.slots_per_day

    @property
    def money_unit(self) -> float:
        """Money of one quantum x tick, in the task's currency."""
        return self.card.tariff.tick / QUANTA_PER_KWH

    def weeks(self, split: Split) -> list[int]:
        """Return the whole weeks of the profiles that belong to `split`.

        Raises:
            PeerWattError: there is no such split.
        """
        if split not in SPLITS:
            raise unknown_name("split", str(split), SPLITS)
        cycle = self.card.splits.cycle
        weeks = len(self.community.retail) // self.slots_per_day // DAYS_PER_WEEK
        return [week for week in range(weeks) if cycle[week % len(cycle)] == split]

    def training_starts(self, split: Split = "train") -> Ints:
        """Return the first slots [W] of all windows of `split`.

        A window, the day before it (the forecast is yesterday) and the slot after it (the last
        observation) lie in one week, so nothing of another split is seen.
        """
        days = self.card.episode.days
        return self._starts(split, range(1, DAYS_PER_WEEK - days))

    def evaluation_starts(self, split: Split) -> Ints:
        """Return the first slots [W] of the windows of `split` that do not overlap."""
        days = self.card.episode.days
        return self._starts(split, range(1, DAYS_PER_WEEK - days + 1, days))

    def _starts(self, split: Split, offsets: range) -> Ints:
        days = [DAYS_PER_WEEK * week + day for week in self.weeks(split) for day in offsets]
        return np.array(days, np.int64) * self.slots_per_day


def load_card(path: str | Path) -> Task:
    """Load the task whose card is the TOML file at `path`.

    Raises:
        PeerWattError: the card or its data are wrong; the sentence says where and what to mend.
    """
    path = Path(path)
    card = read_card(path)
    try:
        load_mechanism(*card.market.mechanism_choice)
    except PeerWattError as error:
        raise PeerWattError(f"task card {path}: market.mechanism: {error}") from None
    slots_per_day = 24 * 60 // card.episode.slot_minutes
    profiles = card.profiles
    for index, group in enumerate(card.households):
        if group.pv and profiles.load_csv is not None and profiles.pv_csv is None:
            raise PeerWattError(
                f"task card {path}: households.{index}.pv: group {group.group!r} keeps its PV, but "
                "load_csv holds none: name profiles.pv_csv, or state pv = false."
            )
    if profiles.data is not None:
        table = read_npz(path.parent / profiles.data)
    else:
        assert profiles.load_csv is not None
        table = read_csv(
            path.parent / profiles.load_csv,
            path.parent / profiles.pv_csv if profiles.pv_csv else None,
            slots_per_day,
            profiles.first_weekday,
        )
    community = _community(card, table, slots_per_day, path)
    content = json.dumps(card.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(f"{content}\n{table.digest()}".encode()).hexdigest()
    task = Task(card, community, digest)
    for split in SPLITS:
        windows = len(task.evaluation_starts(split))
        wanted = 1 if split == "train" else card.evaluation.episodes
        if windows < wanted:
            raise PeerWattError(
                f"task card {path}: the {split} split has {windows} windows of "
                f"{card.episode.days} days, expected at least {wanted}; give more weeks of data, "
                "another splits.cycle, or fewer evaluation.episodes."
            )
    return task


def _ticks(price: float, tick: float, key: str, path: Path) -> int:
    ticks = price / tick
    if ticks > MAX_TICKS:
        raise PeerWattError(
            f"task card {path}: {key} {price} is {ticks:g} ticks of {tick}, expected at most "
            f"{MAX_TICKS}: state a larger tariff.tick."
        )
    if abs(round(ticks) * tick - price) > 1e-9:
        raise PeerWattError(
            f"task card {path}: {key} {price} is not a whole number of ticks {tick}."
        )
    return round(ticks)


def _check_battery(battery: BatteryCard, hours: float, place: str) -> None:
    """Refuse a battery that vanishes when energy is counted in quanta."""
    for key, kwh, per_kwh in (
        ("capacity_kwh", battery.capacity_kwh, 1.0),
        ("power_kw", battery.power_kw * hours, hours),
    ):
        if round(kwh * QUANTA_PER_KWH) == 0:
            raise PeerWattError(
                f"{place}.{key}: {getattr(battery, key):g} rounds to nothing, for energy is "
                f"counted in 1/{QUANTA_PER_KWH} kWh: expected at least "
                f"{1 / QUANTA_PER_KWH / per_kwh:.4g}."
            )


def _community(card: TaskCard, table: ProfileTable, slots_per_day: int, path: Path) -> Community:
    tariff = card.tariff
    days, rest = divmod(len(table.load), slots_per_day)
    if len(table.sunny) != days or len(table.weekday) != days:
        raise PeerWattError(
            f"task card {path}: the data have {len(table.load)} slots, {days} days with "
            f"episode.slot_minutes {card.episode.slot_minutes}, but sunny covers "
            f"{len(table.sunny)} days and weekday {len(table.weekday)}."
        )
    if rest:
        raise PeerWattError(
            f"task card {path}: profiles.data: {len(table.load)} slots are {rest} too many for "
            f"{days} whole days: expected {slots_per_day} a day with episode.slot_minutes "
            f"{card.episode.slot_minutes}."
        )
    feed_in = _ticks(tariff.feed_in, tariff.tick, "tariff.feed_in", path)
    if tariff.retail == "data":
        if table.retail is None or abs(tariff.tick - DATA_TICK) > 1e-12:
            raise PeerWattError(
                f'task card {path}: tariff.retail = "data" needs an array retail in the data, '
                f"in ticks of {DATA_TICK}."
            )
        retail = table.retail.astype(np.int64)
    else:
        prices = tariff.retail if isinstance(tariff.retail, tuple) else [float(tariff.retail)] * 24
        hourly = np.array([_ticks(p, tariff.tick, "tariff.retail", path) for p in prices])
        retail = np.tile(np.repeat(hourly, slots_per_day // 24), days).astype(np.int64)
    levels = card.market.price_levels
    narrow = int(retail.min()) - feed_in
    if narrow < levels - 1:
        raise PeerWattError(
            f"task card {path}: tariff.retail: price {retail.min() * tariff.tick:g} must exceed "
            f"feed_in {tariff.feed_in:g} by at least {levels - 1} ticks of {tariff.tick:g}, one "
            "for each step of market.price_levels."
        )

    hours = card.episode.slot_minutes / 60
    groups: list[str] = []
    homes: list[str] = []
    batteries: list[BatteryCard | None] = []
    keeps_pv: list[bool] = []
    for index, group in enumerate(card.households):
        if group.battery is not None:
            _check_battery(group.battery, hours, f"task card {path}: households.{index}.battery")
        for home in group.homes:
            if home not in table.homes:
                raise PeerWattError(
                    f"task card {path}: home {home!r} of group {group.group!r} is not in the data; "
                    f"known: {', '.join(table.homes)}."
                )
            groups.append(group.group)
            homes.append(home)
            batteries.append(group.battery)
            keeps_pv.append(group.pv)
    columns = [table.homes.index(home) for home in homes]

    def quanta(values: list[float]) -> Ints:
        return np.array([round(value * QUANTA_PER_KWH) for value in values], np.int64)

    power = quanta([battery.power_kw * hours if battery else 0.0 for battery in batteries])
    # Household noise at most trebles a value; the kernel sums quantity x price^2 in 64 bits.
    energy = 3.0 * np.maximum(table.load, table.pv)[:, columns].sum(axis=1).max() + power.sum()
    if energy * float(retail.max()) ** 2 >= 2.0**62:
        raise PeerWattError(
            f"task card {path}: tariff.tick: {tariff.tick:g} is too fine for exact 64-bit money at "
            f"a retail price of {retail.max() * tariff.tick:g}: state a larger tick."
        )
    capacity = quanta([battery.capacity_kwh if battery else 0.0 for battery in batteries])
    return Community(
        groups=tuple(groups),
        homes=tuple(homes),
        load=np.ascontiguousarray(table.load[:, columns]),
        pv=np.ascontiguousarray(table.pv[:, columns] * np.array(keeps_pv, np.int32)),
        capacity=capacity,
        power=power,
        efficiency=np.array(
            [
                round((battery.round_trip_efficiency if battery else 1.0) ** 0.5 * EFFICIENCY_ONE)
                for battery in batteries
            ],
            np.int64,
        ),
        lowest=quanta([b.lowest * b.capacity_kwh if b else 0.0 for b in batteries]),
        highest=quanta([b.highest * b.capacity_kwh if b else 0.0 for b in batteries]),
        feed_in=feed_in,
        retail=retail,
        sunny=table.sunny,
        weekday=table.weekday,
    )


def tariff_rows(community: Community, levels: int) -> tuple[Ints, Ints]:
    """Return the distinct price grids [P, levels] and the grid that holds in each slot [T]."""
    prices, rows = np.unique(community.retail, return_inverse=True)
    return price_grid(community.feed_in, prices, levels), rows.astype(np.int64).reshape(-1)
