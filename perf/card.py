"""The synthetic community of the speed measurements: any number of homes, all with a battery.

The shipped Fontana profiles are tiled to the wanted number of homes. Two homes in three keep their
PV and the third has none, so that books are two-sided; 21 price levels, no noise, hourly slots.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import peerwatt_tasks
from peerwatt.community import Task, load_card

CARD = """\
name = "speed-v1"
title = "Synthetic community of the speed measurements"
description = "{households} homes from tiled Fontana profiles, every home with a battery."

[tariff]
feed_in = 0.08
retail = "data"

[market]
mechanism = "{mechanism}"
price_levels = {price_levels}
quantity_levels = 3
reward_scale = 0.1

[profiles]
data = "speed.npz"
train_noise = {noise}
evaluation_noise = {noise}
"""

GROUP = """
[[households]]
group = "{group}"
homes = [{homes}]
pv = {pv}
"""

BATTERY = """
[households.battery]
capacity_kwh = 6.4
power_kw = 5.0
round_trip_efficiency = 0.9
"""


def synthetic_task(
    folder: Path,
    households: int = 20,
    *,
    battery: bool = True,
    price_levels: int = 21,
    noise: float = 0.0,
    mechanism: str = "cda",
) -> Task:
    """Write card and profiles of a synthetic community into `folder`; return the loaded task."""
    source = Path(peerwatt_tasks.__path__[0]) / "data" / "fontana.npz"
    with np.load(source, allow_pickle=False) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    columns = np.arange(households) % content["load"].shape[1]
    content["load"] = content["load"][:, columns]
    content["pv"] = content["pv"][:, columns]
    content["homes"] = np.array([str(home) for home in range(households)])
    np.savez(folder / "speed.npz", **content)

    text = CARD.format(
        households=households, mechanism=mechanism, price_levels=price_levels, noise=noise
    )
    for group, pv in (("pv", True), ("consumer", False)):
        homes = [f'"{home}"' for home in range(households) if (home % 3 < 2) is pv]
        if homes:
            text += GROUP.format(group=group, homes=", ".join(homes), pv=str(pv).lower())
            text += BATTERY if battery else ""
    card = folder / "speed-v1.toml"
    card.write_text(text, encoding="utf-8")
    return load_card(card)
