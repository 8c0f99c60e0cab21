"""The shipped arrays: what was dropped and why, and that they are what the sources give."""

import csv
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import peerwatt_tasks.prepare.fontana as fontana
from peerwatt.community.simulate import SimulatedCommunity, simulate
from peerwatt.errors import PeerWattError
from peerwatt.market.units import QUANTA_PER_KWH
from peerwatt_tasks.prepare.__main__ import DATA, main
from peerwatt_tasks.prepare.pilot import PILOT
from peerwatt_tasks.prepare.tables import write_npz

ROOT = Path(__file__).resolve().parents[2]
WHEEL_NAME = "CityLearn-1.8.0-py3-none-any.whl"
GOOD_HOMES = [str(home) for home in range(1, 18) if home not in (12, 15)]


@pytest.fixture(scope="module")
def wheel() -> Path:
    path = Path(os.environ.get("PEERWATT_CITYLEARN_WHEEL") or ROOT / WHEEL_NAME)
    if not path.is_file():
        pytest.skip(
            f"the wheel is not at hand: put {WHEEL_NAME} (`pip download --no-deps "
            "citylearn==1.8.0`) in the repository root or name it in PEERWATT_CITYLEARN_WHEEL."
        )
    return path


@pytest.fixture(scope="module")
def rebuilt(wheel):
    return fontana.fontana_arrays(wheel)


def shipped(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


# --- the rule that drops homes ---


def synthetic_homes(days: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Three homes: a household, a solar curve as load, a household that is dark at night."""
    rng = np.random.default_rng(1)
    hour = np.arange(days * 24) % 24
    sun = np.clip(np.sin(np.pi * (hour - 6) / 12), 0, None) * rng.uniform(0.7, 1, hour.size)
    living = 0.4 + 0.8 * (hour >= 17) + rng.exponential(0.3, hour.size)
    dark_at_night = np.where((hour >= 22) | (hour < 4), 0.0, living)
    load = np.stack([living, 1.3 * sun, dark_at_night], axis=1)
    return load, np.stack([4 * sun, 5 * sun, 4 * sun], axis=1)


def test_the_rule_catches_a_solar_curve_and_empty_nights():
    household, solar, dark = fontana.screen_homes(["a", "b", "c"], *synthetic_homes())
    assert household.kept and household.empty_nights == 0 and abs(household.pv_correlation) < 0.6
    assert not solar.kept and solar.pv_correlation > 0.9 and solar.empty_nights == 1
    assert not dark.kept and dark.pv_correlation < 0.9 and dark.empty_nights == 1
    assert "home b: DROPPED" in solar.sentence() and "100% of night hours" in solar.sentence()


def test_homes_12_and_15_of_the_wheel_carry_a_solar_curve(rebuilt):
    _, screened = rebuilt
    dropped = {screen.home: screen for screen in screened if not screen.kept}
    assert set(dropped) == {"12", "15"}
    for screen in dropped.values():
        assert screen.pv_correlation > 0.9 and screen.empty_nights > 0.9
    kept = [screen for screen in screened if screen.kept]
    # No home that stays is near either limit, so the verdict does not hang on their exact values.
    assert max(screen.pv_correlation for screen in kept) < 0.5
    assert max(screen.empty_nights for screen in kept) < 0.25


# --- what is shipped equals what the sources give ---


def test_shipped_fontana_is_rebuilt_exactly(rebuilt):
    arrays, _ = rebuilt
    ours = shipped("fontana")
    assert set(ours) == set(arrays)
    for name, array in arrays.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_a_sample_of_fontana_follows_from_the_files_by_hand(wheel):
    """Re-derives one home's week, prices and weather without the preparation's own readers."""
    folder = "citylearn/data/citylearn_challenge_2022_phase_all"
    with zipfile.ZipFile(wheel) as archive:

        def rows(name: str) -> list[dict[str, str]]:
            return list(csv.DictReader(io.StringIO(archive.read(f"{folder}/{name}").decode())))

        home, price, station = rows("Building_7.csv"), rows("pricing.csv"), rows("Building_12.csv")
        schema = json.loads(archive.read(f"{folder}/schema.json"))
    nominal = schema["buildings"]["Building_7"]["pv"]["attributes"]["nominal_power"]
    assert nominal == 4.0
    ours = shipped("fontana")
    column = list(ours["homes"]).index("7")
    for slot in range(200 * 24, 207 * 24):
        load = float(home[slot]["Equipment Electric Power [kWh]"])
        pv = float(home[slot]["Solar Generation [W/kW]"]) * nominal / 1000
        assert ours["load"][slot, column] == round(load * 1024)
        assert ours["pv"][slot, column] == round(pv * 1024)
        assert ours["retail"][slot] == round(float(price[slot]["Electricity Pricing [$]"]) * 10000)
    daily = [
        sum(float(hour["Solar Generation [W/kW]"]) for hour in station[day * 24 : day * 24 + 24])
        for day in range(365)
    ]
    for day in (0, 100, 200, 364):
        clear = max(daily[max(0, day - 15) : day + 16])
        assert ours["sunny"][day] == (daily[day] >= 0.7 * clear)


def test_pilot_is_rebuilt_from_its_seed():
    ours, again = shipped("pilot"), simulate(PILOT)
    assert set(ours) == set(again)
    for name in ("load", "pv"):
        # One quantum of slack: sines may differ in the last bit between mathematics libraries.
        assert np.abs(ours[name].astype(np.int64) - again[name]).max() <= 1
    for name in ("sunny", "weekday", "homes", "first_day"):
        np.testing.assert_array_equal(ours[name], again[name])


# --- the format ---


@pytest.mark.parametrize(
    ("name", "days", "homes", "first_day"),
    [
        ("fontana", 365, GOOD_HOMES, "08-01"),
        ("pilot", 364, [str(home) for home in range(1, 9)], "01-01"),
    ],
)
def test_shipped_arrays_keep_the_format(name, days, homes, first_day):
    arrays = shipped(name)
    assert list(arrays["homes"]) == homes
    assert str(arrays["first_day"]) == first_day
    for key in ("load", "pv"):
        table = arrays[key]
        assert table.dtype == np.int32 and table.shape == (days * 24, len(homes))
        assert table.min() >= 0 and table.max() < 10 * QUANTA_PER_KWH
    for key, top in (("sunny", 1), ("weekday", 6)):
        assert arrays[key].dtype == np.int8 and arrays[key].shape == (days,)
        assert arrays[key].min() == 0 and arrays[key].max() == top
    np.testing.assert_array_equal(arrays["weekday"], np.arange(days) % 7)
    by_hour = arrays["pv"].reshape(days, 24, -1).sum(axis=(0, 2))
    assert by_hour.argmax() in (11, 12, 13)
    assert by_hour[:4].sum() == 0


def test_fontana_tariff_is_dear_from_16_to_21_and_pilot_has_none():
    retail = shipped("fontana")["retail"]
    assert retail.dtype == np.int32 and retail.shape == (8760,)
    assert set(np.unique(retail)) == {2100, 2200, 4000, 5000, 5400}
    dear = retail.reshape(365, 24) >= 4000
    np.testing.assert_array_equal(dear.any(axis=0), (np.arange(24) >= 16) & (np.arange(24) < 21))
    assert dear[:, 16:21].all()
    assert "retail" not in shipped("pilot")


def test_writing_twice_gives_the_same_bytes(tmp_path):
    arrays = simulate(SimulatedCommunity(seed=3, households=2, days=14))
    first, second = (write_npz(tmp_path / name, arrays) for name in ("a.npz", "b.npz"))
    assert first == second
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


# --- the generator ---


def test_pilot_noons_have_buyers_and_sellers():
    """With PV on every other home, sunny noons have surplus and deficit of the same order."""
    arrays = shipped("pilot")
    pv = arrays["pv"].copy()
    pv[:, 1::2] = 0
    net = (pv - arrays["load"]).reshape(364, 24, 8)[arrays["sunny"] == 1, 12] / QUANTA_PER_KWH
    surplus, deficit = net.clip(0).sum(axis=1).mean(), (-net).clip(0).sum(axis=1).mean()
    assert 0.4 < surplus / deficit < 2.5


def test_simulated_weather_moves_pv_and_load_as_stated():
    community = SimulatedCommunity(seed=5, sunny_after_sunny=1.0, sunny_after_cloudy=1.0)
    cloudy = SimulatedCommunity(seed=5, sunny_after_sunny=0.0, sunny_after_cloudy=0.0)
    bright, dull = simulate(community), simulate(cloudy)
    assert bright["sunny"].all() and not dull["sunny"].any()
    assert dull["pv"].sum() / bright["pv"].sum() == pytest.approx(0.35, abs=1e-3)
    assert dull["load"].sum() / bright["load"].sum() == pytest.approx(1.05, abs=1e-3)


def test_quarter_hours_carry_the_same_energy_as_hours():
    hourly = simulate(SimulatedCommunity(seed=5, days=30))
    quarter = simulate(SimulatedCommunity(seed=5, days=30, slot_minutes=15))
    for name in ("load", "pv"):
        assert quarter[name].shape == (30 * 96, 8)
        assert quarter[name].sum() == pytest.approx(hourly[name].sum(), rel=1e-3)


@pytest.mark.parametrize("latitude", [-89.0, -42.0, 0.0, 42.0, 89.0])
def test_pv_is_finite_and_not_negative_at_any_latitude(latitude):
    pv = simulate(SimulatedCommunity(seed=5, latitude_degrees=latitude))["pv"]
    assert pv.min() >= 0 and 0 < pv.max() < 6 * QUANTA_PER_KWH


def test_parameters_out_of_domain_are_refused_by_name():
    with pytest.raises(PeerWattError, match=r"slot_minutes = 7 "):
        SimulatedCommunity(seed=1, slot_minutes=7)


# --- bad input ---


def test_another_file_than_the_wheel_is_refused_and_nothing_is_written(tmp_path, capsys):
    wrong = tmp_path / "other.whl"
    wrong.write_bytes(b"not the wheel")
    with pytest.raises(PeerWattError, match=f"SHA-256 .* not {fontana.WHEEL_SHA256}"):
        fontana.fontana_arrays(wrong)
    assert main(["fontana", str(wrong), "--out", str(tmp_path / "out")]) == 2
    assert "pip download --no-deps citylearn==1.8.0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_wheel_and_an_unwritable_folder_are_one_sentence(tmp_path, capsys):
    assert main(["fontana", str(tmp_path / "none.whl")]) == 2
    assert "cannot read" in capsys.readouterr().err
    blocked = tmp_path / "file"
    blocked.touch()
    assert main(["pilot", "--out", str(blocked)]) == 2
    assert "name a writable folder" in capsys.readouterr().err


@pytest.mark.parametrize(("cell", "told"), [("-0.5", "-0.5"), ("nan", "nan")])
def test_a_cell_that_no_meter_can_say_is_named(tmp_path, cell, told):
    lines = ["load", *["1.0"] * 8760]
    lines[42] = cell
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{fontana.FOLDER}/x.csv", "\n".join(lines))
    with (
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        pytest.raises(PeerWattError, match=f"x.csv, data row 42, column 'load': .*{told}"),
    ):
        fontana.read_columns(archive, "x.csv", ("load",))
