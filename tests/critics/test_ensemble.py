import numpy as np
import pytest
from played import played
from teachers import Noting

from peerwatt.errors import PeerWattError
from peerwatt.fairness import score_slots
from peerwatt.fairness.session import opened
from peerwatt_critics.ensemble import EnsembleCritic
from peerwatt_critics.members import undefined

pytestmark = pytest.mark.usefixtures("teachers")
SLOTS = played(12)[11]


def scored(session, members, slots=SLOTS, **options):
    with opened(EnsembleCritic(members, **options), session) as work:
        scores = np.array(work.score(slots))
    return scores, work.usage()


def test_the_median_counts_each_score_for_itself(session):
    members = ("rule", "constant:value=0", "constant:value=1")
    scores, _ = scored(session(), members)
    assert np.array_equal(scores, np.array(score_slots(SLOTS)), equal_nan=True)


def test_who_abstains_has_no_vote(session):
    scores, usage = scored(session(), ("shy", "none", "constant:value=1"))
    exact = np.array(score_slots(SLOTS))
    expected = undefined(SLOTS) + 1.0
    expected[:, ::2] = (exact[:, ::2] + 1.0) / 2
    expected[2] = 1.0 + undefined(SLOTS)[2]
    np.testing.assert_allclose(scores, expected)
    assert usage.scored == usage.slots - usage.undefined
    assert not usage.abstained


def test_where_all_abstain_so_does_the_ensemble(session):
    scores, usage = scored(session(), ("shy", "none"))
    feasible = ~np.isnan(undefined(SLOTS)[0])
    assert np.isnan(scores[:, 1::2]).all()
    assert usage.abstained == {"no member answered": int(feasible[1::2].sum())}
    assert usage.scored == int(feasible[::2].sum())
    assert usage.slots == usage.undefined + usage.scored + sum(usage.abstained.values())
    _, left_out = scored(session(), ("none", "none"))
    assert left_out.skipped == int(feasible.sum())
    assert not left_out.abstained


def test_undefined_scores_stay_undefined_whatever_members_say(session):
    slots = played(3)[0]
    scores, usage = scored(session(), ("noting",), slots)
    assert np.array_equal(np.isnan(scores), np.isnan(undefined(slots)))
    assert usage.undefined == np.isnan(undefined(slots)[0]).sum()


def test_each_repeat_is_asked_anew(session):
    Noting.said.clear()
    scores, usage = scored(session(), ("noting", "noting"), repeats=3)
    opened_, closed = Noting.said[:6], Noting.said[6:]
    assert [said[:2] for said in opened_] == [(f"members.{i}", i % 3) for i in range(6)]
    assert len({said[2] for said in opened_}) == 6  # each has random numbers of its own
    assert closed == [("closed", True)] * 6
    assert set(scores[~np.isnan(scores)]) == {0.1}
    assert (usage.calls, usage.dollars) == (6, 3.0)
    Noting.said.clear()
    scored(session(repeat=2), ("noting",), repeats=3)
    assert [said[1] for said in Noting.said[:3]] == [6, 7, 8]


def test_members_that_may_wait_wait_side_by_side(session):
    scores, _ = scored(session(), ("meeting", "meeting"))  # neither answers alone
    assert np.array_equal(scores, np.array(score_slots(SLOTS)), equal_nan=True)


def test_a_member_that_cannot_go_on_ends_the_run(session):
    Noting.said.clear()
    with pytest.raises(PeerWattError, match="cannot go on"):
        scored(session(), ("noting", "failing"))
    assert Noting.said[-1] == ("closed", False)


def test_a_member_that_cannot_begin_closes_the_others(session):
    Noting.said.clear()
    with pytest.raises(PeerWattError, match="cannot begin"):
        scored(session(), ("noting", "failing:at_once=true"))
    assert Noting.said[-1] == ("closed", False)


@pytest.mark.parametrize("options", [{"members": ()}, {"repeats": 0}, {"repeats": 65}])
def test_an_ensemble_of_nobody_or_of_a_crowd_is_refused(options):
    with pytest.raises(PeerWattError, match="at least one member"):
        EnsembleCritic(**options)


def test_files_of_members_are_part_of_what_it_is(tmp_path):
    assert EnsembleCritic(("rule", "random")).contents() == {}
    asked = EnsembleCritic(("rule", "openai-http:model=m,prompt=summary-v1")).contents()
    other = EnsembleCritic(("rule", "openai-http:model=m,prompt=households-v1")).contents()
    assert set(asked) == {"members"}
    assert asked != other
