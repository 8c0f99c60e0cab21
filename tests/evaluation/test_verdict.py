"""Sign flips against SciPy and by hand, and what follows from them."""

import math

import numpy as np
import pytest
from scipy import stats

from peerwatt.evaluation import verdict
from peerwatt.evaluation.verdict import Test as OneTest
from peerwatt.evaluation.verdict import decide, pairs_wanted, sign_flip


def flips(differences):
    return sign_flip(differences, np.random.default_rng(0))


@pytest.mark.parametrize("n", [2, 3, 7, 10])
@pytest.mark.parametrize("shift", [0.0, 0.3, -0.5])
def test_p_values_are_those_of_scipy(n, shift):
    values = np.random.default_rng(n).normal(-0.5, 1, n)

    def p(alternative):
        return stats.permutation_test(
            (values - shift,),
            lambda x, axis: x.mean(axis=axis),
            permutation_type="samples",
            alternative=alternative,
            n_resamples=np.inf,
        ).pvalue

    assert flips(values).p_below(shift) == pytest.approx(p("less"))
    assert flips(values).p_above(shift) == pytest.approx(p("greater"))


def test_by_hand():
    # The means of the subsets of {-1, -3}: -3, -2, -1.
    two = flips([-1.0, -3.0])
    assert two.means.tolist() == [-3.0, -2.0, -1.0] and two.estimate == -2.0
    assert two.p_below(0.0) == 0.25 and two.p_above(0.0) == 1.0
    assert two.p_below(-2.0) == 0.75  # the mean itself is a tie of the identity
    assert (two.lower(0.25), two.upper(0.25)) == (-3.0, -1.0)
    assert (two.lower(0.2), two.upper(0.2)) == (-math.inf, math.inf)
    assert two.smallest == 0.25


def test_bounds_are_where_the_p_value_crosses_the_level():
    sample = flips(np.random.default_rng(3).normal(0, 1, 9))
    for level in (0.01, 0.05, 0.2):
        low, high = sample.lower(level), sample.upper(level)
        assert sample.p_above(low - 1e-9) <= level < sample.p_above(low + 1e-9)
        assert sample.p_below(high + 1e-9) <= level < sample.p_below(high - 1e-9)


def test_rounding_breaks_no_tie():
    # In floats, 0.1 + 0.2 is more than 0.3: the subset {0.1, 0.2, -0.3} must still tie with 0.
    assert flips([0.1, 0.2, -0.3]).p_below() == flips([1, 2, -3]).p_below()
    assert flips([0.0] * 10).p_below() == 1.0 and flips([0.0] * 10).p_above() == 1.0


def test_random_flips_agree_with_all_of_them(monkeypatch):
    values = np.random.default_rng(5).normal(-0.3, 1, 13)
    exact = flips(values)
    monkeypatch.setattr(verdict, "EXACT", 5)
    drawn = flips(values)
    assert drawn.means.size + drawn.ties == verdict.FLIPS + 1
    assert drawn.p_below() == pytest.approx(exact.p_below(), abs=0.01)
    assert drawn.lower(0.05) == pytest.approx(exact.lower(0.05), abs=0.03)
    again = flips(values)
    assert (drawn.means == again.means).all()


def test_random_flips_never_have_a_p_value_of_zero():
    sample = flips(-1.0 - np.random.default_rng(0).random(30))
    assert sample.p_below() == sample.smallest == 1 / (verdict.FLIPS + 1)


@pytest.mark.parametrize("bad", [[], [np.nan], [np.inf, 1.0], [[1.0]]])
def test_only_finite_lists(bad):
    with pytest.raises(ValueError, match="finite"):
        flips(bad)


def one(differences, margin, **options):
    return decide([OneTest((flips(differences),), margin)], **options)[0]


DROP = -1.0 - np.arange(10) / 100


def test_outcomes():
    assert one(DROP, 0.5).outcome == "regression"
    assert one(DROP, 2.0).outcome == "no worse"  # significant, but within the margin
    assert one(-DROP, 0.5).outcome == "no worse"
    mixed = one([-1.0, 1.0] * 5, 0.1)
    assert mixed.outcome == "undecided" and mixed.more > 100
    assert one([0.0] * 10, 0.01).outcome == "no worse"


def test_few_pairs_say_how_many_are_needed():
    few = one(DROP[:3], 0.5)
    assert few.outcome == "undecided" and few.least == 5 and few.pairs + few.more >= 5
    assert one(DROP[:5], 0.5).outcome == "regression"
    assert one(DROP[:1], 0.5).more >= 4


def test_weights_decide_who_gets_the_chance_of_a_false_alarm():
    tests = [OneTest((flips(DROP[:5]),), 0.5, weight) for weight in (0.8, 0.2)]
    tests[0] = OneTest((flips([-1.0, 1.0] * 3),), 0.5, 0.8)
    # p = 1/32 is more than 0.2 x 0.05, and enough once the weights are the other way round.
    assert decide(tests)[1].outcome == "undecided"
    turned = [OneTest(t.looks, t.margin, 1 - t.weight) for t in tests]
    assert decide(turned)[1].outcome == "regression"


def test_looks_share_the_level_and_what_was_found_stays_found():
    early, late = flips(DROP[:8]), flips(np.concatenate([DROP[:8], np.linspace(-9, 9, 8)]))
    assert decide([OneTest((late,), 0.1)])[0].outcome == "undecided"
    found = decide([OneTest((early, late), 0.1)], looks=3)[0]
    assert found.outcome == "regression" and found.p_drop == pytest.approx(3 / 256)
    with pytest.raises(ValueError, match="between 1 and 1"):
        decide([OneTest((early, late), 0.1)])


def test_pairs_wanted_are_about_those_of_the_power_formula():
    sample = flips(np.tile([-1.5, 0.5], 10))
    wanted = pairs_wanted(sample, 0.01, 0.05, 0.05)
    # ((1.645 + 0.842) x 1.026 / 0.5)^2
    assert wanted == 27
    assert pairs_wanted(flips([1.0, -1.0]), 0.001, 0.05, 0.05) == verdict.MOST_PAIRS


def test_nothing_to_decide():
    assert decide([]) == []


def test_false_alarms_and_power_at_ten_pairs():
    """The tables of perf/verdicts.py, in small: within three standard errors.

    The power holds for margins up to the drop itself: here a narrow one, and one as wide.
    """
    generator = np.random.default_rng(0)
    alarms, caught = 0, [0, 0]
    for _ in range(400):
        rows = [generator.normal(0, 1, 10) for _ in range(5)]
        for drop in (0.0, 1.0):
            shifted = [rows[0] - drop, *rows[1:]]
            flipped = [sign_flip(row, generator) for row in shifted]
            for wide, margin in enumerate((0.1, 1.0)):
                tests = [
                    OneTest((row,), margin, weight)
                    for row, weight in zip(flipped, [0.8] + [0.05] * 4, strict=True)
                ]
                outcomes = [decision.outcome for decision in decide(tests)]
                alarms += drop == wide == 0 and "regression" in outcomes
                caught[wide] += drop == 1 and outcomes[0] == "regression"
    assert alarms <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05 * 0.95)
    assert min(caught) >= 0.8 * 400
