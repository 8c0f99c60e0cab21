import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from peerwatt.fairness import gini, group_gap, jain, qoe, share_of_losers, worst_off

benefits = hnp.arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 10**6))


@pytest.mark.parametrize(
    ("benefit", "expected_gini", "expected_jain"),
    [
        ([1, 1, 1, 1], 0, 1),
        ([4, 0, 0, 0], 0.75, 0.25),
        ([2, 2, 0, 0], 0.5, 0.5),
        ([1, 2, 3, 4], 0.25, 5 / 6),
    ],
)
def test_published_oracles(benefit, expected_gini, expected_jain):
    assert gini(benefit) == pytest.approx(expected_gini)
    assert jain(benefit) == pytest.approx(expected_jain)


@given(benefits)
def test_gini_is_the_mean_difference(x):
    assume(x.sum() > 0)
    naive = np.abs(x[:, None] - x[None, :]).sum() / (2 * len(x) ** 2 * x.mean())
    assert gini(x) == pytest.approx(naive, abs=1e-12)
    assert -1e-12 <= gini(x) <= 1 - 1 / len(x) + 1e-12
    assert 1 / len(x) - 1e-12 <= jain(x) <= 1


@given(benefits, st.randoms(), st.integers(1, 50))
def test_scale_and_order_do_not_matter(x, random, scale):
    assume(x.sum() > 0)
    order = list(range(len(x)))
    random.shuffle(order)
    assert gini(x[order] * scale) == pytest.approx(gini(x), abs=1e-12)
    assert jain(x[order] * scale) == pytest.approx(jain(x), abs=1e-12)


@pytest.mark.parametrize("benefit", [[0, 0, 0], [-1, -1], [-2, 1, 1], [-3, 1], [1, np.nan]])
def test_undefined_where_nothing_was_gained(benefit):
    assert np.isnan(gini(benefit))
    assert np.isnan(jain(benefit))


def test_losers_are_not_clipped():
    # Trap 7: with the loser clipped to 0 these would be 0.5 and 0.533.
    assert gini([-1, 1, 3]) == pytest.approx(8 / 9)
    assert jain([-1, 1, 3]) == pytest.approx(9 / 33)
    assert gini([-9, 1, 11]) > 1


def test_qoe_oracles():
    assert qoe([0.08, 0.08, 0.28, 0.28], 0.08, 0.28) == pytest.approx(0)
    assert qoe([0.2, 0.2, 0.2], 0.08, 0.28) == pytest.approx(1)
    assert qoe([1, 3], 0, 4) == pytest.approx(0.5)
    assert np.isnan(qoe([1, 1], 2, 2))


def test_losers_and_the_worst_off():
    assert share_of_losers([-1, 0, 1, 2]) == 0.25
    assert share_of_losers(np.array([0, 0])) == 0
    assert np.isnan(share_of_losers([np.nan, -1.0]))
    assert worst_off([3, -2.5, 1]) == -2.5


def test_group_gap():
    assert group_gap([0.1, 0.3, 0.5, 0.0], ["a", "a", "b", "c"]) == pytest.approx(0.5)
    assert group_gap([-0.5, 0.1], [0, 1]) == pytest.approx(0.6)
    assert np.isnan(group_gap([0.1, 0.2], ["a", "a"]))
    got = group_gap([[0.1, 0.3], [0.3, 0.3]], ["b", "a"])
    assert got == pytest.approx([0.2, 0])


@given(hnp.arrays(np.float64, (5, 4), elements=st.floats(-10, 10)))
def test_batches_like_one_by_one_and_nothing_changed(x):
    before = x.copy()
    low = np.linspace(-10, 0, 5)
    for index in (gini, jain, share_of_losers, worst_off):
        rows = [index(row) for row in x]
        np.testing.assert_array_equal(index(x), rows)
    np.testing.assert_array_equal(
        qoe(x, low, 10), [qoe(row, at, 10) for row, at in zip(x, low, strict=True)]
    )
    np.testing.assert_array_equal(x, before)
