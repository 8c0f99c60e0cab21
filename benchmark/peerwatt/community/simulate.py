"""Simulated communities, after the published skeleton of FairMarket-RL (arXiv 2508.18610).

The papers state the structure (a public daily weather flag omega in {1 sunny, 0 cloudy} whose
intensity kappa = alpha + (1 - alpha) omega scales the day) and not the curves, so the curves are
ours: standard household load profiles (BDEW H0) and a PV bell with the season's day length.

The tables are base profiles. Noise per household and slot is the environment's, drawn anew in
every episode. Data preparation runs this generator; at run time its shipped output is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError
from peerwatt.market.units import QUANTA_PER_KWH

Floats = NDArray[np.float64]

HOURS = 24.0
MINUTES_PER_DAY = 1440
DAYS_PER_YEAR = 365

# Share of the day's energy per clock hour, in percent: BDEW H0, working day (demandlib 0.2.2, MIT).
# fmt: off
H0_SHAPES = np.array(
    [
        # winter: 1 November to 20 March
        [
            2.28, 1.69, 1.55, 1.51, 1.53, 1.83, 3.52, 5.06, 5.22, 4.82, 4.55, 4.63,
            5.11, 5.07, 4.51, 4.10, 4.12, 5.03, 6.50, 7.32, 6.58, 5.52, 4.56, 3.38,
        ],
        # transition: the days between
        [
            2.47, 1.82, 1.64, 1.60, 1.63, 1.95, 3.45, 4.81, 5.10, 5.04, 4.90, 4.94,
            5.55, 5.40, 4.70, 4.21, 3.94, 4.32, 5.37, 6.38, 6.23, 5.78, 5.03, 3.72,
        ],
        # summer: 15 May to 14 September
        [
            2.62, 1.95, 1.77, 1.67, 1.73, 2.11, 3.48, 4.61, 5.03, 5.12, 4.95, 5.04,
            5.61, 5.43, 4.68, 4.22, 4.08, 4.35, 5.05, 5.87, 5.92, 5.60, 5.14, 3.98,
        ],
    ]
)
# fmt: on
# First day of year (0 = 1 January) of winter's end, summer, summer's end, winter's start.
SEASON_STARTS = (79, 134, 257, 304)
SEASON_SHAPE = np.array([0, 1, 2, 1, 0])


@dataclass(frozen=True)
class SimulatedCommunity:
    """Parameters of a simulated community that starts on Monday, 1 January, at 00:00."""

    seed: int
    """Seed of the `numpy.random.Generator` that draws homes and weather."""
    households: int = 8
    """Number of homes. Each gets a PV table; the task card decides which homes keep it."""
    days: int = 364
    """Length in days; at most 365."""
    slot_minutes: int = 60
    """Length of a slot in minutes; divides 60."""
    daily_load_kwh: tuple[float, float] = (20.0, 28.0)
    """Bounds of a home's mean load in kWh per day, drawn uniformly."""
    shape_shift_hours: float = 0.75
    """Standard deviation in hours of a home's shift of its daily load shape, cut at two of them."""
    weekend_delay_hours: float = 1.0
    """Hours by which Saturday and Sunday start later than working days."""
    seasonal_load: float = 0.15
    """Winter peak of the daily load above its yearly mean, as a share (a cosine over the year)."""
    cloudy_load: float = 0.05
    """Extra load on a cloudy day (light, cooking, time at home), as a share."""
    pv_kwp: tuple[float, float] = (4.0, 6.0)
    """Bounds of a home's PV size in kWp, drawn uniformly."""
    pv_peak_kw: float = 0.75
    """AC power in kW per kWp when a clear-sky sun stands square on the panel."""
    latitude_degrees: float = 42.3
    """Latitude, north positive: sets the length of the day."""
    tilt_degrees: float = 30.0
    """Tilt of the panels towards the equator."""
    cloudy_intensity: float = 0.35
    """alpha of kappa = alpha + (1 - alpha) omega: PV of a cloudy day as a share of a sunny one."""
    sunny_after_sunny: float = 0.75
    """Probability that a sunny day follows a sunny day."""
    sunny_after_cloudy: float = 0.5
    """Probability that a sunny day follows a cloudy day."""

    def __post_init__(self) -> None:
        """Refuse parameters outside their domain, naming the field."""
        shares = ("cloudy_intensity", "sunny_after_sunny", "sunny_after_cloudy")
        checks = {
            "households": self.households >= 1,
            "days": 1 <= self.days <= DAYS_PER_YEAR,
            "slot_minutes": self.slot_minutes >= 1 and 60 % self.slot_minutes == 0,
            "daily_load_kwh": 0 < self.daily_load_kwh[0] <= self.daily_load_kwh[1],
            "shape_shift_hours": self.shape_shift_hours >= 0,
            "seasonal_load": 0 <= self.seasonal_load < 1,
            "cloudy_load": self.cloudy_load >= 0,
            "pv_kwp": 0 <= self.pv_kwp[0] <= self.pv_kwp[1],
            "pv_peak_kw": self.pv_peak_kw >= 0,
            "latitude_degrees": -90 < self.latitude_degrees < 90,
            **{name: 0 <= getattr(self, name) <= 1 for name in shares},
        }
        for name, good in checks.items():
            if not good:
                raise PeerWattError(
                    f"simulated community: {name} = {getattr(self, name)!r} is out of its domain."
                )


def simulate(community: SimulatedCommunity) -> dict[str, NDArray[Any]]:
    """Return the profile tables of `community`.

    `load` and `pv` are int32 [slots, homes] in quanta of 2**-10 kWh per slot, `sunny` and `weekday`
    (0 = Monday) int8 [days], `homes` text [homes], `first_day` text. There is no `retail`: the
    card of a simulated task states its tariff.
    """
    generator = np.random.default_rng(community.seed)
    homes = community.households
    # The order of these draws is part of the shipped data: add new ones at the end.
    daily_load = generator.uniform(*community.daily_load_kwh, size=homes)
    shift = community.shape_shift_hours * generator.standard_normal(homes).clip(-2, 2)
    kwp = generator.uniform(*community.pv_kwp, size=homes)
    sunny = draw_weather(community, generator)

    weekday = np.arange(community.days) % 7
    load = load_profile(community, sunny, weekday, shift) * daily_load
    pv = pv_profile(community, sunny)[..., None] * kwp
    return {
        "load": np.rint(load * QUANTA_PER_KWH).astype(np.int32).reshape(-1, homes),
        "pv": np.rint(pv * QUANTA_PER_KWH).astype(np.int32).reshape(-1, homes),
        "sunny": sunny.astype(np.int8),
        "weekday": weekday.astype(np.int8),
        "homes": np.array([str(home + 1) for home in range(homes)]),
        "first_day": np.array("01-01"),
    }


def draw_weather(
    community: SimulatedCommunity, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return omega [days]: a two-state Markov chain, started from its stationary share."""
    stay, recover = community.sunny_after_sunny, community.sunny_after_cloudy
    leave = 1 - stay
    probability = recover / (recover + leave) if recover + leave > 0 else 1.0
    sunny = np.empty(community.days, dtype=np.bool_)
    for day, draw in enumerate(generator.random(community.days)):
        sunny[day] = draw < probability
        probability = stay if sunny[day] else recover
    return sunny


def load_profile(
    community: SimulatedCommunity,
    sunny: NDArray[np.bool_],
    weekday: NDArray[np.int64],
    shift: Floats,
) -> Floats:
    """Return the load [days, slots, homes] in kWh per slot for homes of 1 kWh per mean day."""
    slots = MINUTES_PER_DAY // community.slot_minutes
    hour = (np.arange(slots) + 0.5) * (HOURS / slots)
    delay = np.where(weekday >= 5, community.weekend_delay_hours, 0.0)
    when = hour[None, :, None] - delay[:, None, None] - shift
    season = SEASON_SHAPE[np.searchsorted(SEASON_STARTS, np.arange(community.days), side="right")]
    shape = np.empty(when.shape)
    for index, percent in enumerate(H0_SHAPES):
        # A table value stands for the middle of its hour; linear interpolation keeps the day's sum.
        shape[season == index] = np.interp(
            when[season == index], np.arange(24) + 0.5, percent / percent.sum(), period=HOURS
        ) * (HOURS / slots)
    year = np.cos(2 * np.pi * (np.arange(community.days) - 15) / DAYS_PER_YEAR)
    day_factor = (1 + community.seasonal_load * year) * (1 + community.cloudy_load * ~sunny)
    return shape * day_factor[:, None, None]


def pv_profile(community: SimulatedCommunity, sunny: NDArray[np.bool_]) -> Floats:
    """Return PV [days, slots] in kWh per slot and kWp: a sin^2 bell from sunrise to sunset.

    The bell is integrated over each slot. Its height is the clear-sky noon power on the tilted
    panel times the weather's intensity kappa; solar noon is at 12:00.
    """
    day = np.arange(community.days)
    declination = np.radians(-23.44) * np.cos(2 * np.pi * (day + 10) / DAYS_PER_YEAR)
    latitude = np.radians(community.latitude_degrees)
    tilt = np.radians(community.tilt_degrees) * np.sign(latitude)
    half_day = np.arccos((-np.tan(latitude) * np.tan(declination)).clip(-1, 1)) * 12 / np.pi
    noon_kw = community.pv_peak_kw * np.cos(latitude - declination - tilt).clip(0, None)
    alpha = community.cloudy_intensity
    height = noon_kw * (alpha + (1 - alpha) * sunny)

    slots = MINUTES_PER_DAY // community.slot_minutes
    edge = np.linspace(-12.0, 12.0, slots + 1)
    # Angle of the bell: 0 at sunrise, pi at sunset; a polar night has no angle at all.
    length = np.maximum(2 * half_day, 1e-9)[:, None]
    angle = np.pi * ((edge + half_day[:, None]) / length).clip(0, 1)
    energy = (angle / 2 - np.sin(2 * angle) / 4) * length / np.pi
    return np.diff(energy, axis=1).clip(0, None) * height[:, None]
