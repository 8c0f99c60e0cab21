"""Small simulated communities on which plugins are examined."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from peerwatt.community import Task, load_card
from peerwatt.community.simulate import SimulatedCommunity, simulate


@dataclass(frozen=True)
class Size:
    """What the communities differ in; other sizes of the action space included."""

    households: int
    storage: bool
    price_levels: int
    quantity_levels: int

    @property
    def title(self) -> str:
        """How a sentence names the community."""
        return f"{self.households} households {'with' if self.storage else 'without'} storage"


SIZES = (
    Size(2, False, 5, 2),
    Size(2, True, 7, 3),
    Size(20, False, 21, 3),
    Size(20, True, 11, 4),
)

_BATTERY = """
[households.battery]
capacity_kwh = 6.4
power_kw = 5.0
round_trip_efficiency = 0.9
"""


def write_card(folder: Path, size: Size) -> Path:
    """Write the card of a community of `size` and its profiles into `folder`; return its path.

    Four weeks of hourly slots under a sun that lets PV exceed the load at noon; an episode is one
    day. Every third home has PV (and a battery, in a community with storage), every third PV only,
    the others are consumers; of two homes the second is a consumer.
    """
    weeks = SimulatedCommunity(
        seed=size.households, households=size.households, days=28, latitude_degrees=20.0
    )
    np.savez(folder / "profiles.npz", **simulate(weeks))  # type: ignore[arg-type]
    homes = [str(home + 1) for home in range(size.households)]
    owners, producers, consumers = homes[0::3], homes[2::3], homes[1::3]
    retail = ", ".join(["0.14"] * 6 + ["0.16"] * 10 + ["0.3"] * 5 + ["0.14"] * 3)
    text = f"""
name = "conformance-{size.households}{"-storage" if size.storage else ""}-v1"
title = "A small simulated community"
description = "For the conformance suites."
episode = {{ days = 1 }}
tariff = {{ feed_in = 0.08, retail = [{retail}] }}
profiles = {{ data = "profiles.npz", train_noise = 0.1, evaluation_noise = 0.1 }}
evaluation = {{ episodes = 4 }}

[market]
price_levels = {size.price_levels}
quantity_levels = {size.quantity_levels}
reward_scale = 0.1
"""
    for group, members, pv in (
        ("owner", owners, True),
        ("producer", producers, True),
        ("consumer", consumers, False),
    ):
        if members:
            text += (
                f"\n[[households]]\ngroup = '{group}'\nhomes = {members}\npv = {str(pv).lower()}\n"
            )
        if group == "owner" and size.storage:
            text += _BATTERY
    card = folder / "card.toml"
    card.write_text(text, encoding="utf-8")
    return card


@cache
def community(size: Size) -> Task:
    """Return the task of a community of `size`."""
    with TemporaryDirectory() as folder:
        return load_card(write_card(Path(folder), size))


def digest(task: Task) -> str:
    """Return the SHA-256 over the card and every array of the community of `task`."""
    found = hashlib.sha256(json.dumps(task.card.model_dump(mode="json")).encode())
    for field in fields(task.community):
        value = np.asarray(getattr(task.community, field.name))
        found.update(f"{field.name} {value.dtype.str} {value.shape}".encode())
        found.update(value.tobytes() if value.dtype.kind != "O" else repr(value).encode())
    return found.hexdigest()
