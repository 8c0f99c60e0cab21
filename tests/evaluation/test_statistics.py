import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from peerwatt.evaluation.statistics import (
    MIN_RUNS,
    Interval,
    bootstrap_difference,
    bootstrap_iqm,
    iqm,
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
    runs = [0, 0, 0, 0, 1]
    assert bootstrap_iqm(runs, rng(), confidence=0.95) == pytest.approx((0, 0, 2 / 3))
    assert bootstrap_iqm(runs, rng(), confidence=0.8) == pytest.approx((0, 0, 1 / 3))
    assert bootstrap_iqm(runs, rng(), confidence=0.4) == Interval(0, 0, 0)


def test_bootstrap_of_six_runs_by_hand():
    # k ~ Bin(6, 1/2); the mean of the middle four is (k - 1) / 4, cut off at 0 and 1, and at most
    # 0, 1/4, 1/2, 3/4 with chance 0.109, 0.344, 0.656, 0.891.
    runs = [0, 0, 0, 1, 1, 1]
    assert bootstrap_iqm(runs, rng()) == Interval(0.5, 0, 1)
    assert bootstrap_iqm(runs, rng(), confidence=0.4) == Interval(0.5, 0.25, 0.75)


@pytest.mark.parametrize(("runs", "nominal"), [(5, 0.90), (10, 0.94), (20, 0.95)])
def test_bootstrap_covers_the_truth_about_as_often_as_documented(runs, nominal):
    draws = rng(1).normal(loc=3.0, size=(300, runs))
    intervals = [bootstrap_iqm(run, rng(k), resamples=500) for k, run in enumerate(draws)]
    covered = np.mean([low <= 3.0 <= high for _, low, high in intervals])
    assert abs(covered - nominal) < 0.05  # three standard errors


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
        assert no_interval(probability_of_improvement(a, b, rng()))
    assert probability_of_improvement(few + 9, NORMAL, rng()).estimate == 1
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
    assert probability_of_improvement([1] * 5, [1] * 5, rng()) == Interval(0.5, 0.5, 0.5)
    assert probability_of_improvement([2, 3, 2, 3, 2], [0, 1] * 3, rng()) == Interval(1, 1, 1)


def test_a_failed_run_is_not_hidden():
    assert all(np.isnan(value) for value in bootstrap_iqm([1, 2, np.nan], rng()))
    assert all(np.isnan(value) for value in bootstrap_difference([1, 2], [1, np.inf], rng()))


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


@given(samples, samples)
def test_probability_of_improvement_is_mann_whitney(a, b):
    expected = mannwhitneyu(a, b, method="exact").statistic / (len(a) * len(b))
    got = probability_of_improvement(a, b, rng(), resamples=100)
    assert got.estimate == pytest.approx(expected)
    assert 0 <= got.low <= got.high <= 1
    turned = probability_of_improvement(b, a, rng(), resamples=100)
    assert got.estimate + turned.estimate == pytest.approx(1)


def test_probability_of_improvement_by_hand():
    assert probability_of_improvement([1, 2, 3], [2, 2, 2], rng()).estimate == 0.5
    two_tasks = probability_of_improvement([[1, 0], [1, 0]], [[0, 0], [0, 0]], rng())
    assert two_tasks.estimate == 0.75  # mean of 1 and 1/2


# Trap 6 of our peers: the bootstrap ignored its seed and drew from numpy's global state.


@pytest.mark.parametrize(
    "compute",
    [
        lambda g: bootstrap_iqm(NORMAL, g, resamples=200),
        lambda g: bootstrap_difference(NORMAL, NORMAL[::-1] * 2, g, resamples=200),
        lambda g: probability_of_improvement(NORMAL, NORMAL**2 - 1, g, resamples=200),
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
