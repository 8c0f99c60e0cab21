"""Whatever a server does: training goes on, the counts are right, nothing else is contacted."""

import email.utils
import math
import time

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


OK = [True, True, True]
FIRST_LEFT_OUT, SECOND_LEFT_OUT = [False, True, True], [True, False, True]


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
def test_what_may_pass_is_tried_again(client, fault, reason, tmp_path):
    options = {"timeout": 0.2} if reason == "timeout" else {}
    with FakeServer([fault, None, fault, fault]) as server:
        asked = ask(critic(client, server.url, **options), tmp_path)
    assert outcome(asked) == (SECOND_LEFT_OUT, {reason: 1}, {reason: 3}, {})
    assert asked.usage.calls == len(server.seen) == 5
    assert asked.usage.retries == 2


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
    with FakeServer() as other, FakeServer() as server:
        server.script = [redirect(f"{other.url}/chat/completions", status)]
        asked = ask(critic(client, server.url), tmp_path)
    assert other.seen == []
    assert outcome(asked) == (FIRST_LEFT_OUT, {"redirect": 1}, {"redirect": 1}, {})
    assert asked.usage.calls == len(server.seen) == 3


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
    "a batch": (says(lambda reply: {"m1": reply, "m2": reply}), "count"),
    "truncated": (replies(finish="length"), "truncated"),
    "half a character": (says(lambda _: "\ud800"), "not-json"),
}


@pytest.mark.parametrize("fault, reason", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_reply_is_repaired_once(client, fault, reason, tmp_path):
    with FakeServer([fault, None, fault, fault]) as server:
        asked = ask(critic(client, server.url), tmp_path)
    assert outcome(asked) == (SECOND_LEFT_OUT, {reason: 1}, {}, {reason: 3})
    assert asked.usage.repaired == 1
    assert asked.usage.calls == len(server.seen) == 5


WRONG_BATCHES = {
    "one market": (says(lambda reply: reply["m1"]), "count"),
    "one less": (says(lambda reply: {"m1": reply["m1"]}), "count"),
    "one more": (says(lambda reply: reply | {"m3": reply["m1"]}), "count"),
    "one wrong": (says(lambda reply: reply | {"m2": {}}), "keys"),
}


@pytest.mark.parametrize("fault, reason", WRONG_BATCHES.values(), ids=WRONG_BATCHES.keys())
def test_a_reply_for_another_batch_is_repaired_once(client, fault, reason, tmp_path):
    with FakeServer([fault, None, fault, fault]) as server:
        asked = ask(critic(client, server.url, slots_per_call=2), tmp_path, count=5)
    scored = [True, True, False, False, True]
    assert outcome(asked) == (scored, {reason: 2}, {}, {reason: 3})
    assert asked.usage.calls == len(server.seen) == 5


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
        with pytest.raises(PeerWattError, match=r"price of .*fake is not known"):
            ask(critic(client, server.url, max_dollars=1.0), tmp_path)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_first_request_ends_the_run(client, status, tmp_path):
    with (
        FakeServer([error(status, "no such model or key")]) as server,
        pytest.raises(PeerWattError, match=f"status {status}: no such model or key"),
    ):
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
    with pytest.raises(PeerWattError, match=f"cannot connect to .*{server.port}: is the server"):
        ask(critic(client, server.url), tmp_path)


def test_all_at_once(client, tmp_path):
    """Eight at a time, and every third request meets some fault: each slot gets its own scores."""
    faults = [error(500), broken_off, says(in_prose), malformed, replies(finish="length")]

    def script(number):
        return faults[number // 3 % len(faults)] if number % 3 == 1 else slow(0.01)

    with FakeServer(script) as server:
        asked = ask(critic(client, server.url, concurrency=8, retries=9), tmp_path, count=30)
    usage = asked.usage
    left_out = sum(usage.abstained.values())  # of no use twice
    assert asked.scored.count(False) == left_out < 10
    assert usage.scored == 30 - left_out
    assert usage.calls == len(server.seen) == 30 + usage.retries + usage.repaired + left_out
    assert 2 <= server.most_at_once <= 8


def test_the_rule_stands_in_where_it_is_asked_to(client, tmp_path):
    with FakeServer([replies(finish="length")] * 2) as server:
        asked = ask(critic(client, server.url, fallback="rule"), tmp_path)
    assert asked.scored == OK
    assert (asked.usage.scored, asked.usage.fallback, asked.usage.abstained) == (2, 1, {})
