"""Critics at work: opened and closed once, sessions within sessions, an account that adds up."""

import dataclasses

import numpy as np
import pytest

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import (
    CriticSession,
    CriticUsage,
    Forecast,
    HeldOut,
    opened,
    savable,
)
from peerwatt_critics.rule import RuleCritic


class Opened:
    """Notes what is done to it."""

    def __init__(self):
        self.events = []

    def open(self, session):
        self.events.append("open")
        return self

    def score(self, slots):
        raise PeerWattError("no answer.")

    def usage(self):
        return CriticUsage()

    def close(self, finished):
        self.events.append(f"close {finished}")
        if not finished:
            raise OSError("in close")


def session(seed=0):
    return CriticSession(generator=np.random.default_rng(seed))


def test_a_critic_is_closed_once_and_told_how_it_ended():
    critic = Opened()
    with opened(critic, session()) as work:
        assert work is critic
    assert critic.events == ["open", "close True"]


@pytest.mark.parametrize("error", [PeerWattError, KeyboardInterrupt, SystemExit])
def test_what_went_wrong_first_is_told_whatever_close_does(error):
    critic = Opened()
    with pytest.raises(error, match="first"), opened(critic, session()):
        raise error("first")
    assert critic.events == ["open", "close False"]


def test_a_critic_without_memory_is_used_as_it_is():
    rule = RuleCritic()
    with opened(rule, session()) as work:
        assert work.score == rule.score
    assert work.usage() is None


def test_what_is_no_critic_is_refused():
    says = "'object' has neither `score` nor `open`"
    with pytest.raises(PeerWattError, match=says), opened(object(), session()):
        pass


def test_children_have_generators_and_paths_of_their_own():
    parent = session()
    one, other = parent.child("members.0"), parent.child("members.1")
    assert (one.path, one.child("teacher").path) == ("members.0", "members.0.teacher")
    draws = {s.generator.random() for s in (one, other, session())}
    assert len(draws) == 3
    assert session().child("x").generator.random() == session().child("y").generator.random()


USAGE = CriticUsage(
    slots=100, undefined=40, skipped=10, scored=20, student=15, fallback=5,
    abstained={"capped": 7, "not-json": 2, "a": 1},
)  # fmt: skip


def test_every_slot_has_one_fate():
    assert USAGE.parts == USAGE.slots
    assert USAGE.wanted == 50
    assert (
        USAGE.told
        == USAGE.shortfalls
        == [
            "critic: abstained in 10 of 100 slots (7 capped, 2 not-json, 1 a)",
            "critic: the rule critic stood in for 5 of 100 slots",
        ]
    )
    assert CriticUsage().told == []


def test_many_reasons_are_cut_short():
    reasons = {f"reason-{n:02d}": 64 - n for n in range(64)}
    (sentence,) = CriticUsage(slots=9999, abstained=reasons).told
    assert "64 reason-00, 63 reason-01" in sentence
    assert sentence.endswith("and 60 reasons more)")


def test_a_cap_and_a_student_out_of_bounds_are_told():
    held = HeldOut(slots=30, error=0.03, low=0.02, high=0.04, bound=0.02, within=False, asked=90)
    usage = CriticUsage(capped="the cap of 10 calls was reached", held_out=held)
    assert usage.told == [
        "critic: the cap of 10 calls was reached",
        "critic: the student's held-out error may be as large as 0.040, above its bound of 0.02",
    ]
    assert CriticUsage(held_out=dataclasses.replace(held, within=True)).told == []


def test_answers_given_again_are_a_models_all_the_same():
    assert not USAGE.modelled
    for change in ({"calls": 1}, {"cache_hits": 1}, {"models": ("x",)}):
        assert dataclasses.replace(USAGE, **change).modelled


class Saved(Opened):
    def state(self):
        return {}

    def restore(self, state):
        pass


def test_a_critic_can_be_saved_if_it_has_both_methods_and_says_nothing_else():
    with opened(RuleCritic(), session()) as work:
        assert savable(work)
        work.restore(work.state())
    assert savable(Saved())
    assert not savable(Opened())
    half = Opened()
    half.state = dict
    assert not savable(half)
    made = Saved()
    made.savable = False
    assert not savable(made)


def test_forecasts_add_up_and_an_unknown_price_stays_unknown():
    one = Forecast(2, 100, 10, 0.5)
    assert one + Forecast() == one
    assert one + Forecast(1, 5, 1, 0.25) == Forecast(3, 105, 11, 0.75)
    assert (one + Forecast(1, 5, 1, None)).dollars is None
