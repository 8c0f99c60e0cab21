import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, norm

from peerwatt.evaluation.resampling import expanded
from peerwatt.evaluation.statistics import (
    MIN_RUNS,
    Interval,
    bootstrap_difference,
    bootstrap_iqm,
    holm,
    iqm,
    optimality_gap,
    paired_difference,
    performance_profile,
    probability_of_improvement,
    ranks,
)

NORMAL = np.random.default_rng(7).normal(size=10)
samples = st.lists(st.integers(-5, 5), min_size=5, max_size=8)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_iqm_by_hand():
    assert iqm([1, 2, 3, 4, 5, 6, 7, 8]) == 4.5
    assert iqm([8, -1000, 4, 5, 6, 3, 2, 1000]) == pytest.approx((3 + 4 + 5 + 6) / 4)
    assert iqm([1, 2, 6]) == 3  # fewer than four: nothing to cut
    assert iqm([[0, 9], [4, 5]]) == 4.5  # runs and tasks are pooled
    assert np.isnan(iqm([1, np.nan, 2, 3]))


def test_bootstrap_of_five_runs_by_hand():
    # k ones among 5 draws of {0, 0, 0, 0, 1}, k ~ Bin(5, 1/5); the mean of the middle three is 0
    # for k < 2, 1/3 for k = 2, 2/3 for k = 3: P(0) = 0.737, P(<= 1/3) = 0.942, P(<= 2/3) = 0.993.
    # The upper bound is the quantile Phi(sqrt(5/4) t) with t of 4 degrees of freedom: t = 2.776,
    # 1.533, 0.941, 0.414 at the levels below, so 0.9990, 0.957, 0.854 and 0.678.
    runs = [0, 0, 0, 0, 1]
    assert bootstrap_iqm(runs, rng(), confidence=0.95) == pytest.approx((0, 0, 1))
    assert bootstrap_iqm(runs, rng(), confidence=0.8) == pytest.approx((0, 0, 2 / 3))
    assert bootstrap_iqm(runs, rng(), confidence=0.6) == pytest.approx((0, 0, 1 / 3))
    assert bootstrap_iqm(runs, rng(), confidence=0.3) == Interval(0, 0, 0)


def test_bootstrap_of_six_runs_by_hand():
    # k ~ Bin(6, 1/2); the mean of the middle four is (k - 1) / 4, cut off at 0 and 1, and at most
    # 0, 1/4, 1/2, 3/4 with chance 0.109, 0.344, 0.656, 0.891. At the level 0.4 t = 0.559 with 5
    # degrees of freedom, so the bounds are the quantiles 1/2 -+ 0.230.
    runs = [0, 0, 0, 1, 1, 1]
    assert bootstrap_iqm(runs, rng()) == Interval(0.5, 0, 1)
    assert bootstrap_iqm(runs, rng(), confidence=0.4) == Interval(0.5, 0.25, 0.75)


def test_the_level_of_an_interval_by_hand():
    # 2 Phi(sqrt(10/9) 2.2622) - 1 and 2 Phi(sqrt(5/4) 2.1199) - 1: t with 9, and 4 x 4 = 16 degrees
    assert expanded(0.95, np.zeros((1, 10))) == pytest.approx(2 * norm.cdf(2.38457) - 1, abs=1e-5)
    assert expanded(0.95, np.zeros((4, 5))) == pytest.approx(2 * norm.cdf(2.37012) - 1, abs=1e-5)
    assert expanded(0.95, np.zeros((1, 10**6))) == pytest.approx(0.95, abs=1e-5)


@pytest.mark.parametrize(("runs", "nominal"), [(5, 0.94), (10, 0.96), (20, 0.96)])
def test_bootstrap_covers_the_truth_about_as_often_as_documented(runs, nominal):
    draws = rng(1).normal(loc=3.0, size=(300, runs))
    intervals = [bootstrap_iqm(run, rng(k), resamples=500) for k, run in enumerate(draws)]
    covered = np.mean([low <= 3.0 <= high for _, low, high in intervals])
    assert abs(covered - nominal) < 0.04  # three standard errors


def no_interval(interval):
    return np.isnan(interval.low) and np.isnan(interval.high)


@pytest.mark.parametrize("runs", range(1, MIN_RUNS))
def test_few_runs_have_an_estimate_but_no_interval(runs):
    few = NORMAL[:runs]
    assert no_interval(bootstrap_iqm(few, rng()))
    assert bootstrap_iqm(few, rng()).estimate == iqm(few)
    for a, b in ((few, NORMAL), (NORMAL, few)):
        assert no_interval(bootstrap_difference(a, b, rng()))
        assert bootstrap_difference(a, b, rng()).estimate == pytest.approx(iqm(a) - iqm(b))
        assert no_interval(probability_of_improvement(a, b))
    assert no_interval(paired_difference(few, few**2, rng()))
    assert no_interval(optimality_gap(few, rng()))
    profile = performance_profile(few, [-9, 9])
    assert profile.share.tolist() == [1, 0] and np.isnan([profile.low, profile.high]).all()
    assert probability_of_improvement(few + 9, NORMAL).estimate == 1
    assert no_interval(bootstrap_iqm([0.3] * runs, rng()))  # equal runs are no exception
    assert no_interval(bootstrap_iqm(np.ones((runs, 7)), rng()))  # nor do tasks stand for runs
    assert ranks({"few": few + 9, "all": NORMAL}, rng()) == {"few": None, "all": 1}


def test_enough_runs_have_an_interval():
    _, low, high = bootstrap_iqm(NORMAL[:MIN_RUNS], rng())
    assert low < high
    assert ranks({"enough": NORMAL[:MIN_RUNS] + 9, "all": NORMAL}, rng()) == {"enough": 1, "all": 2}


def test_equal_runs_have_an_interval_without_width():
    assert bootstrap_iqm([0.3] * 5, rng()) == pytest.approx((0.3, 0.3, 0.3))
    assert bootstrap_difference([2] * 5, [1] * 6, rng()) == Interval(1, 1, 1)
    assert probability_of_improvement([1] * 5, [1] * 5) == Interval(0.5, 0.5, 0.5)
    assert probability_of_improvement([2] * 5, [1] * 9) == Interval(1, 1, 1)
    assert paired_difference([2, 3, 4, 5, 6], [1, 2, 3, 4, 5], rng()) == Interval(1, 1, 1)
    assert optimality_gap([[0.5, 2]] * 5, rng()) == Interval(0.25, 0.25, 0.25)
    profile = performance_profile([[0, 1]] * 5, [-1, 0, 1])
    for values in profile[1:]:
        assert values.tolist() == [1, 0.5, 0]


def test_a_failed_run_is_not_hidden():
    assert all(np.isnan(value) for value in bootstrap_iqm([1, 2, np.nan], rng()))
    assert all(np.isnan(value) for value in bootstrap_difference([1, 2], [1, np.inf], rng()))
    assert all(np.isnan(value) for value in paired_difference([1, np.inf], [1, np.inf], rng()))
    assert all(np.isnan(value) for value in optimality_gap([np.inf] * 9, rng()))
    assert all(np.isnan(value) for value in probability_of_improvement([1, np.nan], [1, 2]))
    assert np.isnan(performance_profile([1, np.nan], [0])[1:]).all()


def test_runs_are_resampled_within_their_task():
    # Each task is constant: pooled resampling would mix 0 and 10, stratified cannot.
    assert bootstrap_iqm([[0, 10]] * 6, rng()) == Interval(5, 5, 5)
    one_task_varies = np.stack([np.zeros(6), np.arange(6) + 10.0], axis=1)
    estimate, low, high = bootstrap_iqm(one_task_varies, rng())
    assert low < estimate < high
    # 6 of 12 scores stay: three zeros and the lowest three of the second task.
    assert estimate == pytest.approx((10 + 11 + 12) / 6)
    assert low >= 10 * 3 / 6 and high <= 15 * 3 / 6


def test_one_task_is_the_plain_bootstrap():
    assert bootstrap_iqm(NORMAL[:, None], rng()) == bootstrap_iqm(NORMAL, rng())


def test_difference():
    estimate, low, high = bootstrap_difference(NORMAL + 5, NORMAL, rng())
    assert estimate == pytest.approx(5)
    assert low < 5 < high and low > 3
    # The same seeds give no advantage: independent resampling keeps the interval wide.
    assert high - low > 0.5
    tasks = np.stack([NORMAL, NORMAL + 50], axis=1)
    assert bootstrap_difference(tasks + 5, tasks, rng()).low > 3
    with pytest.raises(ValueError, match="2 and 1 tasks"):
        bootstrap_difference(tasks, NORMAL, rng())


def test_paired_difference_by_hand():
    # k ones among 6 draws of {0, 0, 0, 1, 1, 1}: the mean is k / 6 and at most 2/6, 3/6 with chance
    # 0.344, 0.656; at the level 0.4 the bounds are the quantiles 1/2 -+ 0.230.
    a, b = np.array([5, 6, 7, 9, 10, 11]), np.array([5, 6, 7, 8, 9, 10])
    assert paired_difference(a, b, rng(), confidence=0.4) == pytest.approx((1 / 2, 2 / 6, 4 / 6))
    assert paired_difference([[1, 0]] * 6, [[0, 2]] * 6, rng()) == Interval(-0.5, -0.5, -0.5)
    with pytest.raises(ValueError, match=r"not \(6,\) and \(5,\)"):
        paired_difference(a, b[:5], rng())


def test_pairs_are_never_torn_apart():
    scenarios = rng(3).normal(scale=10, size=32)
    better = scenarios + 1 + 0.1 * rng(4).normal(size=32)
    _, low, high = paired_difference(better, scenarios, rng())
    assert 0.9 < low < 1 < high < 1.1
    assert bootstrap_difference(better, scenarios, rng()).low < 0


def test_optimality_gap_by_hand():
    assert optimality_gap([0, 0.5, 1.5], rng()).estimate == 0.5  # (1 + 1/2 + 0) / 3
    assert optimality_gap([0, 0.5, 1.5], rng(), target=2.0).estimate == pytest.approx(4 / 3)
    assert optimality_gap([[1, 0]] * 5 + [[1, 1]], rng()).estimate == pytest.approx(5 / 12)
    estimate, low, high = optimality_gap([0.9] * 5 + [2.0] * 5, rng())
    assert estimate == pytest.approx(0.05) and 0 <= low < estimate < high <= 0.1 + 1e-12


@given(samples, samples)
def test_probability_of_improvement_is_mann_whitney(a, b):
    expected = mannwhitneyu(a, b, method="exact").statistic / (len(a) * len(b))
    got = probability_of_improvement(a, b)
    assert got.estimate == pytest.approx(expected)
    assert 0 <= got.low <= got.estimate + 1e-9 and got.estimate - 1e-9 <= got.high <= 1
    turned = probability_of_improvement(b, a)
    assert turned == pytest.approx((1 - got.estimate, 1 - got.high, 1 - got.low))


def test_probability_of_improvement_by_hand():
    assert probability_of_improvement([1, 2, 3], [2, 2, 2]).estimate == 0.5
    two_tasks = probability_of_improvement([[1, 0], [1, 0]], [[0, 0], [0, 0]])
    assert two_tasks.estimate == 0.75  # mean of 1 and 1/2


def test_the_interval_of_an_improvement_solves_its_equation():
    # Newcombe's method 5, (p - q)^2 = z^2 q (1 - q) (1 + (N - 1) ((1-q)/(2-q) + q/(1+q))) / (m n)
    # with N = (m + n) / 2; here m = 5, n = 6, p = 28/30.
    p, low, high = probability_of_improvement([2, 2, 3, 4, 5], [1, 1, 1, 1, 1, 3])
    assert p == pytest.approx((5 + 5 + 5 + 5 + 5 + 0.5 + 2) / 30)
    for q in (low, high):
        spread = 1 + 4.5 * ((1 - q) / (2 - q) + q / (1 + q))
        assert (p - q) ** 2 == pytest.approx(1.959964**2 * q * (1 - q) * spread / 30)
    assert 0 < low < p < high < 1
    # Complete separation is no certainty: with p = 1, (1 - q) mn = z^2 q (1 + ...).
    p, low, high = probability_of_improvement([2, 3, 2, 3, 2], [0, 1] * 3)
    spread = 1 + 4.5 * ((1 - low) / (2 - low) + low / (1 + low))
    assert (1 - low) * 30 == pytest.approx(1.959964**2 * low * spread)
    assert (p, high) == (1, 1) and 0.5 < low < 0.7


def test_performance_profile_by_hand():
    scores = np.arange(10) / 10
    thresholds, share, low, high = performance_profile(scores, [-1, 0.45, 0.5, 1])
    assert thresholds.tolist() == [-1, 0.45, 0.5, 1]
    assert share.tolist() == [1, 0.5, 0.4, 0]  # above, not at, the threshold
    # Wilson: (p + z^2/2n -+ z sqrt(p (1 - p) / n + z^2 / 4 n^2)) / (1 + z^2/n), z^2 = 3.8415
    assert low == pytest.approx([0.7225, 0.2366, 0.1682, 0], abs=1e-4)
    assert high == pytest.approx([1, 0.7634, 0.6873, 0.2775], abs=1e-4)
    tasks = performance_profile(np.stack([scores, scores + 9], axis=1), [0.45])
    assert tasks.share.tolist() == [0.75]
    wilson = ((0.75 + 0.096037) / 1.192073, 1.959964 / 1.192073 * (0.1875 / 20 + 0.0024009) ** 0.5)
    assert (tasks.low[0], tasks.high[0]) == pytest.approx(
        (wilson[0] - wilson[1], wilson[0] + wilson[1]), abs=1e-4
    )


@given(st.lists(st.floats(-3, 3), min_size=5, max_size=9))
def test_a_profile_falls_from_one_to_nothing(scores):
    _, share, low, high = performance_profile(scores, np.linspace(-4, 4, 17))
    assert share[0] == 1 and share[-1] == 0
    for values in (share, low, high):
        assert (np.diff(values) <= 1e-12).all()
    assert (low <= share + 1e-12).all() and (share <= high + 1e-12).all()


def test_holm_by_hand():
    # in ascending order 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, none below the one before
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1, 1]
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []
    # p / w = 0.05, 0.2, 0.1: 0.04 x 1 / 0.8, then 0.01 x 0.2 / 0.1, then 0.02 x 0.1 / 0.1
    weighted = holm([0.04, 0.02, 0.01], [0.8, 0.1, 0.1])
    assert weighted == pytest.approx([0.05, 0.05, 0.05])
    assert holm([0.004, 0.02, 0.01], [0.8, 0.1, 0.1]) == pytest.approx([0.005, 0.02, 0.02])
    assert holm([0.004, 0.02, 0.01], [8, 1, 1]) == pytest.approx([0.005, 0.02, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.data())
def test_holm_rejects_as_its_definition_says(p, data):
    w = data.draw(st.lists(st.floats(0.1, 9), min_size=len(p), max_size=len(p)))
    for alpha in (0.01, 0.05, 0.3):
        left, rejected = set(range(len(p))), set()
        while left:  # the definition, step by step
            k = min(left, key=lambda i: p[i] / w[i])
            if p[k] > alpha * w[k] / sum(w[i] for i in left) * (1 + 1e-12):
                break
            left.remove(k)
            rejected.add(k)
        adjusted = holm(p, w)
        assert {i for i in range(len(p)) if adjusted[i] <= alpha * (1 + 1e-9)} == rejected


@pytest.mark.parametrize(
    ("p", "weights", "sentence"),
    [
        ([0.1, np.nan], None, "p-values must be"),
        ([1.1], None, "p-values must be"),
        ([0.1, 0.2], [1], "2 positive numbers"),
        ([0.1, 0.2], [1, 0], "2 positive numbers"),
    ],
)
def test_what_is_no_p_value_or_weight_is_refused(p, weights, sentence):
    with pytest.raises(ValueError, match=sentence):
        holm(p, weights)


# Trap 6 of our peers: the bootstrap ignored its seed and drew from numpy's global state.


@pytest.mark.parametrize(
    "compute",
    [
        lambda g: bootstrap_iqm(NORMAL, g, resamples=200),
        lambda g: bootstrap_difference(NORMAL, NORMAL[::-1] * 2, g, resamples=200),
        lambda g: paired_difference(NORMAL, NORMAL**2 - 1, g, resamples=200),
        lambda g: optimality_gap(NORMAL, g, resamples=200),
    ],
)
def test_the_seed_matters_and_suffices(compute):
    state = np.random.get_state()
    first = compute(rng(5))
    np.random.seed(99)
    assert compute(rng(5)) == first
    state_before = np.random.get_state()[1].tolist()
    others = {compute(rng(seed)) for seed in range(6, 12)}
    assert np.random.get_state()[1].tolist() == state_before
    assert len({first, *others}) > 1
    assert {other.estimate for other in others} == {first.estimate}
    np.random.set_state(state)


def test_ranks_are_shared_where_entries_cannot_be_told_apart():
    entries = {"best": NORMAL + 9, "a": NORMAL, "b": NORMAL[::-1] + 0.01, "worst": NORMAL - 9}
    assert ranks(entries, rng()) == {"best": 1, "a": 2, "b": 2, "worst": 4}
    assert list(ranks(entries, rng())) == list(entries)
    assert ranks({"alone": NORMAL}, rng()) == {"alone": 1}
    assert ranks({"one": [1] * 5, "two": [1] * 5, "three": [2] * 5}, rng()) == {
        "one": 2,
        "two": 2,
        "three": 1,
    }


# Close calls decided by few resamples, so that a comparison that drew other numbers would show.
CLOSE = {f"entry-{k}": rng(k).normal(loc=0.3 * k, size=6) for k in range(10)}


def test_ranks_do_not_depend_on_the_order_of_entries():
    turned = dict(reversed(CLOSE.items()))
    for seed in range(5):
        assert ranks(turned, rng(seed), resamples=20) == ranks(CLOSE, rng(seed), resamples=20)
    assert len({str(ranks(CLOSE, rng(seed), resamples=20)) for seed in range(5)}) > 1


def test_entries_without_an_interval_have_no_rank():
    entries = {"lucky": [9.0], "failed": [1, np.nan], "a": NORMAL, "b": NORMAL - 9}
    assert ranks(entries, rng()) == {"lucky": None, "failed": None, "a": 1, "b": 2}


# Trap 4: scores moved when a stronger rival joined.


def test_a_rival_shifts_nobody_against_one_another():
    for seed in range(5):
        before = ranks(CLOSE, rng(seed), resamples=20)
        after = ranks({"a-rival": NORMAL + 99, **CLOSE}, rng(seed), resamples=20)
        assert after.pop("a-rival") == 1
        assert after == {name: rank + 1 for name, rank in before.items()}


@pytest.mark.parametrize("scores", [[], 3.0, np.zeros((2, 2, 2))])
def test_scores_of_another_shape_are_refused(scores):
    with pytest.raises(ValueError, match="scores must be"):
        bootstrap_iqm(scores, rng())
