"""Task cards and profiles for tests, written to a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import peerwatt_tasks
from peerwatt.community import Task, load_card

SHIPPED = Path(peerwatt_tasks.__path__[0]) / "cards"
BATTERY = {"capacity_kwh": 6.4, "power_kw": 5.0, "round_trip_efficiency": 0.9}


def shipped(name: str) -> Task:
    return load_card(SHIPPED / f"{name}.toml")


def card_content() -> dict[str, Any]:
    """A valid card: homes a (PV and battery), b (PV) and c (neither)."""
    return {
        "name": "small-v1",
        "title": "A small community",
        "description": "For tests.",
        "episode": {"days": 2, "slot_minutes": 60},
        "tariff": {"feed_in": 0.08, "retail": 0.16},
        "market": {"mechanism": "cda", "price_levels": 5, "reward_scale": 0.1},
        "profiles": {"data": "profiles.npz"},
        "splits": {"cycle": ["train", "validation", "test"]},
        "evaluation": {"episodes": 2},
        "households": [
            {"group": "pv+battery", "homes": ["a"], "pv": True, "battery": dict(BATTERY)},
            {"group": "pv", "homes": ["b"], "pv": True},
            {"group": "consumer", "homes": ["c"]},
        ],
    }


def profiles(
    weeks: int = 3, slots_per_day: int = 24, homes: int = 3, largest: int = 3000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random profiles of homes a, b, c, ...: PV by day only."""
    generator = np.random.default_rng(seed)
    days = 7 * weeks
    slots = days * slots_per_day
    hour = np.arange(slots) % slots_per_day * 24 // slots_per_day
    light = ((hour >= 6) & (hour < 20))[:, None]
    return {
        "homes": np.array([chr(ord("a") + i) for i in range(homes)]),
        "load": generator.integers(0, largest, (slots, homes), np.int32),
        "pv": generator.integers(0, 2 * largest, (slots, homes), np.int32) * light,
        "retail": generator.integers(1000, 5000, slots).astype(np.int32),
        "sunny": generator.integers(0, 2, days).astype(np.int8),
        "weekday": (np.arange(days) % 7).astype(np.int8),
    }


def write_profiles(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(folder / "profiles.npz", **arrays)


def write_card(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "small-v1.toml"
    path.write_text(toml(content), encoding="utf-8")
    return path


def small_task(folder: Path) -> Task:
    """The task of `card_content` on the random `profiles`."""
    write_profiles(folder, profiles())
    return load_card(write_card(folder, card_content()))


def toml(content: dict[str, Any], prefix: str = "") -> str:
    """Write a card as TOML: plain values first, then tables, then lists of tables."""
    lines = []
    tables = []
    for key, value in content.items():
        if isinstance(value, dict):
            tables.append(f"\n[{prefix}{key}]\n{toml(value, f'{prefix}{key}.')}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"\n[[{prefix}{key}]]\n{toml(one, f'{prefix}{key}.')}" for one in value]
        else:
            text = json.dumps(value)
            lines.append(f"{key} = {text.replace('NaN', 'nan').replace('Infinity', 'inf')}\n")
    return "".join(lines + tables)
