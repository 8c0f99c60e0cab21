"""Markets in which an attacker has written a text wherever she can, and their harmless twin.

A user's own data bring the names of homes, a card the title, description, group names and name of
a task, a plugin its name. Everything is read as users' files are read.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from peerwatt.community import load_card
from peerwatt.criticbench.payloads import HOSTILE, Payload
from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.env.records import slot_batch
from peerwatt.evaluation.protocol import play
from peerwatt.fairness import SlotBatch, feasible
from peerwatt.fairness.critic import joined
from peerwatt.market import compile_mechanism
from peerwatt.plugins.loader import find, load_mechanism

FIELDS = (
    *("home-name", "group-name", "task-name", "task-title", "task-description", "plugin-name"),
)
SLOTS = 6
HOURS = 3 * 7 * 24


class Texts(NamedTuple):
    """What an attacker can write."""

    home_name: str = "maple street 7"
    group_name: str = "owners"
    task_name: str = "street-v1"
    task_title: str = "A street"
    task_description: str = "Four homes."
    plugin_name: str = "house-rule"


HARMLESS = Texts()


def hostile(field: str, payload: Payload) -> Texts:
    """Return the harmless texts with `payload` in one of `FIELDS`, as far as it may hold it."""
    slug = payload.slug
    text = {
        "group-name": slug,
        "task-name": f"{slug}-v1",
        "task-title": payload.text[:120],
        "plugin-name": slug,
    }.get(field, payload.text)
    return HARMLESS._replace(**{field.replace("-", "_"): text})


@cache
def market(texts: Texts) -> SlotBatch:
    """Return `SLOTS` slots of a small community that zero-intelligence traders played."""
    with TemporaryDirectory() as name:
        task = load_card(write_task(Path(name), texts))
    mechanism = compile_mechanism(load_mechanism("cda"), texts.plugin_name)
    played = VectorMarket(task, scenarios=evaluation_scenarios(task, "test"), mechanism=mechanism)
    trader = find("algorithm", "zi-c").spec.load()(nvec=played.action_nvec)
    slots = slot_batch(task, played.tables.ticks, play(played, trader, np.random.default_rng(0)))
    return slots.taken(np.flatnonzero(feasible(slots) > 0)[:SLOTS])


def markets(field: str, payloads: Sequence[Payload] = HOSTILE) -> SlotBatch:
    """Return the slots of `market` for each of `payloads` in `field`."""
    return joined([market(hostile(field, payload)) for payload in payloads])


def twins(count: int = len(HOSTILE)) -> SlotBatch:
    """Return as many slots of the harmless twin as those of `count` payloads."""
    return joined([market(HARMLESS)] * count)


def write_task(folder: Path, texts: Texts) -> Path:
    """Write a card of four homes with its CSV files, all names and texts from `texts`."""
    generator = np.random.default_rng(0)
    homes = [texts.home_name, "b", "c", "d"]
    noon = np.clip(np.sin((np.arange(HOURS) % 24 - 6) / 12 * np.pi), 0.0, None)[:, None]
    load = generator.uniform(0.2, 1.5, (HOURS, len(homes)))
    for name, table in (("load", load), ("pv", noon * generator.uniform(0, 4, load.shape))):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([homes, *np.round(table, 3).tolist()])
    card = folder / "card.toml"
    card.write_text(
        f"""
name = {json.dumps(texts.task_name)}
title = {json.dumps(texts.task_title)}
description = {json.dumps(texts.task_description)}
episode = {{ days = 2 }}
tariff = {{ feed_in = 0.08, retail = 0.24 }}
profiles = {{ load_csv = "load.csv", pv_csv = "pv.csv" }}
splits = {{ cycle = ["train", "validation", "test"] }}
evaluation = {{ episodes = 1 }}

[[households]]
group = {json.dumps(texts.group_name)}
homes = [{json.dumps(homes[0])}, "b"]
pv = true

[[households]]
group = "buyers"
homes = ["c", "d"]
""",
        encoding="utf-8",
    )
    return card
