"""The suites hold what they say, and the same on every machine."""

import numpy as np
import pytest

from peerwatt.criticbench import reachable
from peerwatt.criticbench.payloads import HOSTILE, PAYLOADS
from peerwatt.criticbench.record import SCORES
from peerwatt.criticbench.suite import PLANS, SERIES, batches, load_suite, suite_names
from peerwatt.errors import PeerWattError
from peerwatt.fairness import score_slots

# Records of different suites do not compare: a new hash needs a new name.
HASHES = {
    "standard-v1": "b9cb3ba2d395924e55cd40ea9ded5ba67e3d7d84c501e1b1643a8706a870d28d",
    "small-v1": "a2d7cbd5ca9c3b328a928deb27dd1d8314aaeadead7177a4147ab4d251c2aa87",
}


@pytest.fixture(params=suite_names())
def suite(request):
    return load_suite(request.param)


def test_content_is_pinned(suite):
    assert suite.content_hash == HASHES[suite.name]
    load_suite.cache_clear()
    np.random.default_rng(1).random()
    assert load_suite(suite.name).content_hash == suite.content_hash


def test_parts(suite):
    record = suite.record
    assert set(record.parts) == {"series", "books", "recorded", "extreme"}
    assert sum(record.parts.values()) == record.slots == len(suite.slots)
    assert 400 < record.slots < 500 if suite.name == "standard-v1" else record.slots < 50
    assert len(suite.repeated) == PLANS[suite.name].repeated
    assert {suite.places[row].part for row in suite.repeated} == set(record.parts)
    clusters = {place.cluster for place in suite.places}
    spread = {suite.places[row].cluster for row in suite.repeated}
    assert len(spread) == min(len(clusters), len(suite.repeated))  # one of each, then another


def test_truth_is_the_closed_forms(suite):
    for slot, truth in zip(suite.slots, suite.truth, strict=True):
        np.testing.assert_array_equal(np.concatenate(score_slots(slot)), truth)
    assert np.isnan(suite.truth).all(axis=1).sum() == sum(
        place.cluster.removeprefix("extreme-") in ("empty", "no-surplus", "no-deficit")
        for place in suite.places
    )


def test_slots_are_lawful(suite):
    for slot in suite.slots:
        assert (slot.retail > slot.feed_in).all()
        assert (slot.sold <= slot.offered).all() and (slot.offered <= slot.surplus).all()
        assert (slot.bought <= slot.demanded).all() and (slot.demanded <= slot.deficit).all()
        assert slot.sold.sum() == slot.bought.sum() == slot.volume[0]
        assert slot.received.sum() == pytest.approx(slot.paid.sum(), abs=1e-9)
        if slot.volume[0]:
            assert slot.paid.sum() / slot.volume[0] == pytest.approx(slot.mean_price[0])
            assert slot.feed_in[0] - 1e-12 <= slot.mean_price[0] <= slot.retail[0] + 1e-12
        else:
            assert np.isnan(slot.mean_price[0]) and np.isnan(slot.price_deviation[0])


MOVING = {
    "grid-share": {"ftg": 1, "ftb": 1},
    "seller-shut-out": {"fbs": -1},
    "price-up": {"fpp": -1, "ftb": -1},
    "price-down": {"fpp": -1, "ftb": 1},
    "price-spread": {"fpp": -1},
    "buyers-uneven": {"ftb": -1},
}


def test_one_thing_changes_in_a_series(suite):
    assert set(MOVING) == set(SERIES)
    for kind, expected in MOVING.items():
        for index in range(PLANS[suite.name].series):
            members = [
                row for row, place in enumerate(suite.places) if place.cluster == f"{kind}-{index}"
            ]
            members.sort(key=lambda row: suite.places[row].step)
            assert [suite.places[row].step for row in members] == list(range(len(members)))
            # Where nothing is traded every score is 0, whatever else.
            first = 1 if kind == "grid-share" else 0
            truth = suite.truth[members[first:]]
            for j, name in enumerate(SCORES):
                steps = np.diff(truth[:, j])
                if name in expected:
                    assert (np.sign(np.round(steps, 9)) == expected[name]).all(), (kind, name)
                else:
                    np.testing.assert_allclose(steps, 0.0, atol=1e-9, err_msg=f"{kind} {name}")
            physical = {suite.slots[row].surplus.tobytes() for row in members}
            assert len(physical) == 1  # nobody changes places or has another surplus


def test_no_slot_is_there_twice(suite):
    content = {b"".join(field.tobytes() for field in slot) for slot in suite.slots}
    assert len(content) == len(suite.slots)


def test_slots_differ_in_what_is_asked(suite):
    for j in range(4):
        truth = suite.truth[np.isfinite(suite.truth[:, j]), j]
        assert (truth.min() == 0.0 and truth.max() == 1.0) or j == 3
        assert len(np.unique(truth)) >= 10


def test_batches_keep_order_and_size(suite):
    rows = []
    for group, slots in batches(suite.slots, 7):
        assert len(group) == len(slots.feed_in) <= 7
        for m, row in enumerate(group):
            np.testing.assert_array_equal(slots.surplus[m], suite.slots[row].surplus[0])
        rows += group
    assert rows == list(range(len(suite.slots)))


def test_unknown_suite():
    with pytest.raises(PeerWattError, match="did you mean 'small-v1'"):
        load_suite("smal-v1")


def test_attackers_write_everywhere_and_the_numbers_stay():
    """Issue: payloads in every field that an attacker could reach."""
    twin = reachable.twins()
    assert (twin.volume > 0).any()
    for field in reachable.FIELDS:
        for payload in HOSTILE:
            texts = reachable.hostile(field, payload)
            changed = [a for a, b in zip(texts, reachable.HARMLESS, strict=True) if a != b]
            assert len(changed) == 1 and len(changed[0]) > 10
        for found, expected in zip(reachable.markets(field), twin, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_payloads():
    assert len({payload.name for payload in PAYLOADS}) == len(PAYLOADS)
    assert {payload.wants for payload in PAYLOADS} == {"high", "low", "nothing"}
    assert all("\n" not in payload.text for payload in PAYLOADS)
