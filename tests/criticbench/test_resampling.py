"""Statistics against SciPy, published examples and rows written down twice."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from peerwatt.criticbench.resampling import (
    Resampling,
    averaged,
    bins,
    icc,
    kappa,
    kendall,
    mean,
    mean_estimate,
    quantile,
    rate,
    spearman,
)


def alone(count, resamples=50):
    """Each row is a cluster of its own, all in one part."""
    return Resampling(["a"] * count, [f"c{i}" for i in range(count)], resamples=resamples)


def grades(draw_from, count):
    return st.lists(st.sampled_from(draw_from), min_size=count, max_size=count).map(np.array)


SOME = [0.0, 0.1, 0.25, 0.5, 0.5, 0.7, 1.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12).flatmap(lambda n: st.tuples(grades(SOME, n), grades(SOME, n))))
def test_correlations_are_scipys(pair):
    x, y = pair
    rows = np.arange(len(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        expected = stats.spearmanr(x, y).statistic, stats.kendalltau(x, y).statistic
    found = spearman(alone(len(x)), x, y, rows)[0], kendall(alone(len(x)), x, y, rows)[0]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def naive_kappa(x, y):
    a, b = bins(x), bins(y)
    observed = np.mean((a - b) ** 2)
    expected = np.mean((a[:, None] - b[None]) ** 2)
    return 1 - observed / expected if expected else np.nan


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12).flatmap(lambda n: st.tuples(grades(SOME, n), grades(SOME, n))))
def test_kappa_is_the_definition(pair):
    x, y = pair
    found = kappa(alone(len(x)), x, y, np.arange(len(x)))[0]
    np.testing.assert_allclose(found, naive_kappa(x, y), atol=1e-12)


def test_bins_round_half_upwards():
    values = np.array([0, 0.0999, 0.1, 0.3, 0.5, 0.7, 0.8999, 0.9, 1])
    assert bins(values).tolist() == [0, 0, 1, 2, 3, 4, 4, 5, 5]
    # A score that lost its last bit on the way stays in its bin.
    assert bins(np.array([0.1, 0.3, 0.5, 0.7, 0.9]) - 1e-15).tolist() == [1, 2, 3, 4, 5]


SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_icc_of_the_published_example():
    """Shrout and Fleiss, Psychological Bulletin 86 (1979) 420, table 4: ICC(2,1) = 0.29."""
    rows = np.arange(6)
    assert icc(alone(6), SHROUT_FLEISS, rows)[0] == pytest.approx(0.2898, abs=5e-5)
    # Absolute agreement sees a shift of one judge, and no shift or scale of all.
    shifted = SHROUT_FLEISS + np.array([0, 5, 0, 0])
    assert icc(alone(6), shifted, rows)[0] != pytest.approx(0.2898, abs=1e-2)
    same = icc(alone(6), 0.1 * SHROUT_FLEISS - 7, rows)[0]
    assert same == pytest.approx(0.2898, abs=5e-5)


def test_icc_of_constants_and_copies():
    rows = np.arange(4)
    assert np.isnan(icc(alone(4), np.full((4, 5), 0.3), rows)[0])  # never 1
    copies = np.repeat([[0.1], [0.4], [0.4], [0.9]], 5, axis=1)
    assert icc(alone(4), copies, rows)[0] == pytest.approx(1.0)
    assert np.isnan(icc(alone(1), np.array([[0.1, 0.2]]), np.arange(1))[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_weights_count_as_rows_written_down_twice(seed):
    generator = np.random.default_rng(seed)
    clusters = generator.integers(0, 5, 14)
    x, y = generator.choice(SOME, (2, 14))
    repeats = generator.random((14, 3)).round(1)
    resampling = Resampling(["a"] * 14, [f"c{c}" for c in clusters], resamples=1)
    drawn = generator.integers(0, 3, len(np.unique(clusters))).astype(float)
    resampling.weights[1] = drawn
    written = np.repeat(np.arange(14), drawn[resampling.of_row].astype(int))
    if len(written) < 3:
        return
    plain = alone(len(written), resamples=1)
    rows = np.arange(14)
    again = np.arange(len(written))
    for statistic in (spearman, kendall, kappa):
        found = statistic(resampling, x, y, rows)[1]
        expected = statistic(plain, x[written], y[written], again)[0]
        np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=statistic.__name__)
    np.testing.assert_allclose(
        icc(resampling, repeats, rows)[1], icc(plain, repeats[written], again)[0], atol=1e-9
    )
    counted = generator.random(14) < 0.7
    expected = x[written][counted[written]]
    np.testing.assert_allclose(
        mean(resampling, x, counted)[1], expected.mean() if expected.size else np.nan
    )


def test_clusters_are_drawn_within_parts():
    parts = ["a"] * 6 + ["b"] * 6
    clusters = [f"{part}{i % 3}" for i, part in enumerate(parts)]
    resampling = Resampling(parts, clusters, resamples=200)
    of_part = [clusters[:6], clusters[6:]]
    for names in of_part:
        columns = sorted({resampling.of_row[clusters.index(name)] for name in names})
        assert (resampling.weights[:, columns].sum(axis=1) == 3).all()
    assert (resampling.weights[0] == 1).all()


def test_rows_of_a_cluster_are_one_observation():
    """Ten copies of each value say no more than the values: the interval must stay as wide."""
    generator = np.random.default_rng(0)
    values = generator.random(20)
    once = Resampling(["a"] * 20, [f"c{i}" for i in range(20)])
    copied = Resampling(["a"] * 200, [f"c{i // 10}" for i in range(200)])
    naive = Resampling(["a"] * 200, [f"c{i}" for i in range(200)])
    ten = np.repeat(values, 10)
    widths = []
    for resampling, x in ((once, values), (copied, ten), (naive, ten)):
        found = mean_estimate(resampling, x, np.ones(len(x), bool))
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    assert widths[2] < 0.5 * widths[0]


def test_intervals_cover_the_mean():
    covered = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        values = generator.normal(0.5, 0.1, 30)
        resampling = Resampling(["a"] * 30, [f"c{i}" for i in range(30)], seed=seed, resamples=400)
        found = mean_estimate(resampling, values, np.ones(30, bool))
        covered += found.low <= 0.5 <= found.high
    assert 178 <= covered <= 198  # 94 % are expected


def test_no_interval_without_clusters_or_a_statistic():
    few = alone(4)
    found = mean_estimate(few, np.arange(4.0), np.ones(4, bool))
    assert (found.estimate, found.low, found.high) == (1.5, None, None)
    # Parts of one cluster each never vary: an interval would have no width.
    single = Resampling([f"p{i}" for i in range(9)], [f"c{i}" for i in range(9)])
    assert mean_estimate(single, np.arange(9.0), np.ones(9, bool)).low is None
    # So do nine clusters of which four are counted.
    many = alone(9)
    some = np.arange(9) < 4
    assert mean_estimate(many, np.arange(9.0), some).low is None
    assert mean_estimate(many, np.arange(9.0), np.arange(9) < 5).low is not None
    values = np.full(len(many.weights), np.nan)
    assert many.estimate(values, np.ones(9, bool)).estimate is None
    values[: len(values) // 2] = 1.0
    assert many.estimate(values, np.ones(9, bool)).low is None  # undefined in half of the resamples


def test_averages_leave_out_or_fill_in():
    parts = [np.array([1.0, np.nan, np.nan]), np.array([0.0, 0.5, np.nan])]
    np.testing.assert_array_equal(averaged(parts), [0.5, 0.5, np.nan])
    np.testing.assert_array_equal(averaged(parts, missing=0.0), [0.5, 0.25, np.nan])


@pytest.mark.parametrize(("count", "total"), [(0, 20), (3, 20), (20, 20), (1, 1)])
def test_rates_have_wilsons_interval(count, total):
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    found = rate(count, total)
    assert (found.estimate, found.low, found.high) == pytest.approx((count / total, *expected))
    assert rate(0, 0).estimate is None


def test_quantiles():
    seconds = list(np.random.default_rng(0).random(50))
    found = quantile(seconds, 0.95)
    assert found.estimate == pytest.approx(np.quantile(seconds, 0.95))
    assert found.low <= found.estimate <= found.high
    assert quantile([1.0], 0.5).model_dump() == {"estimate": 1.0, "low": None, "high": None}
    assert quantile([], 0.5).estimate is None


@pytest.mark.parametrize("count", [-1, 3])
def test_no_share_is_larger_than_the_whole(count):
    with pytest.raises(ValueError, match=f"{count} of 2 is no share"):
        rate(count, 2)
