"""The call path: order, batches, retries, validation, repair, interruption, secrets."""

import asyncio
import base64
import json
import math
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_model import (
    ScriptedTransport,
    TinyPrompt,
    VirtualTime,
    open_path,
    reply,
    session,
    truth,
)

from peerwatt.errors import PeerWattError
from peerwatt.fairness import SlotBatch
from peerwatt.fairness.scores import score_slots
from peerwatt.fairness.session import opened
from peerwatt.fairness.transcript import Transcript
from peerwatt_critics.calls import background, backoff
from peerwatt_critics.calls import opened as opened_critic
from peerwatt_critics.calls.exchange import TransportError
from peerwatt_critics.calls.opened import AskedCritic
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.redact import redactor


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(background, "new_loop", VirtualTime)


def options(**fields):
    return CallOptions(model="scripted", **fields)


def failure(reason="http-500", retry=True, **fields):
    return TransportError(reason, f"it said {reason}", retry=retry, **fields)


QUESTIONS = [f"slot {number}" for number in range(10)]


def asked(transport, **fields):
    """Ask the ten questions of a fresh path and return the outcomes and the usage."""
    path = open_path(transport, options(**fields))
    try:
        return path.ask(QUESTIONS), path.usage_part()
    finally:
        path.close(True)


class TestAsking:
    def test_answers_come_in_the_order_of_the_questions(self):
        slow_first = [lambda request: asyncio.sleep(9)]
        outcomes, usage = asked(ScriptedTransport(slow_first))
        assert [outcome.scores for outcome in outcomes] == [truth(text) for text in QUESTIONS]
        assert usage.calls == 10
        assert usage.models == ("scripted-1",)

    def test_slots_share_calls(self):
        transport = ScriptedTransport()
        outcomes, _ = asked(transport, slots_per_call=4)
        sizes = [len(json.loads(request.messages[-1]["content"])) for request in transport.requests]
        assert sizes == [4, 4, 2]
        assert [outcome.scores for outcome in outcomes] == [truth(text) for text in QUESTIONS]

    def test_equal_slots_are_asked_about_once(self):
        transport = ScriptedTransport()
        path = open_path(transport)
        outcomes = path.ask(["a", "b", "a", "a"])
        assert len(transport.requests) == 2
        assert outcomes[0] == outcomes[2] == outcomes[3] != outcomes[1]
        assert path.usage_part().cache_hits == 2
        path.close(True)

    @pytest.mark.parametrize("concurrency", [1, 3, 64])
    def test_no_more_requests_than_allowed_are_under_way(self, concurrency):
        transport = ScriptedTransport()
        _, usage = asked(transport, concurrency=concurrency)
        assert transport.most_under_way == min(concurrency, 10)
        assert usage.seconds == math.ceil(10 / concurrency)

    def test_a_caller_may_run_an_event_loop(self):
        async def caller():
            return asked(ScriptedTransport())

        outcomes, _ = asyncio.run(caller())
        assert all(outcome.scores for outcome in outcomes)

    def test_closing_twice_is_closing(self):
        transport = ScriptedTransport()
        path = open_path(transport)
        path.ask(["a"])
        path.close(True)
        path.close(True)
        assert transport.closed == 1

    def test_a_transport_that_was_not_used_is_not_closed(self):
        transport = ScriptedTransport()
        open_path(transport).close(True)
        assert transport.closed == 0

    def test_a_transport_that_cannot_be_closed_does_not_matter(self):
        class Stubborn(ScriptedTransport):
            async def close(self):
                await asyncio.Event().wait()

        path = open_path(Stubborn())
        path.ask(["a"])
        path.close(True)
        assert not [thread for thread in threading.enumerate() if thread.name == "critic"]


class TestInterruption:
    def test_a_signal_ends_the_waiting_at_once(self):
        main = threading.main_thread().ident

        async def hang(request):
            await asyncio.Event().wait()

        async def hang_and_signal(request):  # one signal only: a second might meet the next line
            signal.pthread_kill(main, signal.SIGINT)
            await hang(request)

        transport = ScriptedTransport([*[hang] * 7, hang_and_signal])
        path = open_path(transport)
        with pytest.raises(KeyboardInterrupt):
            path.ask(QUESTIONS)
        path.close(False)
        assert transport.under_way == 0
        assert transport.closed == 1
        assert not [thread for thread in threading.enumerate() if thread.name == "critic"]


class TestRetries:
    def test_a_request_is_sent_again_after_growing_waits(self):
        transport = ScriptedTransport([failure()] * 4, takes=0)
        path = open_path(transport)
        assert path.ask(["a"])[0].scores == truth("a")
        path.close(True)
        waits = np.diff(transport.times)
        assert len(waits) == 4
        assert all(0 <= wait <= 2.0**k for k, wait in enumerate(waits))
        usage = path.usage_part()
        assert (usage.calls, usage.retries, usage.failed) == (5, 4, {"http-500": 4})

    def test_waits_follow_the_seed(self):
        def times(seed):
            transport = ScriptedTransport([failure()] * 4)
            path = open_path(transport, generator=np.random.default_rng(seed))
            path.ask(["a"])
            path.close(True)
            return transport.times

        assert times(1) == times(1) != times(2)

    def test_retries_end(self):
        outcomes, usage = asked(ScriptedTransport([failure()] * 99), retries=2)
        assert {outcome.reason for outcome in outcomes} == {"http-500"}
        assert (usage.calls, usage.retries) == (30, 20)

    def test_what_cannot_help_is_not_tried_again(self):
        outcomes, usage = asked(ScriptedTransport([failure("redirect", retry=False)] * 10))
        assert {outcome.reason for outcome in outcomes} == {"redirect"}
        assert usage.calls == 10

    @pytest.mark.parametrize(("wanted", "least"), [(7.0, 7.0), (1e9, backoff.MOST_ASKED)])
    def test_retry_after_is_honoured_by_all_requests(self, wanted, least):
        transport = ScriptedTransport([failure("http-429", retry_after=wanted)], takes=0)
        asked(transport, concurrency=1)
        assert least <= transport.times[1] <= least + 1

        transport = ScriptedTransport([failure("http-429", retry_after=wanted)], takes=1)
        asked(transport, concurrency=2)
        first, second, *later = transport.times
        assert first == second == 0  # was under way already
        assert all(time >= 1 + least for time in later)

    @pytest.mark.parametrize("asked_for", [-5.0, 0.0, math.nan])
    def test_nonsense_of_retry_after_is_not(self, asked_for):
        assert 0 <= backoff.wait(0, asked_for, np.random.default_rng(0)) <= backoff.FIRST

    def test_waits_are_bounded(self):
        assert backoff.wait(20, None, np.random.default_rng(0)) <= backoff.MOST

    def test_a_reply_that_takes_too_long_is_a_failure(self):
        transport = ScriptedTransport([lambda request: asyncio.sleep(1e6)])
        path = open_path(transport, options(timeout=5.0))
        assert path.ask(["a"])[0].scores == truth("a")
        path.close(True)
        assert path.usage_part().failed == {"timeout": 1}
        assert transport.times[1] >= 5.0

    def test_a_client_that_breaks_is_a_failure(self):
        outcomes, usage = asked(ScriptedTransport([KeyError("choices")]))
        assert outcomes[0].reason == "client"
        assert usage.failed == {"client": 1}
        assert all(outcome.scores for outcome in outcomes[1:])


class TestHopeless:
    def test_a_refusal_before_any_reply_ends_the_run(self):
        transport = ScriptedTransport([failure("http-401", retry=False, fatal=True)] * 8)
        path = open_path(transport)
        with pytest.raises(PeerWattError, match=r"scripted at memory .*http-401; check critic\.mo"):
            path.ask(QUESTIONS)
        path.close(False)
        assert len(transport.requests) == 8

    def test_a_later_one_is_a_failure(self):
        script = [None, failure("http-401", retry=False, fatal=True)]
        outcomes, usage = asked(ScriptedTransport(script), concurrency=1)
        assert outcomes[1].reason == "http-401"
        assert usage.failed == {"http-401": 1}
        assert sum(outcome.scores is not None for outcome in outcomes) == 9

    def test_a_dead_server_is_given_up(self):
        transport = ScriptedTransport([failure("timeout", retry=False)] * 999)
        outcomes, usage = asked(transport, give_up_after=4, concurrency=1)
        assert [outcome.reason for outcome in outcomes] == ["timeout"] * 4 + ["capped"] * 6
        assert usage.capped.startswith("gave up after 4 failures in a row (last: ")
        assert usage.capped.endswith("); this run made 4 calls")

    def test_nobody_there_ends_the_run(self):
        transport = ScriptedTransport([failure("connect")] * 999)
        with pytest.raises(PeerWattError, match=r"is critic\.api_base right"):
            asked(transport, concurrency=1)
        assert len(transport.requests) == 2

    def test_a_server_that_went_away_is_a_failure(self):
        script = [None, *[failure("connect")] * 999]
        outcomes, usage = asked(ScriptedTransport(script), concurrency=1, retries=3)
        assert [outcome.reason for outcome in outcomes] == [""] + ["connect"] * 9
        assert usage.calls == 1 + 9 * 4

    def test_only_failures_in_a_row_count(self):
        script = [failure("timeout", retry=False), None] * 5
        outcomes, usage = asked(ScriptedTransport(script), give_up_after=2, concurrency=1)
        assert [outcome.reason for outcome in outcomes] == ["timeout", ""] * 5
        assert usage.capped is None

    def test_our_own_errors_come_through(self):
        path = open_path(ScriptedTransport([PeerWattError("install it.")] * 3))
        with pytest.raises(PeerWattError, match=r"^install it\.$"):
            path.ask(QUESTIONS)
        path.close(False)


class TestValidation:
    @pytest.mark.parametrize(
        ("bad", "reason"),
        [
            ("no", "not-json"),
            ("[]", "count"),
            (reply("[[1, 1, 1, 1]]", finish="length"), "truncated"),
            ("[" * 70_000, "too-long"),
        ],
    )
    def test_one_repair_is_tried(self, bad, reason):
        transport = ScriptedTransport([bad])
        path = open_path(transport)
        assert path.ask(["a"])[0].scores == truth("a")
        path.close(True)
        told = [message["content"] for message in transport.requests[1].messages]
        assert f"Wrong: {reason}." in told
        usage = path.usage_part()
        assert (usage.calls, usage.repaired, usage.invalid) == (2, 1, {reason: 1})

    def test_only_one_repair_is_tried(self):
        transport = ScriptedTransport(["no", "[]"])
        path = open_path(transport)
        assert path.ask(["a"])[0] == (None, "count")
        path.close(True)
        usage = path.usage_part()
        assert usage.invalid == {"not-json": 1, "count": 1}
        assert (usage.calls, usage.repaired) == (2, 0)

    @pytest.mark.parametrize("fields", [{"refusal": True}, {"finish": "content_filter"}])
    def test_who_declines_is_not_asked_again(self, fields):
        transport = ScriptedTransport([reply("[[1, 1, 1, 1]]", **fields)])
        path = open_path(transport)
        assert path.ask(["a"])[0] == (None, "refused")
        path.close(True)
        assert len(transport.requests) == 1


SECRET = "sk-Geheim/+42 é"


class TestSecrets:
    @pytest.fixture(autouse=True)
    def key(self, monkeypatch):
        monkeypatch.setenv("SOME_API_KEY", SECRET)

    def test_none_reaches_transcript_cache_or_usage(self, tmp_path):
        transcript = Transcript(tmp_path / "critic.jsonl", {})
        script = [
            reply(f"no {SECRET}", model=SECRET, finish=SECRET),
            failure(retry=False),
            ValueError(SECRET),
            TransportError("http-500", f"key {SECRET} is wrong"),
        ]
        path = open_path(
            ScriptedTransport(script),
            options(concurrency=1),
            transcript=transcript,
            store=tmp_path,
        )
        path.ask(QUESTIONS)
        path.close(True)
        transcript.close()
        written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        assert b"[secret]" in written
        assert b"Geheim" not in written
        assert "Geheim" not in str(path.usage_part())

    def test_none_reaches_an_error(self):
        error = TransportError("http-401", f"{SECRET} is no key", fatal=True)
        path = open_path(ScriptedTransport([error] * 8))
        with pytest.raises(PeerWattError) as caught:
            path.ask(["a"])
        path.close(False)
        assert "Geheim" not in str(caught.value)
        assert caught.value.__cause__ is None

    @given(before=st.binary(max_size=20), after=st.binary(max_size=20))
    def test_base64_with_other_text_around_it_is_found(self, before, after):
        core = base64.b64encode(SECRET.encode())[4:-4].decode()
        text = base64.b64encode(before + SECRET.encode() + after).decode()
        hidden = redactor()(text)
        assert "[secret]" in hidden
        assert core not in hidden

    @pytest.mark.parametrize(
        "form",
        [
            SECRET,
            "sk-Geheim%2F%2B42%20%C3%A9",
            "sk-Geheim%2f%2b42+%c3%a9",
            "sk-Geheim/%2B42%20%C3%A9",
            r"sk-Geheim/+42 \u00e9",
            r"sk-Geheim\/+42 é",
            r"\u0073k-Ge\u0068eim/+42 é",
            r"\\u0073k-Geheim\\/+42 \\u00e9",
            r"sk-Geh\x65im/+42 é",
            "sk-Geheim&#x2f;&#43;42 é",
            "sk%2DGeheim%252F%2B42 é",
            SECRET.encode().hex(),
            SECRET.encode().hex().upper(),
        ],
    )
    def test_every_form_is_found(self, form):
        assert redactor()(f"<{form}>") == "<[secret]>"

    def test_a_reply_of_backslashes_takes_no_time(self):
        text = "\\" * 1_000_000
        assert redactor()(text) == text

    def test_the_variable_of_the_key_needs_no_telling_name(self, monkeypatch):
        monkeypatch.setenv("MINE", "plainvalue")
        assert redactor()("plainvalue") == "plainvalue"
        assert redactor("MINE")("plainvalue") == "[secret]"

    def test_short_values_stay(self, monkeypatch):
        monkeypatch.setenv("OTHER_TOKEN", "true")
        assert redactor()("true") == "true"


class TestOptions:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("model", "a b"),
            ("model", "x" * 300),
            ("model", "-x"),
            ("reply_model", "\n"),
            ("slots_per_call", 0),
            ("slots_per_call", True),
            ("every", 0),
            ("every", None),
            ("share", 0.0),
            ("share", 1.5),
            ("share", math.nan),
            ("share", None),
            ("temperature", -1.0),
            ("model_seed", -1),
            ("reply_tokens", 0),
            ("response_format", "xml"),
            ("fallback", "guess"),
            ("on_cap", "crash"),
            ("cache", "off"),
            ("max_calls", -1),
            ("max_tokens", 1.5),
            ("max_dollars", math.inf),
            ("max_seconds", 0.0),
            ("give_up_after", 0),
            ("price_in", 1.0),
            ("price_out", 1.0),
            ("concurrency", 0),
            ("timeout", 0.0),
            ("timeout", None),
            ("retries", -1),
        ],
    )
    def test_nonsense_is_refused_in_a_sentence(self, field, value):
        with pytest.raises(PeerWattError, match=rf"^critic\.{field} .*\.$"):
            CallOptions(**{field: value})

    @pytest.mark.parametrize(
        "address",
        [
            "127.0.0.1:8080",
            "ftp://host/v1",
            "http://",
            "http://user:hunter22@host/v1",
            "http://hunter22@host/v1",
            "https://host/v1?key=hunter22",
            "https://host/v1#hunter22",
            "http://host:hunter22/v1",
            "http://ho st/hunter22",
            "http://höst/hunter22",
        ],
    )
    def test_addresses_that_are_wrong_or_hold_secrets_are_not_even_shown(self, address):
        with pytest.raises(PeerWattError, match=r"^critic\.api_base .*\.$") as caught:
            CallOptions(api_base=address)
        assert "hunter22" not in str(caught.value)

    @pytest.mark.parametrize("key", ["sk-hunter22", "gsk_hunter22"])
    def test_a_key_instead_of_its_variable_is_not_shown(self, key):
        with pytest.raises(PeerWattError, match="never the key") as caught:
            CallOptions(api_key_env=key)
        assert "hunter22" not in str(caught.value)

    def test_the_key_comes_from_the_environment(self, monkeypatch):
        monkeypatch.setenv("MY_KEY", "one-long-key")
        monkeypatch.setenv("USUAL", "two-long-keys")
        assert CallOptions(api_key_env="MY_KEY").key("USUAL") == "one-long-key"
        assert CallOptions().key("USUAL") == "two-long-keys"
        assert CallOptions().key() is None
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(PeerWattError, match="MY_KEY"):
            CallOptions(api_key_env="MY_KEY").key("USUAL")

    def test_a_key_that_is_too_short_to_be_hidden_is_refused(self, monkeypatch):
        monkeypatch.setenv("MY_KEY", "hunter2")
        with pytest.raises(PeerWattError, match="MY_KEY holds a key of less than 8") as caught:
            CallOptions(api_key_env="MY_KEY").key()
        assert "hunter2" not in str(caught.value)

    def test_the_prompt_is_part_of_what_is_recorded(self):
        (digest,) = CallOptions().contents().values()
        assert len(digest) == 64


def slots(volumes, households=3):
    """Slots with two sellers and a buyer; no trade is feasible where the volume is negative."""
    count = len(volumes)
    volume = np.array(volumes, dtype=float)
    supply = np.where(volume[:, None] < 0, 0.0, np.array([2.0, 1.0, 0.0])[:households])
    demand = np.tile(np.array([0.0, 0.0, 3.0])[:households], (count, 1))
    traded = np.maximum(volume, 0.0)[:, None]
    sold, bought = traded * [1.0, 0.0, 0.0], traded * [0.0, 0.0, 1.0]
    return SlotBatch(
        feed_in=np.full(count, 0.1),
        retail=np.full(count, 0.3),
        reference=np.full(count, 0.2),
        surplus=supply,
        deficit=demand,
        offered=supply,
        demanded=demand,
        sold=sold,
        bought=bought,
        received=0.2 * sold,
        paid=0.2 * bought,
        volume=traded[:, 0],
        mean_price=np.where(volume > 0, 0.2, np.nan),
        price_deviation=np.where(volume > 0, 0.0, np.nan),
    )


class TestAskedCritic:
    @pytest.fixture(autouse=True)
    def tiny(self, monkeypatch):
        monkeypatch.setattr(opened_critic, "load_prompt", lambda name: TinyPrompt())

    def critic(self, transport, **fields):
        return AskedCritic(options(**fields), lambda redact: transport, session())

    def test_a_model_must_be_named(self):
        with pytest.raises(PeerWattError, match=r"^critic\.model is empty"):
            AskedCritic(CallOptions(), lambda redact: ScriptedTransport(), session())

    def test_nobody_is_asked_about_undefined_slots(self):
        transport = ScriptedTransport()
        critic = self.critic(transport)
        scores = np.stack(critic.score(slots([-1, 0.5, -1])))
        critic.close(True)
        assert np.isnan(scores[:, [0, 2]]).all()
        assert not np.isnan(scores[:, 1]).any()
        assert len(transport.requests) == 1
        usage = critic.usage()
        assert (usage.slots, usage.undefined, usage.scored) == (3, 2, 1)

    def test_one_seller_is_not_compared_with_anybody(self):
        critic = self.critic(ScriptedTransport())
        lone = slots([0.5])
        lone.surplus[0, 1] = 0.0
        ftg, fbs, fpp, ftb = critic.score(lone)
        critic.close(True)
        assert np.isnan(fbs[0])
        assert not np.isnan([ftg[0], fpp[0], ftb[0]]).any()

    def test_every_counts_defined_slots_over_the_run(self):
        critic = self.critic(ScriptedTransport(), every=3)
        volumes = [0.1, -1, 0.2, 0.3, -1, 0.4, 0.5, 0.6, 0.7]
        whole = []
        for start in range(0, len(volumes), 2):
            whole.append(critic.score(slots(volumes[start : start + 2])).ftg)
        critic.close(True)
        chosen = np.flatnonzero(~np.isnan(np.concatenate(whole)))
        assert chosen.tolist() == [0, 5, 8]
        assert critic.usage().skipped == 4

    def test_share_draws_from_the_session(self):
        def chosen(seed):
            critic = AskedCritic(
                options(share=0.5),
                lambda redact: ScriptedTransport(),
                session(generator=np.random.default_rng(seed)),
            )
            scores = critic.score(slots(np.linspace(0.1, 1.0, 50)))
            critic.close(True)
            return np.isnan(scores.ftg).tolist()

        assert chosen(1) == chosen(1) != chosen(2)
        assert 10 < sum(chosen(1)) < 40

    @pytest.mark.parametrize("fallback", ["abstain", "rule"])
    def test_the_fallback_stands_in_and_is_counted(self, fallback):
        transport = ScriptedTransport([failure("redirect", retry=False)])
        critic = self.critic(transport, fallback=fallback, concurrency=1)
        batch = slots([0.1, 0.2, 0.3])
        scores = np.stack(critic.score(batch))
        critic.close(True)
        usage = critic.usage()
        if fallback == "rule":
            assert (usage.abstained, usage.fallback) == ({}, 1)
            assert scores[:, 0].tolist() == np.stack(score_slots(batch))[:, 0].tolist()
        else:
            assert (usage.abstained, usage.fallback) == ({"redirect": 1}, 0)
            assert np.isnan(scores[:, 0]).all()
        assert usage.scored == 2
        assert not np.isnan(scores[:, 1:]).any()

    def test_it_opens_and_closes_as_critics_do(self):
        transport = ScriptedTransport()

        class Critic:
            def open(self, run):
                return AskedCritic(options(), lambda redact: transport, run)

        with opened(Critic(), session()) as critic:
            critic.score(slots([0.5]))
        assert transport.closed == 1

    STEPS = st.sampled_from([None, None, None, "no", "[]", failure(), failure("x", retry=False)])

    @settings(max_examples=60)
    @given(
        script=st.lists(STEPS, max_size=40),
        batches=st.lists(
            st.lists(st.sampled_from([-1, 0, 0.1, 0.2, 0.3, 0.4]), min_size=1, max_size=8),
            min_size=1,
            max_size=4,
        ),
        fields=st.fixed_dictionaries(
            {
                "every": st.integers(1, 3),
                "share": st.sampled_from([0.5, 1.0]),
                "slots_per_call": st.integers(1, 3),
                "retries": st.integers(0, 2),
                "fallback": st.sampled_from(["abstain", "rule"]),
                "max_calls": st.none() | st.integers(0, 12),
                "give_up_after": st.integers(1, 5),
            }
        ),
    )
    def test_usage_adds_up(self, script, batches, fields):
        transport = ScriptedTransport(script)
        critic = self.critic(transport, **fields)
        nan = 0
        for volumes in batches:
            nan += int(np.isnan(critic.score(slots(volumes)).ftg).sum())
        usage = critic.usage()
        critic.close(True)
        abstained = sum(usage.abstained.values())
        assert usage.slots == sum(map(len, batches))
        assert usage.slots == (
            usage.undefined + usage.skipped + usage.scored + usage.fallback + abstained
        )
        assert nan == usage.undefined + usage.skipped + abstained
        assert usage.calls == len(transport.requests)
        assert usage.calls <= (fields["max_calls"] if fields["max_calls"] is not None else 10**9)
        failed, invalid = sum(usage.failed.values()), sum(usage.invalid.values())
        assert usage.calls - failed == len(usage.latencies)
        assert usage.retries <= failed
        assert usage.repaired <= invalid
        assert usage.prompt_tokens >= 20 * (usage.calls - failed)
