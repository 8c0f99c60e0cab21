"""Fontana homes: from the published wheel to integer arrays.

The hour labels of the files are clock hours (daylight saving time included) and name the hour's
start; label 24 is the first row, so it is 00:00 of 1 August. This was checked: PV is centred on
12:53 in August and 11:56 in January, which is solar noon there on the clock, and the evening price
holds at labels 16 to 20, which is the 16:00-21:00 of the tariff. So day d is rows 24d .. 24d + 23.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError
from peerwatt.market.units import QUANTA_PER_KWH

WHEEL_SHA256 = "cde0cdf53ace908cba41c237335d91bc1434e54deaf6086047e4cf7589c0067b"
FOLDER = "citylearn/data/citylearn_challenge_2022_phase_all"
LOAD = "Equipment Electric Power [kWh]"
PV = "Solar Generation [W/kW]"
PRICE = "Electricity Pricing [$]"
WEATHER_STATION = "12"
"""A dropped home whose PV column is good: it serves as the neighbourhood's public light meter."""

HOURS = 24
DAYS = 365
TICKS_PER_DOLLAR = 10_000
FIRST_DAY = "08-01"

MAX_PV_CORRELATION = 0.9
MAX_EMPTY_NIGHTS = 0.9
EMPTY_KWH = 0.01
NIGHT_HOURS = (22, 23, 0, 1, 2, 3)

SUNNY_SHARE = 0.7
SUNNY_WINDOW_DAYS = 15

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Screen:
    """Why a home is kept or dropped; figures computed from the data."""

    home: str
    """Number of the home in the wheel."""
    pv_correlation: float
    """Pearson correlation of its hourly load with the hourly PV of all homes together."""
    empty_nights: float
    """Share of its hours from 22:00 to 04:00 with a load under 0.01 kWh."""

    @property
    def kept(self) -> bool:
        """False where the load column cannot be a household's load."""
        return self.pv_correlation <= MAX_PV_CORRELATION and self.empty_nights <= MAX_EMPTY_NIGHTS

    def sentence(self) -> str:
        """Return the verdict and its figures."""
        return (
            f"home {self.home}: {'kept' if self.kept else 'DROPPED'}; load correlates "
            f"{self.pv_correlation:+.2f} with community PV (limit {MAX_PV_CORRELATION:+.2f}), "
            f"{self.empty_nights:.0%} of night hours under {EMPTY_KWH} kWh "
            f"(limit {MAX_EMPTY_NIGHTS:.0%})"
        )


def screen_homes(homes: Sequence[str], load: Floats, pv: Floats) -> list[Screen]:
    """Judge each home from `load` and `pv`, both [T, H] in kWh per hour from 00:00 on.

    A home with a solar curve in its load column follows the community's PV and is empty at night.
    Either sign is enough: no home with people in it comes near one of them.
    """
    community = pv.sum(axis=1)
    night = np.isin(np.arange(len(load)) % HOURS, NIGHT_HOURS)
    return [
        Screen(
            home,
            float(np.corrcoef(load[:, column], community)[0, 1]),
            float((load[night, column] < EMPTY_KWH).mean()),
        )
        for column, home in enumerate(homes)
    ]


def sunny_days(daily_radiation: Floats) -> NDArray[np.int8]:
    """Return 1 for each day with at least 70 % of the most radiation within 15 days of it.

    The running maximum stands for the clear sky of the season. `daily_radiation` is [days], in any
    unit. Households read the flag in the morning, so it acts as a perfect public forecast.
    """
    days = len(daily_radiation)
    clear = [
        daily_radiation[max(0, day - SUNNY_WINDOW_DAYS) : day + SUNNY_WINDOW_DAYS + 1].max()
        for day in range(days)
    ]
    return (daily_radiation >= SUNNY_SHARE * np.array(clear)).astype(np.int8)


def to_quanta(kwh: Floats) -> NDArray[np.int32]:
    """Return `kwh` in quanta of 2**-10 kWh, each value rounded to the nearest."""
    return np.rint(kwh * QUANTA_PER_KWH).astype(np.int32)


def check_wheel(wheel: Path) -> None:
    """Refuse any file but the one that the shipped arrays were made from."""
    try:
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PeerWattError(
            f"cannot read {wheel}: {error.strerror}; get it with "
            "`pip download --no-deps citylearn==1.8.0`."
        ) from error
    if digest != WHEEL_SHA256:
        raise PeerWattError(
            f"{wheel} has SHA-256 {digest}, not {WHEEL_SHA256}: it is not the wheel of "
            "citylearn 1.8.0; get it with `pip download --no-deps citylearn==1.8.0`."
        )


def read_columns(archive: zipfile.ZipFile, name: str, columns: Sequence[str]) -> Floats:
    """Return `columns` of the CSV `name` as [8760, columns], refusing what no meter can say."""
    with archive.open(f"{FOLDER}/{name}") as raw:
        rows = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
        values = np.array([[float(row[column]) for column in columns] for row in rows])
    if values.shape != (DAYS * HOURS, len(columns)):
        raise PeerWattError(f"{name}: expected {DAYS * HOURS} rows, found {len(values)}.")
    bad = np.argwhere(~(values >= 0))
    if len(bad):
        row, column = bad[0]
        raise PeerWattError(
            f"{name}, data row {row + 1}, column {columns[column]!r}: "
            f"expected a number of at least 0, found {values[row, column]}."
        )
    return values


def read_weekdays(archive: zipfile.ZipFile) -> NDArray[np.int8]:
    """Return the weekday of each day, 0 = Monday, after checking that the calendar has no hole."""
    calendar = read_columns(archive, "Building_1.csv", ("Month", "Hour", "Day Type"))
    by_day = calendar.reshape(DAYS, HOURS, 3)
    # The row at 00:00 still carries the date of the evening before, as label 24: leave it out.
    day_type = by_day[:, 1:, 2]
    weekday = np.arange(DAYS) % 7
    in_order = (
        by_day[0, 1, 0] == 8
        and np.array_equal(by_day[..., 1], np.tile(np.r_[HOURS, 1:HOURS], (DAYS, 1)))
        and bool((day_type == weekday[:, None] + 1).all())
    )
    if not in_order:
        raise PeerWattError(
            "Building_1.csv: the rows do not run hour by hour from Monday, 1 August, 00:00."
        )
    return weekday.astype(np.int8)


def fontana_arrays(wheel: Path) -> tuple[dict[str, NDArray[Any]], list[Screen]]:
    """Return the arrays of `fontana.npz` and the verdict on every home of the wheel."""
    check_wheel(wheel)
    with zipfile.ZipFile(wheel) as archive:
        schema = json.loads(archive.read(f"{FOLDER}/schema.json"))
        buildings = schema["buildings"]
        tables = [
            read_columns(archive, building["energy_simulation"], (LOAD, PV))
            for building in buildings.values()
        ]
        kilowatts = [
            float(building["pv"]["attributes"]["nominal_power"]) for building in buildings.values()
        ]
        price = read_columns(archive, "pricing.csv", (PRICE,))[:, 0]
        weekday = read_weekdays(archive)
    homes = [name.removeprefix("Building_") for name in buildings]
    load = np.stack([table[:, 0] for table in tables], axis=1)
    pv = np.stack([table[:, 1] for table in tables], axis=1) * np.array(kilowatts) / 1000
    screened = screen_homes(homes, load, pv)
    keep = np.array([screen.kept for screen in screened])
    arrays: dict[str, NDArray[Any]] = {
        "load": to_quanta(load[:, keep]),
        "pv": to_quanta(pv[:, keep]),
        "retail": np.rint(price * TICKS_PER_DOLLAR).astype(np.int32),
        # The weather file of the wheel is another year's: it says nothing about these homes' PV.
        "sunny": sunny_days(pv[:, homes.index(WEATHER_STATION)].reshape(DAYS, HOURS).sum(axis=1)),
        "weekday": weekday,
        "homes": np.array(homes)[keep],
        "first_day": np.array(FIRST_DAY),
    }
    return arrays, screened
