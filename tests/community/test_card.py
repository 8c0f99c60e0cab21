"""Malformed cards give one sentence each: file, key, what was expected. Hashes follow content."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from peerwatt.community import load_card, read_card
from peerwatt.community.task import tariff_rows
from peerwatt.errors import PeerWattError

from .cards import (
    SHIPPED,
    card_content,
    profiles,
    shipped,
    small_task,
    toml,
    write_card,
    write_profiles,
)

DROP = object()
SLOTWISE = ("load", "pv", "retail")


def changed(*path_and_value):
    """A valid card with the value at a path replaced, added or dropped."""
    *path, last, value = path_and_value
    content = card_content()
    part = content
    for key in path:
        part = part[key]
    if value is DROP:
        del part[last]
    else:
        part[last] = value
    return content


def sentence(folder, content):
    """The sentence by which loading the card fails; it is one line and names the file."""
    path = write_card(folder, content)
    with pytest.raises(PeerWattError) as error:
        load_card(path)
    text = str(error.value)
    assert str(folder) in text
    assert text.endswith((".", "?"))
    assert "\n" not in text
    assert "pydantic" not in text
    return text


@pytest.fixture
def folder(tmp_path):
    write_profiles(tmp_path, profiles())
    return tmp_path


PRICES = 'expected a positive price, a list of 24 of them (one an hour), or "data"'
MALFORMED = [
    # change, key that the sentence names, what it says
    (("name", DROP), "name", "required"),
    (("name", "small"), "name", "pattern"),
    (("name", 3), "name", "valid string"),
    (("title", ""), "title", "at least 1 character"),
    (("tarif", {}), "tarif", "unknown key, expected one of name, title"),
    (("tariff", "retial", 0.2), "tariff.retial", "expected one of currency, tick, feed_in, retail"),
    (("tariff", DROP), "tariff", "required"),
    (("tariff", 0.2), "tariff", "dictionary"),
    (("tariff", "feed_in", "cheap"), "tariff.feed_in", "valid number"),
    (("tariff", "feed_in", True), "tariff.feed_in", "valid number"),
    (("tariff", "feed_in", -0.01), "tariff.feed_in", "greater than or equal to 0"),
    (("tariff", "feed_in", float("nan")), "tariff.feed_in", "finite"),
    (("tariff", "feed_in", 0.16), "tariff", "feed_in 0.16 must be below retail 0.16"),
    (("tariff", "feed_in", 0.08005), "tariff.feed_in", "whole number of ticks"),
    (("tariff", "tick", 0), "tariff.tick", "greater than 0"),
    (("tariff", "tick", 1e-9), "tariff.feed_in", "expected at most"),
    (("tariff", "retail", 0.08), "tariff", "feed_in 0.08 must be below retail 0.08"),
    (("tariff", "retail", 0.0803), "tariff.retail", "at least 4 ticks"),
    (("tariff", "retail", [0.1] * 23 + [0.07]), "tariff", "feed_in 0.08 must be below retail 0.07"),
    (("tariff", "retail", [0.1] * 23), "tariff.retail", PRICES),
    (("tariff", "retail", [0.1] * 23 + ["x"]), "tariff.retail", PRICES),
    (("tariff", "retail", "date"), "tariff.retail", PRICES),
    (("tariff", "retail", -1.0), "tariff.retail", PRICES),
    (("tariff", "retail", True), "tariff.retail", PRICES),
    (("tariff", "retail", float("inf")), "tariff.retail", PRICES),
    (("tariff", "retail", 1e300), "tariff.retail", "expected at most"),
    (("tariff", "retail", 1600.0), "tariff.tick", "too fine for exact 64-bit money"),
    (("market", "mechanism", "cdda"), "market.mechanism", "did you mean 'cda'?"),
    (("market", "mechanism", 1), "market.mechanism", "expected the name of a mechanism"),
    (("market", "price_levels", 6), "market.price_levels", "odd"),
    (("market", "price_levels", 1), "market.price_levels", "greater than or equal to 3"),
    (("market", "price_levels", 65), "market.price_levels", "less than or equal to 63"),
    (("market", "price_levels", 5.0), "market.price_levels", "valid integer"),
    (("market", "quantity_levels", 1), "market.quantity_levels", "greater than or equal to 2"),
    (("market", "reward_scale", 0), "market.reward_scale", "greater than 0"),
    (("episode", "days", 6), "episode.days", "less than or equal to 5"),
    (("episode", "slot_minutes", 20), "episode.slot_minutes", "15, 30 or 60"),
    (("episode", "slot_minutes", 30), "episode.slot_minutes", "10 days"),
    (("profiles", "data", "absent.npz"), "absent.npz", "No such file"),
    (("profiles", {}), "profiles", "either data or load_csv"),
    (("profiles", "load_csv", "x.csv"), "profiles", "either data or load_csv"),
    (("profiles", "pv_csv", "x.csv"), "profiles", "pv_csv goes with load_csv only"),
    (("profiles", "first_weekday", 3), "profiles", "first_weekday goes with load_csv only"),
    (("profiles", "first_weekday", 0), "profiles", "first_weekday goes with load_csv only"),
    (
        ("profiles", {"load_csv": "x.csv"}),
        "households.0.pv",
        "group 'pv+battery' keeps its PV, but load_csv holds none: name profiles.pv_csv",
    ),
    (("profiles", "train_noise", 0.6), "profiles.train_noise", "less than or equal to 0.5"),
    (("splits", "cycle", ["train", "tset"]), "splits.cycle.1", "'train', 'validation' or 'test'"),
    (("splits", "cycle", ["train", "test"]), "splits", "cycle lacks validation"),
    (("splits", "cycle", []), "splits.cycle", "at least 1 item"),
    (("evaluation", "episodes", 0), "evaluation.episodes", "greater than or equal to 1"),
    (("evaluation", "episodes", 4), "evaluation.episodes", "has 3 windows"),
    (("households", []), "households", "at least 1 item"),
    (("households", 0, "group", "PV!"), "households.0.group", "pattern"),
    (("households", 1, "group", "consumer"), "card", "group names must differ"),
    (("households", 0, "homes", []), "households.0.homes", "at least 1 item"),
    (("households", 0, "homes", [1]), "households.0.homes.0", "valid string"),
    (("households", 0, "homes", ["b"]), "card", "homes b are named twice"),
    (("households", 0, "homes", ["z"]), "'pv+battery'", "home 'z'"),
    (("households", 0, "pv", "yes"), "households.0.pv", "valid boolean"),
    (("households", 0, "kwp", 4), "households.0.kwp", "expected one of group, homes, pv, battery"),
    (("households", 0, "battery", "power_kw", DROP), "households.0.battery.power_kw", "required"),
    (("households", 0, "battery", "volts", 4), "households.0.battery.volts", "capacity_kwh"),
    (
        ("households", 0, "battery", "capacity_kwh", 0),
        "households.0.battery.capacity_kwh",
        "greater than 0",
    ),
    (
        ("households", 0, "battery", "round_trip_efficiency", 1.1),
        "households.0.battery.round_trip_efficiency",
        "less than or equal to 1",
    ),
    (
        ("households", 0, "battery", "capacity_kwh", 0.0004),
        "households.0.battery.capacity_kwh",
        "0.0004 rounds to nothing, for energy is counted in 1/1024 kWh: expected at least 0.0009",
    ),
    (
        ("households", 0, "battery", "power_kw", 0.0004),
        "households.0.battery.power_kw",
        "0.0004 rounds to nothing",
    ),
    (("households", 0, "battery", "lowest", 1.0), "households.0.battery.lowest", "less than 1"),
]


@pytest.mark.parametrize(
    ("change", "key", "says"), MALFORMED, ids=[f"{row[1]} {row[2][:20]}" for row in MALFORMED]
)
def test_malformed_card_gives_one_sentence(folder, change, key, says):
    text = sentence(folder, changed(*change))
    assert key in text
    assert says in text


def test_battery_bounds_must_not_cross(folder):
    content = card_content()
    content["households"][0]["battery"] |= {"lowest": 0.6, "highest": 0.5}
    text = sentence(folder, content)
    assert "households.0.battery: lowest 0.6 must be below highest 0.5" in text


def test_power_is_counted_per_slot(tmp_path):
    write_profiles(tmp_path, profiles(slots_per_day=96))
    content = changed("households", 0, "battery", "power_kw", 0.001)
    content["episode"]["slot_minutes"] = 15
    text = sentence(tmp_path, content)
    assert "households.0.battery.power_kw: 0.001 rounds to nothing" in text
    assert "expected at least 0.003906" in text
    content["households"][0]["battery"]["power_kw"] = 0.003907
    assert load_card(write_card(tmp_path, content)).community.power[0] == 1


def test_profiles_of_no_whole_number_of_days(tmp_path):
    arrays = profiles()
    arrays |= {name: np.concatenate([arrays[name]] * 2)[: 21 * 24 + 5] for name in SLOTWISE}
    write_profiles(tmp_path, arrays)
    text = sentence(tmp_path, card_content())
    assert "profiles.data: 509 slots are 5 too many for 21 whole days: expected 24 a day" in text


def test_data_tariff_must_leave_room_for_the_price_levels(folder):
    content = changed("tariff", "retail", "data")
    assert load_card(write_card(folder, content)).community.retail.min() >= 1000
    for retail in (800, 803):
        write_profiles(folder, profiles() | {"retail": np.full(21 * 24, retail, np.int32)})
        text = sentence(folder, content)
        assert "tariff.retail: price" in text
        assert "at least 4 ticks" in text


def test_data_tariff_needs_prices_in_the_data(folder):
    arrays = profiles()
    del arrays["retail"]
    write_profiles(folder, arrays)
    text = sentence(folder, changed("tariff", "retail", "data"))
    assert 'tariff.retail = "data" needs an array retail' in text


def test_several_mistakes_are_counted(folder):
    content = changed("title", 3)
    content["description"] = 3
    assert "title: " in sentence(folder, content)
    assert "and 1 more" in sentence(folder, content)


def test_too_few_weeks(folder):
    write_profiles(folder, profiles(weeks=2))
    text = sentence(folder, card_content())
    assert "the test split has 0 windows of 2 days, expected at least 2" in text


def test_card_that_cannot_be_read(tmp_path):
    with pytest.raises(PeerWattError, match=r"cannot read task card .*absent\.toml: No such file"):
        read_card(tmp_path / "absent.toml")
    with pytest.raises(PeerWattError, match=r"cannot read task card .*: Is a directory"):
        read_card(tmp_path)
    path = tmp_path / "card.toml"
    for content in (b"name = ", b"name = 'a'\nname = 'b'", b"\xff\xfe", b"[tariff"):
        path.write_bytes(content)
        with pytest.raises(PeerWattError, match=r"card\.toml is not valid TOML") as error:
            read_card(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["pilot-v1", "fontana-v1"])
def test_shipped_cards_load(name):
    task = shipped(name)
    assert task.name == name
    assert len(task.evaluation_starts("test")) >= task.card.evaluation.episodes
    assert task.community.has_storage == (name == "fontana-v1")
    ticks, rows = tariff_rows(task.community, task.card.market.price_levels)
    assert np.array_equal(ticks[rows, 0], np.full(len(rows), task.community.feed_in))
    assert np.array_equal(ticks[rows, -1], task.community.retail)


def test_community_in_exact_units(tmp_path):
    task = small_task(tmp_path)
    arrays = profiles()
    community = task.community
    assert community.groups == ("pv+battery", "pv", "consumer")
    assert np.array_equal(community.load, arrays["load"])
    assert np.array_equal(community.pv, arrays["pv"] * np.array([1, 1, 0]))
    assert community.capacity.tolist() == [round(6.4 * 1024), 0, 0]
    assert community.power.tolist() == [5 * 1024, 0, 0]
    assert community.efficiency[0] == round(0.9**0.5 * 65536)
    assert community.feed_in == 800
    assert set(community.retail.tolist()) == {1600}


def test_hourly_tariff_repeats_over_quarter_hours(tmp_path):
    content = changed("tariff", "retail", [0.1 + hour / 100 for hour in range(24)])
    content["episode"]["slot_minutes"] = 15
    write_profiles(tmp_path, profiles(slots_per_day=96))
    task = load_card(write_card(tmp_path, content))
    assert task.horizon == 192
    assert task.community.retail[:9].tolist() == [1000] * 4 + [1100] * 4 + [1200]
    assert task.community.power[0] == 5 * 1024 // 4


# Content hash


def test_hash_ignores_layout_and_comments_of_the_card(folder):
    path = write_card(folder, card_content())
    digest = load_card(path).content_hash
    assert load_card(path).content_hash == digest
    text = path.read_text()
    path.write_text("# A comment.\n\n" + text.replace(" = ", "   =  ").replace("\n[", "\n\n# x\n["))
    assert load_card(path).content_hash == digest
    reordered = dict(reversed(card_content().items()))
    assert load_card(write_card(folder, reordered)).content_hash == digest
    path.write_text(toml(card_content()).replace("0.08", "8e-2"))
    assert load_card(path).content_hash == digest


CHANGES = [
    ("name", "small-v2"),
    ("title", "Another"),
    ("description", "Another."),
    ("episode", "days", 1),
    ("tariff", "feed_in", 0.07),
    ("tariff", "retail", 0.17),
    ("tariff", "retail", "data"),
    ("tariff", "currency", "EUR"),
    ("tariff", "tick", 0.001),
    ("market", "mechanism", "call"),
    ("market", "price_levels", 7),
    ("market", "quantity_levels", 4),
    ("market", "reward_scale", 1.0),
    ("profiles", "train_noise", 0.1),
    ("profiles", "evaluation_noise", 0.1),
    ("splits", "cycle", ["test", "validation", "train"]),
    ("evaluation", "episodes", 1),
    ("households", 0, "group", "prosumer"),
    ("households", 0, "battery", "capacity_kwh", 6.5),
    ("households", 0, "battery", "highest", 0.9),
    ("households", 0, "battery", DROP),
    ("households", 1, "pv", False),
    ("households", 2, DROP),
]


def test_hash_follows_every_key_of_the_card(folder):
    contents = [card_content(), *(changed(*change) for change in CHANGES)]
    hashes = [load_card(write_card(folder, content)).content_hash for content in contents]
    assert len(set(hashes)) == len(hashes)


def test_hash_follows_every_value_of_the_data(tmp_path):
    hashes = {small_task(tmp_path).content_hash}
    for name in ("load", "pv", "retail", "sunny", "weekday"):
        for index in (0, -1):
            arrays = profiles()
            arrays[name].flat[index] = 1 - min(1, arrays[name].flat[index])
            write_profiles(tmp_path, arrays)
            hashes.add(load_card(tmp_path / "small-v1.toml").content_hash)
    assert len(hashes) == 11
    arrays = profiles()
    arrays = {name: arrays[name] for name in reversed(arrays)}
    arrays["load"] = np.asfortranarray(arrays["load"]).astype(np.int64)
    write_profiles(tmp_path, arrays)
    assert load_card(tmp_path / "small-v1.toml").content_hash in hashes


def test_tasks_are_immutable():
    task = shipped("pilot-v1")
    with pytest.raises(AttributeError):
        task.content_hash = ""  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        task.card.name = ""  # type: ignore[misc]
    assert replace(task, content_hash="").card is task.card
    for part in (task.card.splits.cycle, task.card.households, task.card.households[0].homes):
        assert isinstance(part, tuple)
    assert tomllib.loads((SHIPPED / "pilot-v1.toml").read_text())["name"] == "pilot-v1"


@pytest.mark.parametrize("name", ["pilot-v1", "fontana-v1", "small-v1"])
def test_the_data_cannot_be_changed(tmp_path, name):
    """An algorithm holds the task: it must not change what the content hash stands for."""
    community = (small_task(tmp_path) if name == "small-v1" else shipped(name)).community
    arrays = {k: v for k, v in vars(community).items() if isinstance(v, np.ndarray)}
    assert len(arrays) == 10
    for array in arrays.values():
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.reshape(-1).setflags(write=True)


def test_unknown_split(tmp_path):
    task = small_task(tmp_path)
    for find in (task.weeks, task.training_starts, task.evaluation_starts):
        with pytest.raises(PeerWattError, match=r"unknown split 'tset': did you mean 'test'\?"):
            find("tset")
        with pytest.raises(PeerWattError, match="unknown split '3': known: test, train, validat"):
            find(3)
