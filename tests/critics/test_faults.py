"""Whatever a server does: training goes on, the counts are right, nothing else is contacted."""

import email.utils
import math
import time

import numpy as np
import pytest
from asking import CLIENTS, ask, critic
from fake_server import (
    FakeServer,
    bomb,
    broken_off,
    dropped,
    each_number,
    empty_choices,
    error,
    hang,
    html,
    html_error,
    huge,
    in_prose,
    malformed,
    nested_bomb,
    no_object,
    one_more,
    redirect,
    replies,
    says,
    slow,
    trickle,
    wrong_keys,
    zipped,
)

from peerwatt.errors import PeerWattError
from peerwatt_critics.calls import backoff

pytestmark = pytest.mark.parametrize("client", CLIENTS)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """No test waits; what servers asked for is kept."""
    asked = []

    def wait(attempt, seconds, generator):
        asked.append(seconds)
        return 0.001

    monkeypatch.setattr(backoff, "wait", wait)
    return asked


def outcome(asked):
    usage = asked.usage
    return asked.scored, usage.abstained, usage.failed, usage.invalid


OK, FIRST_LEFT_OUT = [True, True, True], [False, True, True]


@pytest.mark.parametrize("fault", [slow(0.1), zipped], ids=["slow", "zipped"])
def test_a_good_answer_in_bad_shape_counts(client, fault, tmp_path):
    with FakeServer([fault]) as server:
        asked = ask(critic(client, server.url), tmp_path)
    assert outcome(asked) == (OK, {}, {}, {})
    assert asked.usage.calls == len(server.seen) == 3
    assert asked.usage.models == ("fake",)


PASSING = {
    "hang": (hang, "timeout"),
    "trickle": (trickle, "timeout"),
    "reset mid-body": (broken_off, "connection"),
    "closed": (dropped, "connection"),
    "429": (error(429, Retry_After="7"), "http-429"),
    "500": (error(500), "http-500"),
    "HTML error page": (html_error, "http-502"),
    "HTML page": (html, "malformed"),
    "malformed JSON": (malformed, "malformed"),
    "no JSON object": (no_object, "malformed"),
    "empty choices": (empty_choices, "no-choice"),
}


@pytest.mark.parametrize("fault, reason", PASSING.values(), ids=PASSING.keys())
class TestWhatMayPass:
    def options(self, reason):
        return {"timeout": 0.3} if reason == "timeout" else {}

    def test_is_tried_again(self, client, fault, reason, tmp_path):
        with FakeServer([fault]) as server:
            asked = ask(critic(client, server.url, **self.options(reason)), tmp_path)
        assert outcome(asked) == (OK, {}, {reason: 1}, {})
        assert asked.usage.calls == len(server.seen) == 4
        assert asked.usage.retries == 1

    def test_ends_in_an_abstention(self, client, fault, reason, tmp_path):
        with FakeServer([fault] * 2) as server:
            asked = ask(critic(client, server.url, **self.options(reason)), tmp_path)
        assert outcome(asked) == (FIRST_LEFT_OUT, {reason: 1}, {reason: 2}, {})
        assert asked.usage.calls == len(server.seen) == 4


def test_a_burst_of_500_passes(client, tmp_path):
    with FakeServer([error(500), error(503), error(529)]) as server:
        asked = ask(critic(client, server.url, retries=3), tmp_path)
    assert outcome(asked) == (OK, {}, {"http-500": 1, "http-503": 1, "http-529": 1}, {})
    assert asked.usage.calls == len(server.seen) == 6


@pytest.mark.parametrize("given", ["seconds", "date", "nonsense"])
def test_retry_after_is_honoured(client, given, waits, tmp_path):
    later = email.utils.formatdate(time.time() + 100, usegmt=True)
    header = {"seconds": "7", "date": later, "nonsense": "soon\tor never"}[given]
    with FakeServer([error(429, Retry_After=header)]) as server:
        asked = ask(critic(client, server.url), tmp_path)
    assert asked.scored == OK
    (wanted,) = waits
    if given == "seconds":
        assert wanted == 7.0
    elif given == "date":
        assert 90 < wanted <= 100
    else:
        assert wanted is None


LASTING = {
    "10 MB": (huge, "too-large"),
    "gzip bomb": (bomb, "too-large"),
    "nested bomb": (nested_bomb, "encoding"),
    "other model": (replies(model="cheaper"), "other-model"),
    "a smaller model of the family": (replies(model="fake-mini"), "other-model"),
    "no model": (replies(model=""), "other-model"),
    "418": (error(418), "http-418"),
}


@pytest.mark.parametrize("fault, reason", LASTING.values(), ids=LASTING.keys())
def test_what_lasts_is_not_tried_again(client, fault, reason, tmp_path):
    with FakeServer([fault]) as server:
        asked = ask(critic(client, server.url), tmp_path)
    assert outcome(asked) == (FIRST_LEFT_OUT, {reason: 1}, {reason: 1}, {})
    assert asked.usage.calls == len(server.seen) == 3


@pytest.mark.parametrize("name", ["fake-2026-01-31", "org/fake", "fake-001", "known-as-this"])
def test_a_version_of_the_model_is_the_model(client, name, tmp_path):
    with FakeServer([replies(model=name)] * 3) as server:
        asked = ask(critic(client, server.url, reply_model="known-as-this"), tmp_path)
    assert outcome(asked) == (OK, {}, {}, {})
    assert asked.usage.models == (name,)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_refused(client, status, tmp_path):
    with FakeServer() as other:
        with FakeServer([redirect(f"{other.url}/chat/completions", status)]) as server:
            asked = ask(critic(client, server.url), tmp_path)
    assert other.seen == []
    assert outcome(asked) == (FIRST_LEFT_OUT, {"redirect": 1}, {"redirect": 1}, {})
    assert asked.usage.calls == len(server.seen) == 3


def another_count(reply):
    """The reply of a batch without its last market, or that of one market as a batch."""
    return dict(list(reply.items())[:-1]) if "m1" in reply else {"m1": reply, "m2": reply}


WRONG = {
    "prose": (says(in_prose), "prose"),
    "empty text": (says(lambda _: ""), "not-json"),
    "wrong keys": (says(wrong_keys), "keys"),
    "numbers as strings": (says(each_number(str)), "type"),
    "true and false": (says(each_number(bool)), "type"),
    "a list": (says(lambda reply: [reply]), "type"),
    "nested": (says(lambda _: "[" * 50_000), "too-long"),
    "above the scale": (says(each_number(lambda number: number + 1000)), "range"),
    "negative": (says(each_number(lambda number: -1 - number)), "range"),
    "NaN": (says(each_number(lambda _: math.nan)), "range"),
    "infinite": (says(each_number(lambda _: math.inf)), "range"),
    "another batch": (says(another_count), "count"),
    "truncated": (replies(finish="length"), "truncated"),
    "half characters": (says(lambda _: "\ud800"), "not-json"),
}


@pytest.mark.parametrize("fault, reason", WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("batch", [1, 3])
class TestWrongReplies:
    def test_are_repaired_once(self, client, fault, reason, batch, tmp_path):
        with FakeServer([fault]) as server:
            asked = ask(critic(client, server.url, slots_per_call=batch), tmp_path)
        assert outcome(asked) == (OK, {}, {}, {reason: 1})
        assert asked.usage.repaired == 1
        assert asked.usage.calls == len(server.seen) == 3 // batch + 1

    def test_end_in_an_abstention(self, client, fault, reason, batch, tmp_path):
        with FakeServer([fault] * 2) as server:
            asked = ask(critic(client, server.url, slots_per_call=batch), tmp_path)
        scored = FIRST_LEFT_OUT if batch == 1 else [False] * 3
        assert outcome(asked) == (scored, {reason: batch}, {}, {reason: 2})
        assert asked.usage.repaired == 0
        assert asked.usage.calls == len(server.seen) == 3 // batch + 1 + (batch == 1) * 0


REFUSALS = {
    "refusal": replies(refusal="I cannot judge that."),
    "content filter": replies(finish="content_filter"),
}


@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_not_argued_with(client, fault, tmp_path):
    with FakeServer([fault]) as server:
        asked = ask(critic(client, server.url), tmp_path)
    assert outcome(asked) == (FIRST_LEFT_OUT, {"refused": 1}, {}, {"refused": 1})
    assert asked.usage.calls == len(server.seen) == 3


@pytest.mark.parametrize("usage", [-5, 10**30, 1e300, math.nan, "many", None, True, [1], {}])
def test_insane_usage_is_not_believed(client, usage, tmp_path):
    with FakeServer([replies(usage=usage)] * 3) as server:
        asked = ask(critic(client, server.url, price_in=1.0, price_out=1.0), tmp_path)
    assert outcome(asked) == (OK, {}, {}, {})
    # Counted as the most that it can have been: a token for each byte.
    sent = sum(len(seen.body) for seen in server.seen)
    assert 0.5 * sent < asked.usage.prompt_tokens < 2 * sent
    assert asked.usage.completion_tokens == 3 * 160
    assert asked.usage.dollars == pytest.approx((asked.usage.prompt_tokens + 480) / 1e6)


def test_sane_usage_is_counted_and_priced(client, tmp_path):
    with FakeServer([replies(usage=(1000, 30))] * 3) as server:
        asked = ask(critic(client, server.url, price_in=2.0, price_out=10.0), tmp_path)
    assert (asked.usage.prompt_tokens, asked.usage.completion_tokens) == (3000, 90)
    assert asked.usage.dollars == pytest.approx(3000 * 2e-6 + 90 * 10e-6)


def test_unknown_prices_are_null(client, tmp_path):
    with FakeServer() as server:
        assert ask(critic(client, server.url), tmp_path).usage.dollars is None
        with pytest.raises(PeerWattError, match="price of .*fake is not known"):
            ask(critic(client, server.url, max_dollars=1.0), tmp_path)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_first_request_ends_the_run(client, status, tmp_path):
    with FakeServer([error(status, "no such model or key")]) as server:
        with pytest.raises(PeerWattError, match=f"status {status}: no such model or key"):
            ask(critic(client, server.url), tmp_path)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_later_request_is_a_failure(client, status, tmp_path):
    with FakeServer([None, error(status)]) as server:
        asked = ask(critic(client, server.url), tmp_path)
    assert outcome(asked)[1:] == ({f"http-{status}": 1}, {f"http-{status}": 1}, {})
    assert asked.usage.calls == len(server.seen) == 3


def test_nobody_there(client, tmp_path):
    with FakeServer() as server:
        pass
    asked = ask(critic(client, server.url), tmp_path)
    assert outcome(asked) == ([False] * 3, {"connect": 3}, {"connect": 6}, {})
    assert asked.usage.calls == 6


def test_all_at_once(client, tmp_path):
    """Eight at a time, and every third request meets some fault: each slot gets its own scores."""
    faults = [error(500), broken_off, says(in_prose), malformed, replies(finish="length")]

    def script(number):
        return faults[number // 3 % len(faults)] if number % 3 == 1 else slow(0.01)

    with FakeServer(script) as server:
        asked = ask(critic(client, server.url, concurrency=8, retries=9), tmp_path, count=60)
    usage = asked.usage
    left_out = sum(usage.abstained.values())
    assert asked.scored.count(False) == left_out < 20
    assert usage.slots == 60 == usage.scored + left_out
    assert usage.calls == len(server.seen)
    assert usage.calls == 60 + usage.retries + usage.repaired + _second(usage)
    assert 2 <= server.most_at_once <= 8


def _second(usage):
    """Repairs that were of no use: each made its question fail."""
    return sum(usage.invalid.values()) - usage.repaired - _first(usage)


def _first(usage):
    return usage.repaired + sum(usage.abstained.values()) - usage.repaired


def test_the_rule_stands_in_where_it_is_asked_to(client, tmp_path):
    with FakeServer([says(one_more), replies(finish="length")] * 3) as server:
        asked = ask(critic(client, server.url, fallback="rule"), tmp_path)
    assert np.isfinite(asked.scores).all()
