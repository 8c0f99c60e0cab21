"""Task cards: short TOML files that state a community, its tariff, its market and its splits."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from peerwatt.errors import PeerWattError
from peerwatt.market.units import MAX_PRICE_LEVELS

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


_T = TypeVar("_T")
_Tuple = Annotated[tuple[_T, ...], Field(strict=False)]
"""What a list in the file becomes: a card cannot be changed once it is loaded."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class EpisodeCard(_Part):
    """Length of an episode and of its slots."""

    days: Annotated[int, Field(ge=1, le=5)] = 2
    """Days of an episode."""
    slot_minutes: Literal[15, 30, 60] = 60
    """Minutes of a slot."""


class TariffCard(_Part):
    """What the grid takes and pays. All households of a community have the same tariff."""

    currency: str = "$"
    """Sign of the money, for people to read."""
    tick: Annotated[float, Field(gt=0)] = 0.0001
    """Money per kWh of one price tick; all prices are whole ticks."""
    feed_in: Annotated[float, Field(ge=0)]
    """Money per exported kWh."""
    retail: float | _Tuple[float] | Literal["data"]
    """Money per imported kWh: one number, 24 of them (hour of day), or "data"."""

    @field_validator("retail", mode="before")
    @classmethod
    def _prices(cls, value: Any) -> Any:
        if value == "data":
            return value
        prices = value if isinstance(value, list) and len(value) == 24 else [value]
        for price in prices:
            number = isinstance(price, int | float) and not isinstance(price, bool)
            if not number or not 0 < price < math.inf:
                raise ValueError(
                    'expected a positive price, a list of 24 of them (one an hour), or "data"'
                )
        return value

    @model_validator(mode="after")
    def _feed_in_below_retail(self) -> TariffCard:
        prices = self.retail if isinstance(self.retail, tuple) else [self.retail]
        for price in prices:
            if isinstance(price, float) and self.feed_in >= price:
                raise ValueError(
                    f"feed_in {self.feed_in} must be below retail {price}: otherwise a kWh is "
                    "worth more exported than used, and no trade inside the community pays"
                )
        return self


class MechanismCard(BaseModel):
    """A mechanism with options other than its defaults."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    name: str
    """Name of the mechanism; all other keys are its options."""


class MarketCard(_Part):
    """How the community trades."""

    mechanism: str | MechanismCard = "cda"
    """Name of a mechanism, or a table of its name and options: { name = "call", theta = 0.3 }."""
    price_levels: Annotated[int, Field(ge=3, le=MAX_PRICE_LEVELS - 1)] = 21
    """Levels from feed-in to retail; odd, so that one of them is the mid-market price."""
    quantity_levels: Annotated[int, Field(ge=2, le=21)] = 3
    """Shares of the surplus or deficit that can be quoted: 0, ..., 1."""
    reward_scale: Annotated[float, Field(gt=0)] = 1.0
    """Money per unit of reward."""

    @property
    def mechanism_choice(self) -> tuple[str, dict[str, Any]]:
        """Name of the mechanism, and the options that the card states."""
        if isinstance(self.mechanism, str):
            return self.mechanism, {}
        return self.mechanism.name, dict(self.mechanism.model_extra or {})

    @field_validator("mechanism", mode="before")
    @classmethod
    def _name_or_table(cls, value: Any) -> Any:
        if not isinstance(value.get("name") if isinstance(value, dict) else value, str):
            raise ValueError(
                'expected the name of a mechanism, or a table: { name = "call", theta = 0.3 }'
            )
        return value

    @field_validator("price_levels")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("price_levels must be odd, so that one level is the mid-market price")
        return value


class ProfilesCard(_Part):
    """Where load and PV come from; paths are relative to the card."""

    data: str | None = None
    """A .npz of integer arrays as `peerwatt_tasks.prepare` writes it."""
    load_csv: str | None = None
    """Own data: first line the names of the homes, then one line per slot, load in kWh per slot."""
    pv_csv: str | None = None
    """The same for PV generation in kWh per slot; needed if any group keeps its PV."""
    first_weekday: Annotated[int, Field(ge=0, le=6)] = 0
    """Weekday of the first day of the CSV files, 0 = Monday."""
    train_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Relative standard deviation of household noise per slot on the train split."""
    evaluation_noise: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """The same on the validation and test splits."""

    @model_validator(mode="after")
    def _one_source(self) -> ProfilesCard:
        if (self.data is None) == (self.load_csv is None):
            raise ValueError("name either data or load_csv")
        for key in ("pv_csv", "first_weekday"):
            if self.data is not None and key in self.model_fields_set:
                raise ValueError(f"{key} goes with load_csv only: data bring their own, so drop it")
        return self


class BatteryCard(_Part):
    """A home battery."""

    capacity_kwh: Annotated[float, Field(gt=0, le=1000)]
    """Capacity."""
    power_kw: Annotated[float, Field(gt=0, le=1000)]
    """Most that it can charge or discharge, on the household's side."""
    round_trip_efficiency: Annotated[float, Field(gt=0.1, le=1)] = 0.9
    """Split evenly: the square root of it each way."""
    lowest: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Lower bound of the state of charge, share of capacity; batteries start there."""
    highest: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Upper bound of the state of charge, share of capacity."""

    @model_validator(mode="after")
    def _bounds(self) -> BatteryCard:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest {self.lowest} must be below highest {self.highest}")
        return self


class HouseholdsCard(_Part):
    """A group of households that keep the same assets."""

    group: Annotated[str, Field(pattern=r"^[a-z][a-z0-9 +-]{0,31}$")]
    """What the group is called in results."""
    homes: Annotated[_Tuple[str], Field(min_length=1)]
    """Names of homes in the data; each is one household."""
    pv: bool = False
    """Whether the homes keep their PV."""
    battery: BatteryCard | None = None
    """What battery each of the homes has, if any."""


class SplitsCard(_Part):
    """How whole weeks are dealt to the splits."""

    cycle: Annotated[_Tuple[Split], Field(min_length=1)] = ("train", "train", "validation", "test")
    """Splits of the first weeks, then over again; all three must be there."""

    @model_validator(mode="after")
    def _all_there(self) -> SplitsCard:
        missing = {"train", "validation", "test"} - set(self.cycle)
        if missing:
            raise ValueError(f"cycle lacks {', '.join(sorted(missing))}")
        return self


class EvaluationCard(_Part):
    """How a policy is evaluated."""

    episodes: Annotated[int, Field(ge=1, le=1000)] = 32
    """Episodes of an evaluation, the same for everyone."""


class TaskCard(_Part):
    """A task: immutable, versioned in its name."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,48}-v[1-9][0-9]*$")]
    """Name with version, such as pilot-v1."""
    title: Annotated[str, Field(min_length=1, max_length=120)]
    """A few words."""
    description: Annotated[str, Field(min_length=1, max_length=2000)]
    """What kind of task it is, and what there is to learn."""
    episode: EpisodeCard = EpisodeCard()
    tariff: TariffCard
    market: MarketCard = MarketCard()
    profiles: ProfilesCard
    splits: SplitsCard = SplitsCard()
    evaluation: EvaluationCard = EvaluationCard()
    households: Annotated[_Tuple[HouseholdsCard], Field(min_length=1)]

    @model_validator(mode="after")
    def _homes_once(self) -> TaskCard:
        homes = [home for group in self.households for home in group.homes]
        twice = sorted({home for home in homes if homes.count(home) > 1})
        if twice:
            raise ValueError(f"homes {', '.join(twice)} are named twice")
        groups = [group.group for group in self.households]
        if len(set(groups)) < len(groups):
            raise ValueError("group names must differ")
        if len(homes) > 1000:
            raise ValueError(f"{len(homes)} homes, expected at most 1000")
        return self


def read_card(path: Path) -> TaskCard:
    """Read and validate the task card at `path`.

    Raises:
        PeerWattError: the file cannot be read, is not TOML, or a key is missing, unknown or out of
            range; the sentence names the file, the key and what was expected.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PeerWattError(f"cannot read task card {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PeerWattError(f"task card {path} is not valid TOML: {error}.") from None
    try:
        return TaskCard.model_validate(content)
    except ValidationError as error:
        raise PeerWattError(f"task card {path}: {_sentence(error)}") from None


_TABLES: dict[str, type[_Part]] = {
    "": TaskCard,
    "episode": EpisodeCard,
    "tariff": TariffCard,
    "market": MarketCard,
    "profiles": ProfilesCard,
    "splits": SplitsCard,
    "evaluation": EvaluationCard,
    "households": HouseholdsCard,
    "battery": BatteryCard,
}


def _sentence(error: ValidationError) -> str:
    # An unknown key first: it may be the one that is missing, misspelt.
    first: Any = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    key = ".".join(map(str, first["loc"])) or "card"
    more = f", and {error.error_count() - 1} more" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        table = next((part for part in reversed(first["loc"][:-1]) if isinstance(part, str)), "")
        known = ", ".join(_TABLES[table].model_fields)
        return f"{key}: unknown key, expected one of {known}{more}."
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    shown = "" if isinstance(first["input"], dict) else f" (got {first['input']!r})"
    return f"{key}: {message}{shown}{more}."
