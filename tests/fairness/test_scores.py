import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slot_batches import FEED_IN, MIDDLE, RETAIL, Trade, batches, join, single_slots, slot

from peerwatt.env import VectorMarket, evaluation_scenarios
from peerwatt.env.records import slot_batch
from peerwatt.fairness import FairnessScores, feasible, jain, score_slots
from peerwatt.plugins.loader import load_task

HOUSEHOLD_AXES = ("surplus", "deficit", "offered", "demanded")
HOUSEHOLD_AXES += ("sold", "bought", "received", "paid")


def scores_of(*args, **kwargs):
    return {k: v[0] for k, v in score_slots(slot(*args, **kwargs))._asdict().items()}


def equal(a: FairnessScores, b: FairnessScores):
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12, equal_nan=True)


def test_hand_worked_slot():
    # Sellers have 2 and 2 kWh, buyers need 1 and 4; 1 kWh goes at 0.18, 2 kWh at 0.23.
    trades = [Trade(0, 2, 1.0, 0.18), Trade(0, 3, 1.0, 0.23), Trade(1, 3, 1.0, 0.23)]
    got = scores_of([2, 2, -1, -4], trades)
    assert got["ftg"] == 3 / 4
    assert got["fbs"] == pytest.approx((1 + 0.5) ** 2 / (2 * (1 + 0.25)))
    mean = (0.18 + 2 * 0.23) / 3
    deviation = np.sqrt(((0.18 - mean) ** 2 + 2 * (0.23 - mean) ** 2) / 3)
    assert got["fpp"] == pytest.approx(1 - (mean - 0.18) / 0.1 - deviation / 0.1)
    assert got["ftb"] == pytest.approx((1 * (1 - 0.10 / 0.20) + 0.5 * (1 - 0.15 / 0.20)) / 2)


def test_a_perfect_slot_at_the_middle_price():
    got = scores_of([2, 1, -3], [Trade(0, 2, 2, MIDDLE), Trade(1, 2, 1, MIDDLE)])
    assert got == pytest.approx({"ftg": 1, "fbs": 1, "fpp": 1, "ftb": 0.5})


@pytest.mark.parametrize(
    ("price", "fpp", "ftb"), [(FEED_IN, 0, 1), (RETAIL, 0, 0), (0.13, 0.5, 0.75)]
)
def test_prices_at_the_ends_and_between(price, fpp, ftb):
    got = scores_of([1, -1], [Trade(0, 1, 1, price)])
    assert got["fpp"] == pytest.approx(fpp, abs=1e-12)
    assert got["ftb"] == pytest.approx(ftb, abs=1e-12)


def test_dispersion_costs_even_around_the_right_mean():
    spread = [Trade(0, 2, 1, MIDDLE - 0.05), Trade(1, 2, 1, MIDDLE + 0.05)]
    assert scores_of([1, 1, -2], spread)["fpp"] == pytest.approx(0.5)


@pytest.mark.parametrize("net", [[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
def test_where_no_trade_is_feasible_every_score_is_undefined(net):
    assert all(np.isnan(value) for value in scores_of(net).values())


def test_feasible_but_no_trade_scores_zero():
    assert scores_of([1, 1, -1]) == {"ftg": 0, "fbs": 0, "fpp": 0, "ftb": 0}
    lone = scores_of([1, -1, -1])
    assert np.isnan(lone.pop("fbs")) and lone == {"ftg": 0, "fpp": 0, "ftb": 0}


# Trap 7 of our peers: a monopoly scored perfectly fair; turnover was called welfare.


@given(sellers=st.integers(2, 8))
def test_a_monopoly_is_never_fair(sellers):
    got = scores_of([1] * sellers + [-1], [Trade(0, sellers, 1, MIDDLE)])
    assert got["fbs"] == pytest.approx(1 / sellers)


def test_a_lone_seller_is_undefined_not_fair():
    assert np.isnan(scores_of([1, -1], [Trade(0, 1, 1, MIDDLE)])["fbs"])


@given(sellers=st.integers(2, 8), quanta=st.integers(1, 1024))
def test_shutting_out_a_seller_lowers_fbs(sellers, quanta):
    everyone = [Trade(n, sellers, quanta / 1024, MIDDLE) for n in range(sellers)]
    net = [1] * sellers + [-sellers]
    assert scores_of(net, everyone)["fbs"] == pytest.approx(1)
    assert scores_of(net, everyone[1:])["fbs"] == pytest.approx((sellers - 1) / sellers)


def test_fill_counts_not_volume():
    # Both sell half of what they have: equal treatment of unequal homes.
    trades = [Trade(0, 2, 2, MIDDLE), Trade(1, 2, 0.5, MIDDLE)]
    assert scores_of([4, 1, -4], trades)["fbs"] == pytest.approx(1)


def test_turnover_is_no_merit():
    dear = scores_of([2, 2, -4], [Trade(0, 2, 1, RETAIL)])
    cheap = scores_of([2, 2, -4], [Trade(0, 2, 1, FEED_IN)])
    assert dear["ftg"] == cheap["ftg"] == 0.25
    assert dear["fbs"] == cheap["fbs"]


# Withholding: FTG and FTB see it, FPP and FBS judge the trade that happened.


def test_withholding_in_a_hand_worked_slot():
    net = [2, 2, -4]
    honest = scores_of(net, [Trade(0, 2, 2, MIDDLE), Trade(1, 2, 2, MIDDLE)])
    both = scores_of(net, [Trade(0, 2, 1, MIDDLE), Trade(1, 2, 1, MIDDLE)])
    one = scores_of(net, [Trade(0, 2, 1, MIDDLE), Trade(1, 2, 2, MIDDLE)])
    assert honest == pytest.approx({"ftg": 1, "fbs": 1, "fpp": 1, "ftb": 0.5})
    assert both == pytest.approx({"ftg": 0.5, "fbs": 1, "fpp": 1, "ftb": 0.25})
    assert one == pytest.approx({"ftg": 0.75, "fbs": 0.9, "fpp": 1, "ftb": 0.375})


@pytest.mark.parametrize("mechanism", ["cda", "call"])
def test_withholding_in_the_market(mechanism):
    """Everyone quotes at the middle, first all there is, then half of it, on the same days."""
    task = load_task("pilot-v1")
    market = VectorMarket(task, scenarios=evaluation_scenarios(task, "test"), mechanism=mechanism)

    def played(quantity):
        actions = np.zeros((market.num_envs, market.num_agents, 3), np.int64)
        actions[..., :2] = market.action_nvec[0] // 2, quantity
        market.reset()
        ticks = market.tables.ticks
        return join([slot_batch(task, ticks, market.step(actions).slot) for _ in range(24)])

    honest, withheld = played(2), played(1)
    np.testing.assert_array_equal(withheld.surplus, honest.surplus)
    np.testing.assert_array_equal(withheld.deficit, honest.deficit)
    assert 0.4 < withheld.offered.sum() / honest.offered.sum() <= 0.5
    assert withheld.sold.sum() < honest.sold.sum()
    before, after = score_slots(honest), score_slots(withheld)
    weight = feasible(honest)
    traded = (withheld.volume > 0) & (honest.volume > 0)
    assert (weight > 0).sum() > 100 and traded.sum() > 100
    assert (before.ftg[weight > 0] == 1).all()
    assert (after.ftg[weight > 0] < 1).all()
    assert (after.ftb[weight > 0] < before.ftb[weight > 0]).all()
    np.testing.assert_allclose(after.fpp[traded], before.fpp[traded])


def test_weighing_by_feasible_energy_gives_the_traded_share():
    slots = join([slot([1, -4], [Trade(0, 1, 1, MIDDLE)]), slot([9, -9]), slot([1, 1])])
    weight, ftg = feasible(slots), score_slots(slots).ftg
    assert weight.tolist() == [1, 9, 0]
    assert np.nansum(weight * ftg) / weight.sum() == pytest.approx(1 / 10)


@given(single_slots())
def test_fbs_is_jains_index_of_the_fills(slots):
    fbs, sellers = score_slots(slots).fbs[0], slots.surplus[0] > 0
    if np.isfinite(fbs) and slots.volume[0] > 0:
        assert fbs == pytest.approx(jain(slots.sold[0, sellers] / slots.surplus[0, sellers]))


@given(batches())
def test_scores_lie_between_zero_and_one_or_are_undefined(slots):
    defined = feasible(slots) > 0
    for name, score in score_slots(slots)._asdict().items():
        assert score.dtype == np.float64 and score.shape == slots.volume.shape
        assert np.all(np.isnan(score) | ((score >= 0) & (score <= 1)))
        if name != "fbs":
            assert np.array_equal(np.isfinite(score), defined)
        else:
            several = (slots.surplus > 0).sum(axis=1) > 1
            assert np.array_equal(np.isfinite(score), defined & several)


@given(batches(), st.randoms())
def test_the_order_of_households_does_not_matter(slots, random):
    order = list(range(slots.surplus.shape[1]))
    random.shuffle(order)
    permuted = {name: getattr(slots, name)[:, order] for name in HOUSEHOLD_AXES}
    equal(score_slots(slots._replace(**permuted)), score_slots(slots))


@given(batches())
def test_a_batch_scores_like_its_slots_one_by_one(slots):
    whole = score_slots(slots)
    for m in range(len(slots.volume)):
        one = score_slots(type(slots)(*(field[m : m + 1] for field in slots)))
        for part, score in zip(one, whole, strict=True):
            assert np.array_equal(part[0], score[m], equal_nan=True)


@given(batches())
def test_nothing_is_changed(slots):
    before = [field.copy() for field in slots]
    score_slots(slots)
    feasible(slots)
    for field, copy in zip(slots, before, strict=True):
        assert np.array_equal(field, copy, equal_nan=True)


def test_any_memory_layout_and_an_empty_batch():
    slots = join([slot([1, 1, -1], [Trade(0, 2, 1, 0.2)])] * 3)
    turned = type(slots)(*(np.asfortranarray(field) for field in slots))
    equal(score_slots(turned), score_slots(slots))
    assert score_slots(type(slots)(*(field[:0] for field in slots))).ftg.shape == (0,)


def test_mismatched_shapes_are_refused():
    slots = slot([1, -1])
    with pytest.raises(ValueError, match=r"slots\.paid has the shape \(1, 1\), not \(1, 2\)"):
        score_slots(slots._replace(paid=slots.paid[:, :1]))
    with pytest.raises(ValueError, match=r"slots\.retail"):
        score_slots(slots._replace(retail=np.array([0.1, 0.2])))
