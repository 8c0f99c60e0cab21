from dataclasses import is_dataclass

import numpy as np
import pytest
from played import played

from peerwatt.errors import PeerWattError
from peerwatt.fairness import score_slots
from peerwatt.fairness.session import CriticUsage, opened
from peerwatt_critics import hooks
from peerwatt_critics.constant import ConstantCritic
from peerwatt_critics.members import OpenPlain, made, undefined
from peerwatt_critics.none import NoCritic
from peerwatt_critics.random_scores import RandomCritic
from peerwatt_critics.usage import merged


def test_nine_critics_are_registered():
    specs = {spec.name: spec for spec in hooks.peerwatt_critics()}
    assert set(specs) == {
        *("none", "rule", "constant", "random", "ensemble", "distilled", "replay"),
        *("llm", "openai-http"),
    }
    for spec in specs.values():
        assert spec.problem() is None
        assert is_dataclass(spec.load())  # loads no client of a model, which may not be there


def test_undefined_is_what_the_closed_forms_leave_out():
    for slots in played(30):
        assert np.array_equal(np.isnan(undefined(slots)), np.isnan(np.array(score_slots(slots))))


def test_constant_gives_its_value_where_a_score_is_defined():
    for slots in played(30):
        scores = np.array(ConstantCritic(0.3).score(slots))
        assert np.array_equal(np.isnan(scores), np.isnan(np.array(score_slots(slots))))
        assert set(scores[~np.isnan(scores)]) <= {0.3}


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_constant_refuses_what_is_no_score(value):
    with pytest.raises(PeerWattError, match="must be a number from 0 to 1"):
        ConstantCritic(value)


def drawn(critic, session):
    with opened(critic, session) as work:
        return np.concatenate([np.array(work.score(slots)) for slots in played(30)], axis=1)


def test_random_draws_from_the_sessions_generator_and_nothing_else(session):
    exact = np.concatenate([np.array(score_slots(slots)) for slots in played(30)], axis=1)
    one, again, other = (drawn(RandomCritic(), session(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again, equal_nan=True)
    assert not np.array_equal(one, other, equal_nan=True)
    assert np.array_equal(np.isnan(one), np.isnan(exact))
    values = one[~np.isnan(one)]
    assert len(set(values)) == len(values)
    assert abs(values.mean() - 0.5) < 0.05
    assert values.min() < 0.05
    assert values.max() > 0.95


def test_random_keeps_to_its_levels(session):
    scores = drawn(RandomCritic(levels=6), session())
    assert np.allclose(np.unique(scores[~np.isnan(scores)]), np.arange(6) / 5)
    for levels in (-1, 1):
        with pytest.raises(PeerWattError, match="levels"):
            RandomCritic(levels=levels)


def test_a_critic_without_memory_counts_its_slots():
    rule, none = OpenPlain(score_slots), OpenPlain(NoCritic().score)
    for slots in played(30):
        rule.score(slots)
        none.score(slots)
    usage, nothing = rule.usage(), none.usage()
    assert usage.slots == nothing.slots == 30 * 32
    assert usage.undefined == nothing.undefined > 0
    assert usage.scored == nothing.skipped == usage.slots - usage.undefined
    assert usage.skipped == nothing.scored == 0


def test_costs_add_up_and_an_unknown_price_stays_unknown():
    free, paid = CriticUsage(slots=5, scored=5), CriticUsage(calls=2, dollars=0.5, models=("a",))
    unknown = CriticUsage(
        calls=3, failed={"timeout": 1}, models=("a", "b"), latencies=(1.0,) * 150, capped="10 calls"
    )
    assert merged([free]).dollars is None
    assert merged([free, paid]).dollars == 0.5
    both = merged([paid, unknown, unknown])
    assert (both.calls, both.dollars, both.slots) == (8, None, 0)
    assert both.failed == {"timeout": 2}
    assert both.models == ("a", "b")
    assert len(both.latencies) == 200
    assert both.capped == "10 calls"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("replay:transcript=x", "replays whole runs"),
        ("openai-http:model=m,fallback=rule", "fallback=rule"),
        ("rlue", "did you mean 'rule'"),
        ("constant:value=2", "from 0 to 1"),
    ],
)
def test_what_cannot_be_a_part_is_refused(text, problem):
    with pytest.raises(PeerWattError, match=problem):
        made("ensemble", text)
