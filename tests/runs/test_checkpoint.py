"""Checkpoints as files: what goes in comes out, whole or not at all."""

import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from peerwatt.errors import PeerWattError
from peerwatt.runs import generators
from peerwatt.runs.checkpoint import pack, unpack
from peerwatt.runs.files import write_whole

DTYPES = st.sampled_from([np.dtype(t) for t in ("f4", "f8", "i8", "u8", "u1", "?", "U3", "c16")])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    DTYPES.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0))),
)
STATES = st.dictionaries(
    st.text(),
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            same(left, right)
    elif isinstance(one, np.ndarray):
        assert (one.shape, one.dtype, one.tobytes()) == (other.shape, other.dtype, other.tobytes())
    elif isinstance(one, float):
        assert one.hex() == other.hex()
    else:
        assert one == other


@given(STATES)
@settings(max_examples=60, deadline=None)
def test_what_is_packed_comes_out_again(state):
    data = pack(state)
    same(unpack(data), state)
    assert pack(unpack(data)) == data


def test_what_is_no_array_and_no_text_comes_out_too():
    state = {"nan": math.nan, "zero": -0.0, "large": 10**100, "one": np.float32(1 / 3), "t": (1, 2)}
    back = unpack(pack(state))
    assert math.isnan(back["nan"]) and math.copysign(1, back["zero"]) == -1
    assert back["large"] == 10**100 and back["t"] == [1, 2]
    assert type(back["one"]) is np.float32 and back["one"] == state["one"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"a": [1, object()]}, r"state\['a'\]\[1\] is or holds a object"),
        ({"a": {1: 2}}, r"state\['a'\] is or holds the key 1, which is no text"),
        ({"a": np.array([None])}, "an array of objects"),
        ({"a": np.ma.masked_array([1, 2], [True, False])}, "a MaskedArray"),
    ],
)
def test_what_cannot_be_saved_is_told_with_its_place(state, words):
    with pytest.raises(PeerWattError, match=words):
        pack(state)


def test_damage_anywhere_is_noticed():
    data = pack({"weights": np.arange(10.0), "count": 3})
    for place in range(0, len(data), 7):
        bad = bytearray(data)
        bad[place] ^= 1
        with pytest.raises(PeerWattError, match="the checkpoint is damaged"):
            unpack(bytes(bad))
    for length in (0, 1, 63, 64, len(data) // 2, len(data) - 1):
        with pytest.raises(PeerWattError, match="the checkpoint"):
            unpack(data[:length])


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_whole(file, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["PCG64", "MT19937", "Philox", "SFC64"])
def test_generators_go_on_where_they_were_and_spawn_whom_they_would_have(kind):
    def made():
        return np.random.Generator(getattr(np.random, kind)(np.random.SeedSequence([3, 4])))

    one = made()
    one.spawn(2)
    one.random(7, np.float32)  # an odd number: half of a draw is kept back
    kept = unpack(pack(generators.state(one)))
    other = made()
    generators.restore(other, kept)
    assert one.random(5, np.float32).tobytes() == other.random(5, np.float32).tobytes()
    assert one.spawn(1)[0].random() == other.spawn(1)[0].random()
    with pytest.raises(PeerWattError, match="has spawned 3 others, but only 2"):
        generators.restore(other, kept)
