"""Tables of load, PV, tariff and weather: one row per slot, in exact integer units."""

from __future__ import annotations

import csv
import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError
from peerwatt.market.units import QUANTA_PER_KWH

MAX_QUANTA = 1000 * QUANTA_PER_KWH
"""Largest load or PV of a home in a slot; more is a wrong unit, not a household."""

MAX_TICKS = 1 << 24
"""Highest price in ticks; with more, the tick is too fine for exact 64-bit money."""


class ProfileTable(NamedTuple):
    """Profiles of H homes over T slots."""

    homes: list[str]
    load: NDArray[np.int32]  # [T, H] quanta per slot
    pv: NDArray[np.int32]  # [T, H] quanta per slot, as if every home kept its PV
    retail: NDArray[np.int32] | None  # [T] ticks of 0.0001 per kWh, if the data bring a tariff
    sunny: NDArray[np.int8]  # [days] public day-ahead weather flag
    weekday: NDArray[np.int8]  # [days] 0 = Monday

    def digest(self) -> str:
        """Return the SHA-256 over names, shapes and little-endian values of all arrays."""
        digest = hashlib.sha256("\n".join(self.homes).encode())
        for name, array in zip(self._fields[1:], self[1:], strict=True):
            if array is None:
                continue
            values = np.ascontiguousarray(array)
            values = values.astype(values.dtype.newbyteorder("<"))
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()


def read_npz(path: Path) -> ProfileTable:
    """Read a table that `peerwatt_tasks.prepare` wrote.

    Raises:
        PeerWattError: the file is missing, damaged, or an array is not what it should be.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except OSError as error:
        reason = error.strerror or str(error)
        raise PeerWattError(f"cannot read profiles {path}: {reason}.") from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        raise PeerWattError(
            f"profiles {path} are no .npz file of plain arrays: write it with numpy.savez."
        ) from None
    missing = {"homes", "load", "pv", "sunny", "weekday"} - set(content)
    if missing:
        raise PeerWattError(f"profiles {path} lack the arrays {', '.join(sorted(missing))}.")
    load, pv = content["load"], content["pv"]
    homes = [str(home) for home in content["homes"].reshape(-1)]
    if len(set(homes)) < len(homes):
        raise PeerWattError(f"profiles {path}: the names of the homes must differ.")
    for name, array in (("load", load), ("pv", pv)):
        if array.dtype.kind != "i" or array.shape != (len(array), len(homes)) or not array.size:
            raise PeerWattError(
                f"profiles {path}: {name} is {array.dtype} {array.shape}, expected integers "
                f"[slots, {len(homes)} homes]."
            )
        if array.min() < 0 or array.max() > MAX_QUANTA:
            raise PeerWattError(f"profiles {path}: {name} leaves 0..{MAX_QUANTA} quanta.")
    if pv.shape != load.shape:
        raise PeerWattError(
            f"profiles {path}: pv {pv.shape} and load {load.shape} differ in shape."
        )
    retail = content.get("retail")
    for name, length in (("sunny", None), ("weekday", None), ("retail", len(load))):
        array = content.get(name)
        if array is None:
            continue
        if array.dtype.kind != "i" or array.ndim != 1 or length not in (None, len(array)):
            raise PeerWattError(
                f"profiles {path}: {name} is {array.dtype} {array.shape}, expected integers "
                f"[{length or 'days'}]."
            )
        limit = {"sunny": 1, "weekday": 6, "retail": MAX_TICKS}[name]
        if array.min(initial=0) < 0 or array.max(initial=0) > limit:
            raise PeerWattError(f"profiles {path}: {name} leaves 0..{limit}.")
    return ProfileTable(
        homes,
        load.astype(np.int32),
        pv.astype(np.int32),
        None if retail is None else retail.astype(np.int32),
        content["sunny"].astype(np.int8),
        content["weekday"].astype(np.int8),
    )


def _read_csv(path: Path) -> tuple[list[str], NDArray[np.int32]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise PeerWattError(f"cannot read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise PeerWattError(f"{path} is not a CSV file in UTF-8: {error}.") from None
    while rows and not rows[-1]:
        rows.pop()
    if len(rows) < 2:
        raise PeerWattError(f"{path} is empty: expected a line of home names, then kWh per slot.")
    homes = [name.strip() for name in rows[0]]
    if len(set(homes)) < len(homes) or "" in homes:
        raise PeerWattError(f"{path}, line 1: the names of the homes must be there and differ.")
    table = np.zeros((len(rows) - 1, len(homes)), np.int32)
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(homes):
            raise PeerWattError(f"{path}, line {line}: {len(row)} values, expected {len(homes)}.")
        for column, text in enumerate(row):
            try:
                value = float(text)
            except ValueError:
                value = float("nan")
            if not 0 <= value <= MAX_QUANTA / QUANTA_PER_KWH:
                raise PeerWattError(
                    f"{path}, line {line}, home {homes[column]!r}: {text.strip()!r} is no energy "
                    f"of a home in a slot; expected kWh from 0 to {MAX_QUANTA // QUANTA_PER_KWH}."
                )
            table[line - 2, column] = round(value * QUANTA_PER_KWH)
    return homes, table


def read_csv(
    load: Path, pv: Path | None, slots_per_day: int, first_weekday: int = 0
) -> ProfileTable:
    """Read a user's own profiles; see `ProfilesCard` for the format.

    Without weather data the public flag of a day tells how yesterday was, for it may know no more:
    1 if yesterday's PV of all homes was at least 70 % of the best day among the 15 days before
    today (yesterday is one of them), else 0. The first day has 1, and so has every day without
    PV data.

    Raises:
        PeerWattError: NaN, negative or absurd values, ragged lines, no whole number of days, or
            files that do not match; the sentence names file, line and home.
    """
    homes, table = _read_csv(load)
    generation = np.zeros_like(table)
    if pv is not None:
        pv_homes, generation = _read_csv(pv)
        if pv_homes != homes or generation.shape != table.shape:
            raise PeerWattError(f"{pv} must have the homes and the number of lines of {load}.")
    days, rest = divmod(len(table), slots_per_day)
    if rest:
        raise PeerWattError(
            f"{load} has {len(table)} lines of energy, {rest} too many for {days} whole days: "
            f"expected {slots_per_day} a day, as episode.slot_minutes says."
        )
    daily = generation.reshape(days, -1).sum(axis=1, dtype=np.int64)
    sunny = np.ones(days, np.int8)
    for day in range(1, days):
        best = daily[max(0, day - 15) : day].max()
        sunny[day] = daily[day - 1] * 10 >= best * 7
    weekday = ((first_weekday + np.arange(days)) % 7).astype(np.int8)
    return ProfileTable(homes, table, generation, None, sunny, weekday)
