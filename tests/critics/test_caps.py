"""Caps on calls, tokens, dollars and seconds, and costs that cannot be believed."""

import asyncio
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_model import (
    ScriptedTransport,
    TinyPrompt,
    VirtualTime,
    open_path,
    reply,
    session,
)

from peerwatt.cli.report import critic_line
from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import CriticUsage, summed
from peerwatt_critics import ensemble
from peerwatt_critics.calls import background, costs
from peerwatt_critics.calls.database import Database
from peerwatt_critics.calls.exchange import Prices, Request, TransportError
from peerwatt_critics.calls.ledger import Cost, Ledger, Limits
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.path import CallPath
from peerwatt_critics.calls.redact import redactor

QUESTIONS = [f"slot {number}" for number in range(40)]
ROW = "[[1, 1, 1, 1]]"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(background, "new_loop", VirtualTime)


def options(**fields):
    return CallOptions(model="scripted", **fields)


def answered(outcomes):
    return sum(outcome.scores is not None for outcome in outcomes)


class TestCalls:
    @pytest.mark.parametrize("concurrency", [1, 8, 40])
    def test_ten_are_ten(self, concurrency):
        transport = ScriptedTransport()
        path = open_path(transport, options(max_calls=10, concurrency=concurrency))
        outcomes = path.ask(QUESTIONS)
        again = path.ask(["another"])
        path.close(True)
        assert len(transport.requests) == 10
        assert answered(outcomes) == 10
        assert {outcome.reason for outcome in outcomes[10:]} == {"capped"}
        assert again[0].reason == "capped"
        usage = path.usage_part()
        assert usage.calls == 10
        assert (
            usage.capped == "max_calls 10 of all runs of this entry reached; this run made 10 calls"
        )

    def test_retries_and_repairs_are_calls(self):
        script = ["no", "no", TransportError("http-500", "", retry=True)]
        transport = ScriptedTransport(script)
        path = open_path(transport, options(max_calls=4, concurrency=1))
        outcomes = path.ask(QUESTIONS)
        path.close(True)
        assert len(transport.requests) == 4
        assert [outcome.reason for outcome in outcomes[:3]] == ["not-json", "", "capped"]

    def test_none_is_none(self):
        transport = ScriptedTransport()
        path = open_path(transport, options(max_calls=0))
        assert answered(path.ask(QUESTIONS)) == 0
        path.close(True)
        assert transport.requests == []

    def test_a_cap_may_end_the_run_with_its_answers_kept(self, tmp_path):
        limited = options(max_calls=10, on_cap="stop")
        path = open_path(ScriptedTransport(), limited, store=tmp_path)
        with pytest.raises(
            PeerWattError, match=r"max_calls 10 of all runs.*answers so far are kept"
        ):
            path.ask(QUESTIONS)
        path.close(False)
        transport = ScriptedTransport()
        path = open_path(transport, options(), store=tmp_path)
        assert answered(path.ask(QUESTIONS)) == 40
        path.close(True)
        assert len(transport.requests) == 30

    def test_all_runs_of_an_entry_share_it(self, tmp_path):
        def calls(run, entry="entry", fresh=False, count=6, path=""):
            transport = ScriptedTransport()
            opened = open_path(
                transport,
                options(max_calls=10),
                store=tmp_path,
                entry=entry,
                run=run,
                fresh=fresh,
                path=path,
            )
            opened.ask([f"{entry} {run} {path} {fresh} {number}" for number in range(count)])
            opened.close(True)
            return len(transport.requests)

        assert [calls("seed-0"), calls("seed-1"), calls("seed-2")] == [6, 4, 0]
        assert calls("seed-0", entry="other") == 6
        assert calls("seed-0", path="members.1") == 6
        assert calls("seed-1", fresh=True) == 4  # what seed 0 has left of 10
        assert calls("seed-0", fresh=True, count=9) == 6

    def test_those_that_share_an_account_share_it(self, tmp_path):
        def calls(path, account):
            transport = ScriptedTransport()
            run = {"store": tmp_path, "entry": "e", "run": "r", "path": path, "account": account}
            opened = open_path(transport, options(max_calls=10), **run)
            opened.ask([f"{path} {number}" for number in range(7)])
            opened.close(True)
            return len(transport.requests)

        paths = ("members.0", "a"), ("members.1", "a"), ("members.2", "b")
        assert [calls(*path) for path in paths] == [7, 3, 7]

    def test_repeats_of_a_member_share_it_and_members_do_not(self, tmp_path, monkeypatch):
        transports = []

        class Asked:
            def open(self, session):
                transports.append(ScriptedTransport())
                path = CallPath(
                    options(max_calls=10, concurrency=1),
                    TinyPrompt(),
                    transports[-1],
                    session,
                    redact=redactor(),
                )
                path.ask([f"{session.path} {number}" for number in range(10)])
                return path

        monkeypatch.setattr(ensemble, "made", lambda *_: Asked())
        monkeypatch.setattr(ensemble, "begun", lambda critic, session: critic.open(session))
        critic = ensemble.EnsembleCritic(members=("a", "b"), repeats=2)
        for seed, expected in enumerate([[10, 0, 10, 0], [0, 0, 0, 0]]):
            transports.clear()
            run = session(store=tmp_path, entry="e", run=f"{seed}", seed=seed)
            critic.open(run).close(True)
            assert [len(transport.requests) for transport in transports] == expected

    def test_a_session_inside_keeps_the_account(self):
        inside = session(account="members.0", path="members.1").child("teacher")
        assert (inside.path, inside.account) == ("members.1.teacher", "members.0.teacher")
        assert session().child("teacher").account == ""

    def test_runs_without_an_entry_share_nothing(self, tmp_path):
        for number in range(2):
            path = open_path(ScriptedTransport(), options(max_calls=2), store=tmp_path)
            assert answered(path.ask([f"{number} {k}" for k in range(3)])) == 2
            path.close(True)

    def test_processes_share_it(self, tmp_path):
        children = [
            subprocess.Popen(
                [sys.executable, "spender.py", tmp_path, f"seed-{number}", "20", "50", "0"],
                cwd=Path(__file__).parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(3)
        ]
        for child in children:
            _, errors = child.communicate(timeout=120)
            assert (child.returncode, errors) == (0, "")
        requests = [
            line for file in tmp_path.glob("*.requests") for line in file.read_text().splitlines()
        ]
        assert len(requests) == 50


class TestTokens:
    MOST = 500  # a little above what one request may take with 160 tokens of reply

    def test_requests_wait_for_what_others_reserved_and_do_not_need(self):
        transport = ScriptedTransport()
        path = open_path(transport, options(max_tokens=1000, concurrency=8))
        outcomes = path.ask(QUESTIONS)
        path.close(True)
        usage = path.usage_part()
        used = usage.prompt_tokens + usage.completion_tokens
        assert used == 25 * len(transport.requests) <= 1000
        assert used > 1000 - self.MOST - 25
        assert 0 < answered(outcomes) < 40
        assert usage.capped.startswith("max_tokens 1,000 of all runs of this entry")

    def test_what_the_server_does_not_report_counts_at_its_most(self):
        script = [reply(ROW, prompt_tokens=None, completion_tokens=None)] * 40
        path = open_path(ScriptedTransport(script), options(max_tokens=1000))
        outcomes = path.ask(QUESTIONS)
        path.close(True)
        usage = path.usage_part()
        assert usage.completion_tokens == 160 * answered(outcomes)
        assert usage.assumed == usage.calls
        assert 500 < usage.prompt_tokens + usage.completion_tokens <= 1000

    @given(
        prompt=st.one_of(
            st.integers(), st.floats(), st.none(), st.booleans(), st.just(10**400), st.text()
        ),
        dollars=st.one_of(st.floats(), st.none(), st.integers(), st.text()),
        prices=st.sampled_from([None, Prices(1e-6, 2e-6)]),
    )
    def test_insane_reports_are_not_believed(self, prompt, dollars, prices):
        request = Request(({"role": "user", "content": "x"},), {}, 10)
        most = costs.bound(request, prices)
        said = reply(ROW, prompt_tokens=prompt, completion_tokens=prompt, dollars=dollars)
        usage = costs.actual(said, most, prices, stated=False)
        assert 0 <= usage.cost.tokens <= 200 * most.cost.tokens
        assert 0 <= usage.cost.nanodollars <= max(1000 * costs.NANO, 200 * most.cost.nanodollars)
        assert all(type(count) is int for count in usage.cost)

    def test_more_than_the_most_ends_the_calls(self):
        script = [None, reply(ROW, completion_tokens=10_000)]
        path = open_path(ScriptedTransport(script), options(max_tokens=10**6, concurrency=1))
        outcomes = path.ask(QUESTIONS)
        path.close(True)
        assert answered(outcomes) == 2
        assert "10,020 tokens" in path.usage_part().capped
        assert path.usage_part().completion_tokens == 10_005

    def test_without_a_limit_it_is_only_counted(self):
        path = open_path(ScriptedTransport([reply(ROW, completion_tokens=10_000)]), options())
        assert answered(path.ask(QUESTIONS)) == 40
        path.close(True)
        assert path.usage_part().completion_tokens == 10_000 + 39 * 5

    @pytest.mark.parametrize(("charged", "tokens"), [(False, 0), (True, 160)])
    def test_a_failure_is_refunded_only_if_nobody_answered(self, charged, tokens):
        script = [TransportError("timeout", "", charged=charged)]
        path = open_path(ScriptedTransport(script), options(max_calls=1))
        path.ask(["a"])
        path.close(True)
        usage = path.usage_part()
        assert (usage.calls, usage.completion_tokens) == (1, tokens)
        assert usage.assumed == charged

    def test_no_tokenizer_makes_more_tokens_than_bytes(self):
        request = Request(({"role": "user", "content": "é\ud800"},), {"a": 1}, 7)
        most = costs.bound(request, None)
        assert most.prompt_tokens >= len("user") + 3 + 64 + len('{"a":1}')
        assert most.completion_tokens == 7


class TestAttempts:
    def test_the_usage_counts_what_a_run_that_is_resumed_had_spent(self, tmp_path):
        def ask(text, script=(), **run):
            path = open_path(
                ScriptedTransport([*script]),
                options(price_in=1.0, price_out=1.0),
                **({"store": tmp_path, "entry": "e", "run": "r"} | run),
            )
            path.ask([text])
            path.close(True)
            usage = path.usage_part()
            tokens = usage.prompt_tokens, usage.completion_tokens
            return usage.calls, *tokens, usage.assumed, usage.seconds, usage.dollars

        ask("other", run="other")
        ask("a", [reply(ROW, completion_tokens=None)])
        calls, sent, received, assumed, seconds, dollars = ask("b", cumulative=True)
        assert (calls, sent, received, assumed, seconds) == (2, 40, 165, 1, 2.0)
        assert dollars == pytest.approx(205e-6)
        assert ask("b")[:5] == (0, 0, 0, 0, 0.0)
        assert ask("b", cumulative=True, fresh=True)[:5] == (0, 0, 0, 0, 0.0)

    def test_the_closing_line_tells_how_much_is_estimated(self):
        usages = [CriticUsage(calls=3, assumed=1), CriticUsage(calls=2, assumed=1)]
        assert summed(usages).assumed == 2
        assert "(of which 2 requests estimated)" in critic_line(usages)[0]
        assert "estimated" not in critic_line([CriticUsage(calls=3)])[0]


class TestDollars:
    def test_unknown_prices_are_refused_before_anything_is_sent(self):
        with pytest.raises(PeerWattError, match=r"^critic\.max_dollars .*price-in"):
            open_path(ScriptedTransport(), options(max_dollars=1.0))

    @pytest.mark.parametrize("prices", [(math.nan, 1e-6), (-1e-6, 1e-6), (1.0, 1.0)])
    def test_so_are_prices_that_make_no_sense(self, prices):
        transport = ScriptedTransport(known_prices=Prices(*prices))
        with pytest.raises(PeerWattError, match="max_dollars"):
            open_path(transport, options(max_dollars=1.0))

    @pytest.mark.parametrize("stated", [True, False])
    def test_they_are_never_exceeded(self, stated):
        prices = {"price_in": 10.0, "price_out": 20.0} if stated else {}
        transport = ScriptedTransport(known_prices=None if stated else Prices(10e-6, 20e-6))
        path = open_path(transport, options(max_dollars=0.01, **prices))
        path.ask(QUESTIONS)
        path.close(True)
        usage = path.usage_part()
        each = 20 * 10e-6 + 5 * 20e-6
        assert usage.dollars == pytest.approx(each * usage.calls)
        assert 0.004 < usage.dollars <= 0.01
        assert usage.capped.startswith("max_dollars 0.01 of all runs of this entry")

    def test_unknown_is_not_nothing(self):
        path = open_path(ScriptedTransport())
        path.ask(["a"])
        path.close(True)
        assert path.usage_part().dollars is None

    def test_one_unknown_price_makes_the_sum_unknown(self):
        path = open_path(ScriptedTransport([reply(ROW, dollars=0.5)]))
        path.ask(["a"])
        assert path.usage_part().dollars == 0.5
        path.ask(["b"])
        path.close(True)
        assert path.usage_part().dollars is None

    def test_what_the_client_says_counts_unless_prices_are_stated(self):
        request = Request(({"role": "user", "content": "x"},), {}, 10)
        prices = Prices(1e-6, 1e-6)
        most = costs.bound(request, prices)
        said = reply(ROW, dollars=5e-6)
        assert costs.actual(said, most, prices, stated=False).nanodollars == 5_000
        assert costs.actual(said, most, prices, stated=True).nanodollars == 25_000


class TestSeconds:
    def test_the_run_waits_no_longer(self):
        transport = ScriptedTransport(takes=10.0)
        path = open_path(transport, options(max_seconds=25.0, concurrency=4))
        outcomes = path.ask(QUESTIONS)
        again = path.ask(["another"])
        path.close(True)
        usage = path.usage_part()
        assert answered(outcomes) == 8
        assert {outcome.reason for outcome in [*outcomes[8:], *again]} == {"capped"}
        assert usage.seconds == 25.0
        assert usage.calls == len(transport.requests) == 12
        assert usage.capped.startswith("max_seconds 25 reached")
        assert usage.completion_tokens == 8 * 5 + 4 * 160  # who knows what the last four cost

    def test_waiting_adds_up_over_questions(self):
        path = open_path(ScriptedTransport(takes=10.0), options(max_seconds=25.0))
        outcomes = [path.ask([text])[0] for text in QUESTIONS[:4]]
        path.close(True)
        assert [outcome.reason for outcome in outcomes] == ["", "", "capped", "capped"]

    def test_it_adds_up_over_restarts(self, tmp_path):
        def ask(text, run):
            path = open_path(
                ScriptedTransport(takes=20.0),
                options(max_seconds=25.0),
                store=tmp_path,
                entry="entry",
                run=run,
            )
            (outcome,) = path.ask([text])
            path.close(True)
            return outcome.reason

        assert [ask("a", "0"), ask("b", "0"), ask("c", "0"), ask("d", "1")] == [
            "",
            "capped",
            "capped",
            "",
        ]

    def test_a_server_that_wants_hours_does_not_get_them(self):
        script = [TransportError("http-429", "", retry=True, retry_after=1e9)] * 99
        path = open_path(ScriptedTransport(script), options(max_seconds=60.0))
        path.ask(QUESTIONS)
        path.close(True)
        assert path.usage_part().seconds == 60.0

    def test_a_model_that_hangs_does_not_matter(self):
        async def hang(request):
            await asyncio.Event().wait()

        path = open_path(ScriptedTransport([hang] * 40), options(max_seconds=5.0))
        assert answered(path.ask(QUESTIONS)) == 0
        path.close(True)


class TestLedger:
    @given(
        limit=st.integers(0, 60),
        steps=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30),
    )
    def test_reserved_and_settled_it_stays_within_its_limit(self, limit, steps):
        database = Database(None)
        ledger = Ledger(database, Limits(tokens=limit), entry="e", critic="", run="r", fresh=False)
        spent = Cost()
        for most, less in steps:
            reserved = Cost(1, most, 0)
            if ledger.reserve(reserved) is None:
                used = Cost(1, min(most, less), 0)
                ledger.settle(reserved, used)
                spent = Cost(*map(sum, zip(spent, used, strict=True)))
            else:
                assert spent.tokens + most > limit
        assert ledger.spent() == spent
        assert spent.tokens <= limit
        database.close()
