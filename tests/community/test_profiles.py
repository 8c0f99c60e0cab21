"""Profile files: what is read, and the sentence for every way in which they can be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from peerwatt.community import load_card, read_csv, read_npz
from peerwatt.errors import PeerWattError

from .cards import card_content, profiles, write_card, write_profiles

HOMES = "a,b,c"


def write_csv(path, rows, header=HOMES):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def rows_of(days=1, value="0.5"):
    return [",".join([value] * 3)] * (24 * days)


def sentence(load, pv=None):
    with pytest.raises(PeerWattError) as error:
        read_csv(load, pv, 24)
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_csv_becomes_quanta(tmp_path):
    load = write_csv(tmp_path / "load.csv", ["0.5, 1.25,0", *rows_of()[1:]])
    pv = write_csv(tmp_path / "pv.csv", ["0,1e-3,1000", *rows_of(value="0")[1:]])
    table = read_csv(load, pv, 24, first_weekday=5)
    assert table.homes == ["a", "b", "c"]
    assert table.load[0].tolist() == [512, 1280, 0]
    assert table.pv[0].tolist() == [0, 1, 1024000]
    assert table.weekday.tolist() == [5]
    assert table.retail is None


def test_csv_without_pv_has_none(tmp_path):
    table = read_csv(write_csv(tmp_path / "load.csv", rows_of(8)), None, 24, 6)
    assert not table.pv.any()
    assert table.weekday.tolist() == [6, 0, 1, 2, 3, 4, 5, 6]


def test_weather_flag_knows_only_the_days_before(tmp_path):
    def flags(*daily):
        rows = [f"{day},0,0" for day in daily for _ in range(24)]
        load = write_csv(tmp_path / "load.csv", rows_of(len(daily)))
        return read_csv(load, write_csv(tmp_path / "pv.csv", rows), 24).sunny.tolist()

    assert flags(4, 4, 1, 4, 4, 4) == [1, 1, 1, 0, 1, 1]
    assert flags(10, 7, 6, 0) == [1, 1, 1, 0], "yesterday, at least 70 % of the best"
    assert flags(10, *[5] * 17) == [1, 1, *[0] * 14, 1, 1], "of the 15 days before today"


def test_csv_tolerates_byte_order_mark_and_blank_end(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text("\ufeff" + "\r\n".join([HOMES, *rows_of()]) + "\r\n\r\n", encoding="utf-8")
    table = read_csv(path, None, 24)
    assert table.homes == ["a", "b", "c"]
    assert len(table.load) == 24


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("nan", "'nan'"),
        ("", "''"),
        ("-0.5", "'-0.5'"),
        ("abc", "'abc'"),
        ("inf", "'inf'"),
        ("0,5", "4 values"),
        ("1350", "'1350'"),  # Wh instead of kWh
        ("1e99", "'1e99'"),
    ],
)
def test_bad_value_names_file_line_and_home(tmp_path, value, shown):
    rows = rows_of()
    rows[2] = f"1,{value},1"
    path = write_csv(tmp_path / "load.csv", rows)
    good = write_csv(tmp_path / "good.csv", rows_of())
    for text in (sentence(path), sentence(good, path)):
        assert f"{path}, line 4" in text
        assert shown in text
        if "values" not in text:
            assert "home 'b'" in text
            assert "expected kWh from 0 to 1000" in text


@pytest.mark.parametrize("more", [1, 23])
def test_lines_beyond_whole_days(tmp_path, more):
    path = write_csv(tmp_path / "load.csv", rows_of(2) + rows_of()[:more])
    text = sentence(path)
    assert f"{path} has {48 + more} lines of energy, {more} too many for 2 whole days" in text
    assert "expected 24 a day" in text


@pytest.mark.parametrize("row", ["1,1", "1,1,1,1", ""])
def test_ragged_line(tmp_path, row):
    rows = rows_of()
    rows[5] = row
    text = sentence(write_csv(tmp_path / "load.csv", rows))
    assert "line 7" in text
    assert "expected 3" in text


def test_pv_must_match_load(tmp_path):
    load = write_csv(tmp_path / "load.csv", rows_of())
    for rows, header in ((rows_of(2), HOMES), (rows_of(), "a,c,b"), (rows_of(), "a,b,d")):
        pv = write_csv(tmp_path / "pv.csv", rows, header)
        assert "must have the homes and the number of lines of" in sentence(load, pv)


@pytest.mark.parametrize("header", ["a,a,b", "a,,b"])
def test_home_names_must_be_there_and_differ(tmp_path, header):
    assert "line 1" in sentence(write_csv(tmp_path / "load.csv", rows_of(), header))


def test_files_that_are_no_table(tmp_path):
    assert "No such file" in sentence(tmp_path / "absent.csv")
    path = tmp_path / "load.csv"
    for content, says in (
        (b"", "is empty"),
        (b"a,b,c\n", "is empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"a,b,c\n1,1,1\n", "1 too many for 0 whole days: expected 24 a day"),
    ):
        path.write_bytes(content)
        assert says in sentence(path)


def test_card_on_own_csv_files(tmp_path):
    content = card_content()
    content["profiles"] = {"load_csv": "load.csv", "pv_csv": "pv.csv", "first_weekday": 2}
    load = write_csv(tmp_path / "load.csv", rows_of(21))
    write_csv(tmp_path / "pv.csv", rows_of(21, "0.25"))
    path = write_card(tmp_path, content)
    task = load_card(path)
    assert task.community.pv[0].tolist() == [256, 256, 0]
    assert task.community.weekday[:3].tolist() == [2, 3, 4]
    write_csv(load, ["0.5,0.5,0.501", *rows_of(21)[1:]])
    assert load_card(path).content_hash != task.content_hash


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pv": None}, "lack the arrays pv"),
        ({"load": np.ones((504, 3))}, "load is float64 (504, 3), expected integers"),
        ({"load": np.ones((504, 2), np.int32)}, "expected integers [slots, 3 homes]"),
        ({"load": np.ones((503, 3), np.int32)}, "differ in shape"),
        ({"load": np.zeros((0, 3), np.int32)}, "load is int32 (0, 3)"),
        ({"load": np.full((504, 3), -1, np.int32)}, "load leaves 0..1024000 quanta"),
        ({"pv": np.full((504, 3), 1024001, np.int32)}, "pv leaves 0..1024000 quanta"),
        ({"homes": np.array(["a", "a", "b"])}, "names of the homes must differ"),
        ({"homes": np.array(["a", "b", None])}, "no .npz file of plain arrays"),
        ({"sunny": np.ones(20, np.int8)}, "sunny covers 20 days"),
        ({"sunny": np.full(21, 2, np.int8)}, "sunny leaves 0..1"),
        ({"weekday": np.full(21, np.nan)}, "weekday is float64 (21,), expected integers [days]"),
        ({"weekday": np.full(21, 7, np.int8)}, "weekday leaves 0..6"),
        ({"retail": np.ones(9, np.int32)}, "retail is int32 (9,), expected integers [504]"),
        ({"retail": np.full(504, -5, np.int32)}, "retail leaves 0.."),
    ],
)
def test_bad_arrays(tmp_path, change, says):
    arrays = {k: v for k, v in (profiles() | change).items() if v is not None}
    write_profiles(tmp_path, arrays)
    with pytest.raises(PeerWattError) as error:
        load_card(write_card(tmp_path, card_content()))
    assert says in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\x03\x04rubbish"])
def test_file_that_is_no_npz(tmp_path, content):
    path = tmp_path / "profiles.npz"
    path.write_bytes(content)
    with pytest.raises(PeerWattError, match=r"profiles\.npz are no \.npz file of plain arrays"):
        read_npz(path)
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(PeerWattError, match=r"are no \.npz file"):
        read_npz(tmp_path / "one.npy")


def test_npz_round_trip(tmp_path):
    arrays = profiles()
    write_profiles(tmp_path, arrays)
    table = read_npz(tmp_path / "profiles.npz")
    assert table.homes == ["a", "b", "c"]
    for name in ("load", "pv", "retail", "sunny", "weekday"):
        assert np.array_equal(getattr(table, name), arrays[name])
    assert table.digest() == read_npz(tmp_path / "profiles.npz").digest()
