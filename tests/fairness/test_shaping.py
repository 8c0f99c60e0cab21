import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerwatt.errors import PeerWattError
from peerwatt.fairness import FairnessScores, Shaping

WEIGHTS = {"ftg": 0.1, "fbs": 0.2, "fpp": 0.4, "ftb": 0.8}
SELLER = np.array([[True, False, False], [True, False, False]])
BUYER = np.array([[False, True, False], [False, True, False]])


def scores(*rows):
    return FairnessScores(*np.array(rows, dtype=float).T)


@pytest.mark.parametrize(
    ("progress", "height"),
    [(-1, 0), (0, 0), (0.1, 0), (0.2, 0.25), (0.3, 0.5), (0.5, 1), (0.9, 1), (1, 1), (7, 1)],
)
def test_ramp_values(progress, height):
    got = Shaping(**WEIGHTS).coefficients(progress)
    assert got == pytest.approx([weight * height for weight in WEIGHTS.values()])


def test_a_ramp_of_no_length_is_a_step():
    shaping = Shaping(warm=0.5, ramp=0)
    assert shaping.coefficients(0.49) == (0, 0, 0, 0)
    assert shaping.coefficients(0.5) == (1.0, 1.0, 1.0, 1.0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_ramp_never_falls(a, b):
    low, high = sorted((a, b))
    assert all(
        x <= y
        for x, y in zip(Shaping().coefficients(low), Shaping().coefficients(high), strict=True)
    )


def test_roles_decide_who_gets_what():
    bonus = Shaping(**WEIGHTS).bonus(scores([1, 1, 1, 1], [0.5, 0, 0, 1]), SELLER, BUYER, 1.0)
    assert bonus.dtype == np.float32 and bonus.shape == (2, 3)
    expected = [[0.7, 1.3, 0.5], [0.05, 0.85, 0.05]]
    np.testing.assert_allclose(bonus, expected, rtol=1e-6)


def test_without_roles_everyone_gets_everything():
    shaping = Shaping(**WEIGHTS, role_aware=False)
    bonus = shaping.bonus(scores([1, 1, 1, 1], [1, 0, 0, 0]), SELLER, BUYER, 1.0)
    assert bonus.dtype == np.float32 and bonus.shape == (2, 3)
    np.testing.assert_allclose(bonus, [[1.5] * 3, [0.1] * 3], rtol=1e-6)


@pytest.mark.parametrize("role_aware", [True, False])
def test_a_score_that_is_nan_adds_nothing(role_aware):
    shaping = Shaping(**WEIGHTS, role_aware=role_aware)
    gaps = scores([np.nan] * 4, [np.nan, 1, np.nan, 0.5])
    filled = scores([0] * 4, [0, 1, 0, 0.5])
    np.testing.assert_array_equal(
        shaping.bonus(gaps, SELLER, BUYER, 1.0), shaping.bonus(filled, SELLER, BUYER, 1.0)
    )


def test_before_the_ramp_nothing_is_added():
    bonus = Shaping().bonus(scores([1] * 4, [1] * 4), SELLER, BUYER, 0.1)
    assert bonus.dtype == np.float32 and not bonus.any()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fbs": -0.1}, r"shaping\.fbs must be a number that is not negative, not -0\.1"),
        ({"warm": float("nan")}, r"shaping\.warm must be"),
        ({"ftg": float("inf")}, r"shaping\.ftg must be"),
        ({"warm": 0.8}, r"must not exceed 1 together, but add up to 1\.2"),
    ],
)
def test_nonsense_is_refused(options, sentence):
    with pytest.raises(PeerWattError, match=sentence):
        Shaping(**options)
