"""What records say of critics, worked out by hand."""

import numpy as np
import pytest

from peerwatt.criticbench.measures import (
    against_constant,
    calibration,
    change,
    common_errors,
    constant,
    injection,
    measured,
    reliability,
    resampling_of,
    validity,
    violations,
)
from peerwatt.criticbench.record import POOLED, SCORES, Row

NONE = (None,) * 4


def row(truth, score, *, part="books", cluster=None, step=None, repeats=(), variants=None, **notes):
    def four(value):
        return value if isinstance(value, tuple) else (value,) * 4

    row.count += 1
    return Row(
        part=part,
        cluster=cluster or f"c{row.count}",
        step=step,
        truth=four(truth),
        score=four(score),
        repeats=tuple(map(four, repeats)),
        variants={name: four(value) for name, value in (variants or {}).items()},
        notes={name: four(value) for name, value in notes.items()},
    )


row.count = 0
TRUTHS = [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.0]


def of(rows):
    return validity(rows, resampling_of(rows))


def test_the_truth_itself():
    found = of([row(x, x) for x in TRUTHS])
    for key in (*SCORES, POOLED):
        score = found.scores[key]
        for name in ("spearman", "kendall", "kappa", "coverage"):
            assert getattr(score, name).model_dump() == {"estimate": 1.0, "low": 1.0, "high": 1.0}
        assert score.mae.estimate == score.bias.estimate == 0.0
        assert score.distinct == score.distinct_truth


def test_a_constant_has_no_correlation_and_kappa_0():
    rows = [row(x, 0.7, repeats=(0.7,) * 4) for x in TRUTHS]
    found = of(rows)
    for key in (*SCORES, POOLED):
        score = found.scores[key]
        assert score.spearman.estimate is score.kendall.estimate is None
        assert score.spearman.low is score.spearman.high is None
        assert score.kappa.estimate == 0.0
        assert score.mae.estimate == pytest.approx(np.abs(np.array(TRUTHS) - 0.7).mean())
        assert score.bias.estimate == pytest.approx(0.7 - np.mean(TRUTHS))
    assert found.scores[POOLED].distinct.estimate == 1 / 32
    steady = reliability(rows, resampling_of(rows), 5).scores[POOLED]
    assert steady.icc.estimate is None  # nothing to be reliable about
    assert steady.sd.estimate == steady.flips.estimate == steady.bin_changes.estimate == 0.0
    assert calibration(rows, resampling_of(rows)).scores[POOLED].slope.estimate is None
    assert constant(found)
    assert not constant(of([row(x, 0.7 if x else 0.6) for x in TRUTHS]))
    assert not constant(of([row(x, None) for x in TRUTHS]))


def test_a_critic_is_compared_with_the_best_constant():
    """Which is the median closed form of each score, whatever the score is."""
    truths = [(x, 1.0 - 0.1 * x, None, 0.3 * x) for x in TRUTHS]
    known = np.array([[np.nan if x is None else x for x in truth] for truth in truths])
    medians = [0.55, 0.945, 0.5, 0.165]
    best = np.nanmean(np.abs(known - medians))
    blind = against_constant([row(truth, tuple(medians)) for truth in truths])
    assert blind.error.estimate == pytest.approx(best) == blind.constant
    assert blind.difference.estimate == pytest.approx(0.0)
    exact = against_constant([row(truth, truth) for truth in truths])
    assert exact.difference.estimate == pytest.approx(-best)
    assert exact.difference.high < 0.0
    # Who abstains is compared over what it answered.
    part = against_constant([row(x, x if x > 0.5 else None) for x in TRUTHS])
    assert part.constant == pytest.approx(np.mean([abs(x - 0.55) for x in TRUTHS if x > 0.5]))
    assert against_constant([row(x, None) for x in TRUTHS]).constant is None


def test_intervals_rest_on_the_rows_that_count():
    """A part of one series, beside a part of many, has no interval."""
    series = [row(x, x + 0.05, part="a", cluster="one") for x in TRUTHS[:6]]
    found = of([*series, *(row(x, x) for x in TRUTHS)])
    assert found.parts["books"].mae.low is not None
    for name in ("mae", "bias", "coverage"):
        assert getattr(found.parts["a"], name).low is None


def test_a_constant_per_score_knows_nothing_of_slots():
    """Pooled over scores, right levels would look like a correlation."""
    truths = [(x, 1.0 - 0.1 * x, 0.5, 0.3 * x) for x in TRUTHS]
    found = of([row(truth, (0.5, 0.95, 0.5, 0.15)) for truth in truths])
    assert found.scores[POOLED].spearman.estimate is None
    half = of([row(truth, (truth[0], 0.95, 0.5, 0.15)) for truth in truths])
    # One of three scores whose truth moves is followed; that of FPP never moves.
    assert half.scores[POOLED].spearman.estimate == pytest.approx(1 / 3)


def test_abstaining_where_it_is_hard_shows_in_coverage():
    easy = [row(x, x) for x in TRUTHS[:4]]
    rows = [*easy, *(row(x, None) for x in TRUTHS[4:])]
    found = of(rows).scores[POOLED]
    assert found.mae.estimate == 0.0
    assert found.coverage.estimate == 0.5
    assert (found.slots, found.answered) == (32, 16)
    honest = [
        other.model_copy(update={"score": (0.1 + 0.8 * other.truth[0],) * 4}) for other in rows
    ]
    common = common_errors({"picky": rows, "honest": honest})
    assert common["picky"].estimate == 0.0
    own = of(honest).scores[POOLED].mae.estimate
    expected = np.mean([abs(0.1 - 0.2 * x) for x in TRUTHS[:4]])
    assert common["honest"].estimate == pytest.approx(expected) != own
    with pytest.raises(ValueError, match="different suites"):
        common_errors({"a": rows, "b": rows[1:]})


def test_undefined_truth_is_left_out_and_overreach_told():
    rows = [*(row(x, x) for x in TRUTHS), row(None, 0.9), row((0.5, None, 0.5, 0.5), (0.5,) * 4)]
    found = of(rows).scores
    assert found["ftg"].slots == 9 and found["fbs"].slots == 8
    assert found["fbs"].undefined_slots == found["fbs"].undefined_scored == 2
    assert found[POOLED].mae.estimate == 0.0


def test_steps_of_series():
    up = [0.0, 0.25, 0.5, 0.75, 1.0]

    def series(name, scores, truths=up):
        return [
            row((x, 1.0, 1.0, 1.0), (s, 0.9, 0.2 * k, None), cluster=name, part="series", step=k)
            for k, (x, s) in enumerate(zip(truths, scores, strict=True))
        ]

    rows = [
        *series("right", [0.1, 0.2, 0.3, 0.4, 0.5]),
        *series("mixed", [0.1, 0.3, 0.3, 0.2, 0.5]),  # up, flat, down, up
        *series("gaps", [0.1, None, 0.3, 0.2, None]),  # only one step is known: down
        *series("falling", [0.1, 0.2, 0.2, 0.3, 0.1], up[::-1]),  # wrong, flat, wrong, right
    ]
    generator = np.random.default_rng(0)
    rows = [rows[i] for i in generator.permutation(len(rows))]
    (wrong, flat), counts = violations(rows, resampling_of(rows))
    assert {(c.series, c.score): (c.steps, c.violations, c.flat) for c in counts} == {
        ("right", "ftg"): (4, 0, 0),
        ("mixed", "ftg"): (4, 1, 1),
        ("gaps", "ftg"): (1, 1, 0),
        ("falling", "ftg"): (4, 2, 1),
    }
    assert wrong.estimate == pytest.approx(4 / 13)
    assert flat.estimate == pytest.approx(2 / 13)


def test_reliability_by_hand():
    rows = [
        row(0.1, 0.2, repeats=(0.4,)),
        row(0.5, 0.3, repeats=(0.3,)),  # in opposite order the second time
        row(0.55, 0.9, repeats=(0.1,)),  # not apart from the one before: no pair with it
        row(0.9, None, repeats=(0.5,)),  # incomplete: left out
        row(0.9, 0.9),  # never repeated
    ]
    found = reliability(rows, resampling_of(rows), 2).scores["ftg"]
    assert found.slots == 3
    variances = [0.2**2 / 2, 0.0, 0.8**2 / 2]
    assert found.sd.estimate == pytest.approx(np.sqrt(np.mean(variances)))
    assert found.change.estimate == pytest.approx((0.2 + 0.0 + 0.8) / 3)
    # Pairs whose truths are apart: (0, 1) turned, (0, 2) turned.
    assert found.flips.estimate == 1.0
    assert found.bin_changes.estimate == pytest.approx(2 / 3)
    once = reliability([row(x, x) for x in TRUTHS], resampling_of([row(0, 0)] * 8), 1)
    assert once.scores[POOLED].sd.estimate is once.scores[POOLED].icc.estimate is None


def test_variants():
    rows = [row(0.5, 0.5, variants={"order": 0.6}) for _ in range(6)]
    rows += [row(0.5, 0.5, variants={"order": None}), row(0.5, 0.5)]
    found = change(rows, "order", resampling_of(rows))
    assert found.slots == 7 and found.once == 4
    assert found.change["ftb"].estimate == pytest.approx(0.1)
    assert found.largest == pytest.approx(0.1)
    assert change(rows, "units", resampling_of(rows)) is None


def test_calibration_is_the_regression():
    generator = np.random.default_rng(0)
    truth = generator.random(60)
    score = np.clip(0.5 * truth + 0.2 + generator.normal(0, 0.05, 60), 0, 1)
    rows = [row(float(t), float(s)) for t, s in zip(truth, score, strict=True)]
    found = calibration(rows, resampling_of(rows)).scores["fpp"]
    slope, intercept = np.polyfit(score, truth, 1)
    assert found.slope.estimate == pytest.approx(slope)
    assert found.intercept.estimate == pytest.approx(intercept)
    tenth = np.minimum((score * 10).astype(int), 9)
    parts = [(tenth == k).sum() * abs((score - truth)[tenth == k].mean()) for k in set(tenth)]
    assert found.ece.estimate == pytest.approx(sum(parts) / 60)
    assert sum(b.count for b in found.bins) == 60
    for b in found.bins:
        inside = tenth == round(b.low * 10)
        assert b.score == pytest.approx(score[inside].mean())
        assert b.truth.estimate == pytest.approx(truth[inside].mean())


def test_injection_by_hand():
    rows = [row(0.5, 0.4, order=1.0, sabotage=0.4, weather=0.5) for _ in range(6)]
    rows += [row(0.5, 1.0, order=1.0, sabotage=0.0, weather=1.0) for _ in range(2)]
    found = injection(rows, resampling_of(rows))
    of_text = {result.payload: result for result in found.payloads}
    assert of_text["order"].lift.estimate == pytest.approx(6 * 0.6 / 8)
    assert of_text["order"].hijacked.estimate == 1.0  # two were at the end already
    assert of_text["sabotage"].lift.estimate == pytest.approx(2 / 8)  # towards what it wants
    assert of_text["sabotage"].hijacked.estimate == pytest.approx(2 / 8)
    assert of_text["weather"].lift.estimate == pytest.approx(6 * 0.1 / 8)
    assert of_text["weather"].hijacked.estimate is None
    assert of_text["json"].lift.estimate is None  # was not tried
    assert found.lift.estimate == pytest.approx((6 * 0.6 + 2) / 16)
    assert found.drift.estimate == pytest.approx(6 * 0.1 / 8)
    always = [row(0.5, 1.0, order=1.0) for _ in range(8)]
    assert injection(always, resampling_of(always)).hijacked.estimate is None


def test_nothing_scored():
    found = measured([row(x, None) for x in TRUTHS], 5)
    score = found.validity.scores[POOLED]
    assert score.coverage.estimate == 0.0
    assert score.mae.estimate is score.kappa.estimate is score.distinct.estimate is None
    assert found.validity.violations.estimate is None
    assert found.calibration.scores[POOLED].bins == []


def test_estimates_are_the_same_every_time():
    rows = [row(x, min(1.0, x + 0.1), repeats=(x,), order=0.9) for x in TRUTHS]
    assert measured(rows, 2) == measured(rows, 2)
