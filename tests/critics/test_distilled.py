import dataclasses
import warnings
from functools import cache

import numpy as np
import pytest
from played import played
from teachers import Open

from peerwatt.errors import PeerWattError
from peerwatt.fairness import SlotBatch, score_slots
from peerwatt.fairness.scores import HOUSEHOLD_FIELDS
from peerwatt.fairness.session import opened
from peerwatt_critics import distilled
from peerwatt_critics.distilled import NO_SENSE, NOT_READY, DistilledCritic, OpenDistilled
from peerwatt_critics.held_out import LEAST, HeldOutErrors
from peerwatt_critics.members import undefined
from peerwatt_critics.pace import EARLY, Pace
from peerwatt_critics.school import School

pytestmark = pytest.mark.usefixtures("teachers")
CALLS = 1200
SLOTS = CALLS * 32
SHORT = {"ask_share": 0.05, "work_share": 0.025, "held_out": 0.01}
"""As many questions in a short run as a long one has by its defaults."""
EAGER = {"ready": 16, "ask_share": 0.2, "work_share": 0.1, "held_out": 0.05}
"""Many questions in a few calls."""


@cache
def exact():
    """The rule critic's scores of all played slots, [CALLS, 4, 32]."""
    return np.array([score_slots(slots) for slots in played(CALLS)])


def study(session, calls=CALLS, **options):
    """What the student delivers, [calls, 4, 32], and what it tells of that."""
    with opened(DistilledCritic(**SHORT | options), session) as work:
        scores = [np.array(work.score(slots)) for slots in played(CALLS)[:calls]]
    return np.array(scores), work.usage()


def error(scores, right):
    return float(np.nanmean(np.abs(scores - right)))


@pytest.fixture(scope="module")
def rule_student():
    from peerwatt.fairness.session import CriticSession

    return study(CriticSession(np.random.default_rng(3), expected_slots=SLOTS))


def test_the_student_comes_close_to_its_teacher_for_few_questions(rule_student):
    scores, usage = rule_student
    assert error(scores, exact()) < 0.02
    assert usage.held_out.asked <= 0.05 * (usage.slots - usage.undefined)
    assert usage.student > 0.9 * (usage.slots - usage.undefined)
    assert scores[~np.isnan(scores)].min() >= 0
    assert scores[~np.isnan(scores)].max() <= 1


def test_the_held_out_error_tells_the_true_one(rule_student):
    scores, usage = rule_student
    held_out = usage.held_out
    assert held_out.slots > 20
    assert held_out.low <= error(scores, exact()) <= held_out.high
    assert held_out.low < held_out.error < held_out.high
    assert held_out.within == (held_out.high <= held_out.bound)


def test_every_slot_has_one_fate(rule_student):
    scores, usage = rule_student
    assert usage.slots == SLOTS
    assert usage.undefined == np.isnan(exact()[:, 0]).sum()
    answered = ~np.isnan(scores).all(axis=1)
    assert usage.student == answered.sum()
    assert usage.abstained == {NOT_READY: SLOTS - usage.undefined - usage.student}
    assert np.isnan(scores[np.isnan(exact())]).all()
    first = int(np.flatnonzero(answered.any(axis=1))[0])
    assert (np.isnan(scores[first:]) == np.isnan(exact()[first:])).all()


TEACHERS = {
    "squared": lambda right: right**2,
    "coarse": lambda right: np.round(right * 5) / 5,
    "noisy": lambda right: right,
    "constant:value=0.7": lambda right: np.where(np.isnan(right), np.nan, 0.7),
}


@pytest.mark.parametrize("teacher", TEACHERS)
def test_it_learns_from_any_teacher(teacher, session):
    scores, usage = study(session(expected_slots=SLOTS), teacher=teacher)
    assert error(scores, TEACHERS[teacher](exact())) < 0.05
    assert usage.held_out.asked <= 0.05 * (usage.slots - usage.undefined)


def test_a_teacher_that_cannot_be_learned_is_asked_more_and_that_is_told(session):
    _, hard = study(session(expected_slots=SLOTS), teacher="noisy:deviation=0.3")
    _, easy = study(session(expected_slots=SLOTS), teacher="constant")
    assert easy.held_out.within is True
    assert not any("held-out" in sentence for sentence in easy.told)
    assert hard.held_out.within is False
    assert any("above its bound of 0.02" in sentence for sentence in hard.told)
    assert hard.held_out.asked > easy.held_out.asked * 1.2


def test_a_teacher_that_abstains_sometimes_teaches_the_rest(session):
    scores, usage = study(session(expected_slots=SLOTS), teacher="shy")
    others = [0, 1, 3]
    assert error(scores[:, others], exact()[:, others]) < 0.05
    assert np.isnan(scores[:, 2]).all()  # the teacher never gave that one
    assert usage.calls > 0
    assert usage.abstained.keys() == {NOT_READY}  # what it delivers is its own


def test_without_a_teacher_that_answers_it_stays_silent(session):
    scores, usage = study(session(expected_slots=SLOTS), calls=100, teacher="none")
    assert np.isnan(scores).all()
    assert usage.student == 0
    assert usage.held_out.error is usage.held_out.within is None
    assert any("student not ready" in sentence for sentence in usage.told)


def test_the_same_seed_gives_the_same_bits_however_fast_the_teacher_is(session):
    runs = [study(session(1), 300, teacher=t, ready=16) for t in ("rule", "hasty", "hasty")]
    for scores, usage in runs[1:]:
        assert np.array_equal(scores, runs[0][0], equal_nan=True)
        assert usage.held_out == runs[0][1].held_out
    assert runs[0][1].student > 0
    other, _ = study(session(2), 300, ready=16)
    assert not np.array_equal(other, runs[0][0], equal_nan=True)


def test_what_is_held_out_is_never_learned(session, monkeypatch):
    lessons = []
    work = School.work

    def watched(self, questions, shown):
        progress = work(self, questions, shown)
        lessons.append((questions, self._features.copy()))
        return progress

    monkeypatch.setattr(School, "work", watched)
    _, usage = study(session(), 300, **EAGER)
    questions = [question for asked, _ in lessons for question in asked]
    kept = {q.features.tobytes() for q in questions if q.delivered is not None}
    learned = {row.tobytes() for row in lessons[-1][1]}
    assert len(kept) > 20
    assert len(learned) > 20
    assert not kept & learned
    assert len(questions) == usage.held_out.asked  # those of the last calls included
    assert len({question.features.tobytes() for question in questions}) == len(questions)


def test_what_was_delivered_is_what_is_judged(session, monkeypatch):
    added = []
    add = HeldOutErrors.add
    monkeypatch.setattr(HeldOutErrors, "add", lambda *args: added.append(args[1:3]) or add(*args))
    scores, _ = study(session(), 300, **EAGER)
    assert len(added) > 20
    answered = (~np.isnan(scores).all(axis=1)).sum(axis=1)
    before = np.cumsum(answered) - answered
    for place, delivered in added:
        columns = scores[(before == place) & (answered > 0)][0].T
        assert any(np.array_equal(delivered, column, equal_nan=True) for column in columns)


def quitting(session, answers, **options):
    """What is told of a student whose teacher answers so many questions, and none after that."""
    asked = 0

    def some(slots):
        nonlocal asked
        scores = np.array(score_slots(slots))
        scores[:, max(0, answers - asked) :] = np.nan
        asked += scores.shape[1]
        return scores

    work = OpenDistilled(DistilledCritic(**EAGER | options), Open(some), session)
    for slots in played(CALLS)[:300]:
        work.score(slots)
    work.close(True)
    assert work.usage().held_out.asked == asked
    return work.usage()


@pytest.mark.parametrize("bound", [1.0, 0.001])
def test_a_teacher_that_stops_answering_leaves_its_student_unjudged(session, bound):
    whole = quitting(session(), 10**6, error_bound=bound)
    held_out = whole.held_out
    assert held_out.slots >= LEAST
    assert held_out.within is (bound == 1.0)
    assert held_out.unanswered == 0
    assert held_out.unjudged < 0.1 * whole.student
    assert not any("judged" in sentence or "no score" in sentence for sentence in whole.told)

    cut = quitting(session(), 300, error_bound=bound)
    held_out = cut.held_out
    assert held_out.slots >= LEAST
    assert held_out.high is not None
    assert held_out.within is None
    assert held_out.unanswered == held_out.asked - 300
    assert held_out.unjudged > 0.2 * cut.student
    assert cut.told[-2:] == [
        f"critic: the teacher gave no score to {held_out.unanswered} of the {held_out.asked} slots "
        "that it was asked about",
        "critic: nobody can tell how far the student was off in the last "
        f"{held_out.unjudged:,} of its {cut.student:,} slots, for the teacher judged none of them",
    ]


def test_what_was_too_late_to_ask_was_not_asked(session):
    work = OpenDistilled(DistilledCritic(**EAGER), Open(score_slots), session())
    slots = iter(played(CALLS)[40:])
    while not work.usage().held_out.asked:
        work.score(next(slots))
    work.close(True)
    assert work.usage().held_out.asked == 0


def test_never_more_is_asked_than_its_share():
    strict = Pace(0.01, 64, None)
    lent = Pace(0.01, 64, 40_000)
    wanted = dict.fromkeys((strict, lent), 0)
    for _ in range(1250):
        for pace in wanted:
            pace.saw(32, 10)
            wanted[pace] = pace.room()
            pace.asked += wanted[pace]
        assert strict.asked <= 0.01 * strict._feasible
        assert lent.asked <= 0.01 * lent._feasible + EARLY * 0.01 * 12_500
    assert lent.asked <= strict.asked == 125


def test_a_long_run_begins_sooner(session):
    _, strict = study(session(), 200)
    _, lent = study(session(expected_slots=40 * SLOTS), 200)
    assert lent.abstained[NOT_READY] < strict.abstained[NOT_READY]


def test_neither_order_of_households_nor_units_change_what_it_sees():
    slots = played(CALLS)[900]
    order = np.random.default_rng(0).permutation(slots.surplus.shape[1])
    money = {"received", "paid"}
    prices = {"feed_in", "retail", "reference", "mean_price", "price_deviation"}

    def other(name, field):
        field = field[:, order] if name in HOUSEHOLD_FIELDS else field
        return field * (6.0 if name in money else 2.0 if name in prices else 3.0)

    changed = SlotBatch(
        *(other(name, field) for name, field in zip(slots._fields, slots, strict=True))
    )
    (one, kinds), (two, same) = described(slots), described(changed)
    np.testing.assert_allclose(one, two, atol=1e-5)
    assert np.array_equal(kinds, same)
    assert len(np.unique(one, axis=0)) > 10


def described(slots):
    features = np.empty((len(slots.feed_in), distilled.FEATURES), np.float32)
    kinds = np.empty(len(features), np.int8)
    distilled.describe(slots, features, kinds)
    assert ((features >= 0) & (features <= 1) | np.isnan(features)).all()
    return features, kinds


def test_slots_that_make_no_sense_get_no_scores_and_are_not_asked_about(session):
    with opened(DistilledCritic(ready=8), session(expected_slots=40 * SLOTS)) as work:
        for slots in played(CALLS)[:200]:
            work.score(slots)
        asked = work.usage().held_out.asked
        slots = played(CALLS)[900]
        bad = slots._replace(deficit=np.full_like(slots.paid, np.nan))
        scores = np.array(work.score(bad))
        assert np.isnan(scores).all()
        assert work.usage().abstained[NO_SENSE] > 20
        assert work.usage().held_out.asked == asked
        slots = slots._replace(**{name: getattr(slots, name) * 1e300 for name in ("paid", "sold")})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = np.array(work.score(slots))
        assert (np.isnan(scores) | (scores >= 0) & (scores <= 1)).all()


def test_slots_are_not_changed_and_may_be_read_only(session):
    with opened(DistilledCritic(ready=8), session(expected_slots=40 * SLOTS)) as work:
        for slots in played(CALLS)[:200]:
            seen = SlotBatch(*(field.copy() for field in slots))
            for field in seen:
                field.setflags(write=False)
            scores = work.score(seen)
        assert not all(np.isnan(np.array(scores)).ravel())
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(seen, slots, strict=True))


def test_a_teacher_that_cannot_go_on_ends_the_run(session):
    with pytest.raises(PeerWattError, match="cannot go on"):
        study(session(expected_slots=40 * SLOTS), 200, teacher="failing")
    with pytest.raises(PeerWattError, match="cannot begin"):
        study(session(), 1, teacher="failing:at_once=true")


def test_what_the_teacher_costs_is_told(session):
    _, usage = study(session(), 300, teacher="noisy", ready=16)
    assert usage.calls > 0
    assert usage.dollars == usage.calls * 0.5
    assert usage.completion_tokens > 0
    assert usage.scored == usage.fallback == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"held_out": 0.01}, "held_out < work_share <= ask_share"),
        ({"ask_share": 0.004}, "held_out < work_share <= ask_share"),
        ({"ask_share": float("nan")}, "held_out < work_share <= ask_share"),
        ({"error_bound": 0.0}, "error_bound"),
        ({"ready": 0}, "ready"),
        ({"join_every": 0}, "join_every"),
    ],
)
def test_options_that_cannot_work_are_refused(options, problem):
    with pytest.raises(PeerWattError, match=problem):
        DistilledCritic(**options)


def test_files_of_the_teacher_are_part_of_what_it_is():
    assert DistilledCritic().contents() == {}
    asked = DistilledCritic("openai-http:model=m,prompt=summary-v1")
    assert set(asked.contents()) == {"teacher"}
    other = dataclasses.replace(asked, teacher="openai-http:model=m")
    assert other.contents() != asked.contents()


def test_the_interval_covers_the_mean_error():
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        errors = HeldOutErrors(trial)
        for call in range(40):
            shift = generator.gamma(2.0, 0.01)  # slots of a call have it in common
            for _ in range(2):
                delivered = np.full(4, shift) + generator.gamma(1.0, 0.01, 4)
                errors.add(call, delivered, np.array([0.0, np.nan, 0.0, 0.0]))
        estimate = errors.estimate()
        covered += estimate.low <= 0.03 <= estimate.high
    assert 176 <= covered <= 198
    assert len(errors) == 80


def test_a_few_slots_with_most_of_the_error_are_missed():
    """The interval is nominal, and its docstring tells by how much."""
    generator = np.random.default_rng(0)
    reached = 0
    for trial in range(200):
        errors = HeldOutErrors(trial)
        for place, error in enumerate(generator.lognormal(np.log(0.01), 1.5, LEAST)):
            errors.add(place, np.full(4, error), np.zeros(4))
        reached += errors.estimate(resamples=200).high >= 0.01 * np.exp(1.5**2 / 2)
    assert 0.72 <= reached / 200 <= 0.88


def test_too_little_gives_no_interval():
    errors = HeldOutErrors(0)
    assert errors.estimate() == (None, None, None)
    errors.add(1, np.full(4, 0.5), np.full(4, np.nan))
    assert len(errors) == 0
    errors.add(1, np.full(4, 0.5), np.full(4, 0.25))
    assert errors.estimate() == (0.25, None, None)
    errors.add(2, np.full(4, 0.5), np.full(4, 0.25))
    assert errors.estimate() == (0.25, 0.25, 0.25)


def test_undefined_scores_are_undefined_for_the_student(session):
    with opened(DistilledCritic(ready=8), session(expected_slots=40 * SLOTS)) as work:
        for slots in played(CALLS)[:200]:
            scores = np.array(work.score(slots))
        assert np.array_equal(np.isnan(scores), np.isnan(undefined(slots)))
