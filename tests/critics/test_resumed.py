"""Critics that are interrupted at any call and restored go on as if nothing had happened."""

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from fake_server import FakeServer, answered, error, hang, replies, says, wrong_keys
from hypothesis import given, settings
from hypothesis import strategies as st
from played import played
from scripted_model import ScriptedTransport, TinyPrompt, VirtualTime, truth

from peerwatt.errors import PeerWattError
from peerwatt.fairness import SlotBatch, feasible
from peerwatt.fairness.session import CriticSession, opened, savable
from peerwatt.fairness.transcript import TRANSCRIPT_FILE, Recording, Transcript
from peerwatt.plugins.texts import from_text
from peerwatt.runs.checkpoint import pack, unpack
from peerwatt_critics import school
from peerwatt_critics.calls import background
from peerwatt_critics.calls.exchange import TransportError
from peerwatt_critics.calls.opened import AskedCritic
from peerwatt_critics.calls.options import CallOptions

HEAD = {"critic": {"name": "x"}, "seed": 1}


@cache
def daylight(calls, communities=4):
    """What a critic is shown in so many calls, in each of which some trade was feasible."""
    batches = played(5 * calls, communities)
    return [slots for slots in batches if (feasible(slots) > 0).any()][:calls]


TIMES = {"seconds": 0.0, "latencies": (), "capped": None, "transcript": None}


def run_session(folder, going_on=False, **changes):
    """The session of a run in `folder`, always the same one."""
    transcript = Transcript(folder / TRANSCRIPT_FILE, HEAD, going_on=going_on)
    fields = {"run": "r", "entry": "e", "cumulative": True, "store": folder}
    return CriticSession(
        np.random.default_rng(3),
        seed=1,
        transcript=transcript,
        tail=transcript.tail,
        expected_slots=2000,
        **fields | changes,
    )


@contextlib.contextmanager
def at_work(critic, folder, going_on=False, **changes):
    session = run_session(folder, going_on, **changes)
    with contextlib.closing(session.transcript), opened(critic, session) as work:
        yield work


def scored(work, batches):
    return [np.array(work.score(slots)) for slots in batches]


def answers(folder):
    """What the transcript says became of the questions, by critic."""
    file = folder / TRANSCRIPT_FILE
    lines = map(json.loads, file.read_text().splitlines() if file.exists() else [])
    found = {}
    for line in lines:
        if line["kind"] == "answer":
            line.pop("after", None)  # times, and what follows from the scores
            found.setdefault(line["path"], []).append(line)
    return found


def timeless(usage):
    return dataclasses.replace(usage, **TIMES)


def saved(work):
    """The state of `work` as a checkpoint brings it back."""
    assert savable(work)
    return unpack(pack(work.state()))


def same(one, other):
    return all(np.array_equal(*pair, equal_nan=True) for pair in zip(one, other, strict=True))


def uninterrupted(critic, batches, folder, **changes):
    """Scores, usage and answers of a run that nobody saves or interrupts."""
    folder.mkdir()
    with at_work(critic, folder, **changes) as work:
        scores = scored(work, batches)
    return scores, timeless(work.usage()), answers(folder)


def interrupted(critic, batches, folder, cut, killed, torn=0, settled=True, **changes):
    """The same of one that is saved after `cut` calls, killed after `killed`, and goes on.

    Unless `settled`, what a thread is at is given up in the middle.
    """
    folder.mkdir()
    with contextlib.suppress(RuntimeError), at_work(critic, folder, **changes) as work:
        scores = scored(work, batches[:cut])
        state = saved(work)
        file = folder / TRANSCRIPT_FILE
        length = file.stat().st_size if file.exists() else 0
        scored(work, batches[cut:killed])
        if settled:
            work.state()
        raise RuntimeError("killed")
    if torn and file.exists():
        whole = file.read_bytes()
        file.write_bytes(whole[: max(length, len(whole) - torn)])
    with at_work(critic, folder, going_on=True, **changes) as work:
        work.restore(state)
        scores += scored(work, batches[cut:])
    return scores, timeless(work.usage()), answers(folder)


def assert_equal(once, again):
    assert same(once[0], again[0])
    assert once[1:] == again[1:]


class TestWithoutAModel:
    @pytest.mark.parametrize(
        "text",
        ["random", "random:levels=6", 'ensemble:{"members": ["rule", "random"], "repeats": 2}'],
    )
    def test_they_go_on(self, text, tmp_path):
        _, critic = from_text("critic", text)
        batches = daylight(12)
        once = uninterrupted(critic, batches, tmp_path / "once")
        for cut in range(13):
            again = interrupted(critic, batches, tmp_path / str(cut), cut, min(12, cut + 2))
            assert_equal(once, again)

    def test_a_critic_without_memory_has_nothing_to_save(self, tmp_path):
        _, critic = from_text("critic", "rule")
        with at_work(critic, tmp_path) as work:
            assert saved(work) == {}
            work.restore({})

    @pytest.mark.parametrize("text", ["ensemble:members=noisy", "distilled:teacher=noisy"])
    def test_who_is_made_of_one_that_cannot_be_saved_cannot_either(self, text, teachers, tmp_path):
        _, critic = from_text("critic", text)
        with at_work(critic, tmp_path) as work:
            assert not savable(work)


DISTILLED = {
    **{"ready": 12, "ask_share": 0.4, "work_share": 0.3, "held_out": 0.15},
    **{"join_every": 5, "error_bound": 0.01},
}


@pytest.fixture
def quick(monkeypatch):
    """Short lessons, and conclusions from few held-out slots."""
    monkeypatch.setattr(school, "FIRST_STEPS", 30)
    monkeypatch.setattr(school, "LEAST", 8)
    monkeypatch.setattr(school, "FEW_RESAMPLES", 20)


@pytest.mark.usefixtures("quick")
class TestDistilled:
    CALLS = 27

    def critic(self, **options):
        return from_text("critic", "distilled:" + json.dumps(DISTILLED | options))[1]

    @pytest.mark.parametrize("teacher", ["rule", "random"])
    def test_it_goes_on_from_every_call(self, teacher, tmp_path):
        critic, batches = self.critic(teacher=teacher), daylight(self.CALLS, communities=16)
        once = uninterrupted(critic, batches, tmp_path / "once")
        assert once[1].student > 100
        assert once[1].held_out.slots > 20
        with at_work(critic, tmp_path) as work:
            states = [(saved(work), np.array(work.score(slots))) for slots in batches]
            states.append((saved(work), None))
        assert same([scores for _, scores in states[:-1]], once[0])  # saving changes nothing
        for cut, (state, _) in enumerate(states):
            with at_work(critic, tmp_path) as work:
                work.restore(state)
                assert same(scored(work, batches[cut:]), once[0][cut:])
            assert timeless(work.usage()) == once[1]

    def test_what_its_teacher_cannot_do_is_told_when_it_is_saved(self, teachers, tmp_path):
        critic, batches = self.critic(teacher="failing"), daylight(self.CALLS, communities=16)
        with (
            pytest.raises(PeerWattError, match="it cannot go on"),
            at_work(critic, tmp_path) as work,
        ):
            scored(work, batches[:5])
            work.state()

    @pytest.mark.parametrize("settled", [True, False])
    def test_its_teachers_answers_come_again_from_the_transcript(self, settled, tmp_path):
        batches = daylight(self.CALLS, communities=16)
        with FakeServer(lambda number: by_content) as server:
            teacher = "openai-http:" + json.dumps(asked(server))
            critic = self.critic(teacher=teacher, ready=5, join_every=3)
            once = uninterrupted(critic, batches, tmp_path / "once")
            calls = len(server.seen)
            assert calls == once[1].calls > 20
            assert once[1].student > 30
            for cut, killed in ((2, 4), (3, 10), (8, 21), (26, 27)):
                place = tmp_path / str(cut)
                again = interrupted(critic, batches, place, cut, killed, settled=settled)
                if settled:
                    assert_equal(once, again)
                    assert len(server.seen) == 2 * calls
                    del server.seen[calls:]
                assert same(once[0], again[0])
                for name in ("student", "undefined", "abstained", "held_out"):
                    assert getattr(once[1], name) == getattr(again[1], name)


def by_content(exchange):
    """Fail or not by what is asked, the same for whoever asks it."""
    text = exchange.seen.messages[-1]["content"].partition("\n\n")[0]
    first, *_ = hashlib.sha256(text.encode()).digest()
    repaired = "\n\n" in exchange.seen.messages[-1]["content"]
    fault = {
        0: error(500, "no"),
        1: says(lambda _: "no JSON"),
        2: replies(finish="length"),
        3: replies(refusal="I will not"),
    }.get(first % 10)
    if first % 10 == 4 and not repaired:
        fault = says(wrong_keys)
    (fault or answered)(exchange)


def asked(server, **options):
    return {"model": "fake", "api_base": server.url, "retries": 0, "timeout": 20.0, **options}


class TestAskedOverHttp:
    CALLS = 14

    def both(self, server, folder, cuts, torn=0, member=None, **options):
        """Compare runs with each of the `cuts` with one that has none; return that one's usage."""
        text = f"openai-http:{json.dumps(asked(server, **options))}"
        if member is not None:
            text = "ensemble:" + json.dumps({"members": [text, member], "repeats": 2})
        _, critic = from_text("critic", text)
        batches = daylight(self.CALLS)
        once = uninterrupted(critic, batches, folder / "once")
        calls = len(server.seen)
        for cut, killed in cuts:
            place = folder / f"{cut}-{killed}"
            again = interrupted(critic, batches, place, cut, killed, torn)
            assert_equal(once, again)
            assert len(server.seen) == 2 * calls
            del server.seen[calls:]
        return once[1]

    @pytest.mark.parametrize("cache", ["", "none"])
    def test_failures_in_the_tail_are_given_again(self, cache, tmp_path):
        with FakeServer(lambda number: by_content) as server:
            cuts = [(0, 2), (5, 9)]
            usage = self.both(server, tmp_path, cuts, cache=cache, every=2, share=0.8)
        assert usage.skipped and usage.scored and usage.repaired
        assert set(usage.failed) == {"http-500"}
        assert set(usage.abstained) == {"http-500", "not-json", "truncated", "refused"}

    @pytest.mark.parametrize("cache", ["", "none"])
    @pytest.mark.parametrize("cap", ["max_calls", "max_tokens", "give_up_after"])
    def test_a_limit_holds_over_the_interruption(self, cap, cache, tmp_path):
        most = {"max_calls": 17, "max_tokens": 60_000, "give_up_after": 3}[cap]
        with FakeServer(lambda number: by_content) as server:
            cuts = [(1, 5), (2, 12)]
            usage = self.both(
                server, tmp_path, cuts, cache=cache, concurrency=1, fallback="rule", **{cap: most}
            )
        assert usage.scored > 0
        assert usage.fallback > 10
        assert cap != "max_calls" or usage.calls == most

    def test_members_of_an_ensemble_go_on_by_themselves(self, tmp_path):
        with FakeServer(lambda number: by_content) as server:
            cuts = [(2, 4), (6, 6)]
            usage = self.both(server, tmp_path, cuts, member="random", share=0.5)
        assert usage.calls > 10

    def test_timeouts_are_not_waited_for_again(self, tmp_path):
        seen = []

        def late(exchange):
            seen.append(exchange.seen.body)
            (hang if len(seen) == 2 else answered)(exchange)

        batches = daylight(4)
        with FakeServer(lambda number: late) as server:
            options = asked(server, timeout=0.3, concurrency=1)
            _, critic = from_text("critic", f"openai-http:{json.dumps(options)}")
            _, usage, _ = interrupted(critic, batches, tmp_path / "run", 1, 4)
        assert usage.failed == {"timeout": 1}
        assert usage.abstained == {"timeout": 1}
        assert len(seen) == len(set(seen)) == usage.calls

    def test_a_server_that_is_gone_is_told_at_once(self, tmp_path):
        batches = daylight(8)
        with FakeServer() as server:
            _, critic = from_text("critic", f"openai-http:{json.dumps(asked(server))}")
            with at_work(critic, tmp_path) as work:
                scored(work, batches[:4])
                state = saved(work)
        says = "is the server running"
        with (
            pytest.raises(PeerWattError, match=says),
            at_work(critic, tmp_path, going_on=True) as work,
        ):
            work.restore(state)
            scored(work, batches[4:])

    def test_a_run_that_goes_on_otherwise_than_before_is_refused(self, tmp_path):
        batches = daylight(8)
        with FakeServer() as server:
            _, critic = from_text("critic", f"openai-http:{json.dumps(asked(server))}")
            with at_work(critic, tmp_path) as work:
                scored(work, batches[:2])
                state = saved(work)
                scored(work, batches[2:4])
            with (
                pytest.raises(PeerWattError, match="is not the recorded one"),
                at_work(critic, tmp_path, going_on=True) as work,
            ):
                work.restore(state)
                scored(work, batches[5:])

    def test_a_transcript_that_ends_before_the_checkpoint_is_refused(self, tmp_path):
        batches = daylight(4)
        with FakeServer() as server:
            _, critic = from_text("critic", f"openai-http:{json.dumps(asked(server))}")
            with at_work(critic, tmp_path) as work:
                scored(work, batches)
                state = saved(work)
        file = tmp_path / TRANSCRIPT_FILE
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:5]))
        with (
            pytest.raises(PeerWattError, match=r"fewer than the \d+ that the checkpoint tells of"),
            at_work(critic, tmp_path, going_on=True) as work,
        ):
            work.restore(state)

    def test_a_run_that_went_on_can_be_replayed_and_its_messages_read(self, tmp_path):
        batches = daylight(self.CALLS)
        with FakeServer(lambda number: by_content) as server:
            options = asked(server)
            _, critic = from_text("critic", f"openai-http:{json.dumps(options)}")
            scores, *_ = interrupted(critic, batches, tmp_path / "run", 3, 7, torn=70)
            sent = [seen.messages for seen in server.seen]
        recording = Recording(tmp_path / "run" / TRANSCRIPT_FILE)
        with opened(critic, CriticSession(np.random.default_rng(3), recording=recording)) as work:
            assert same(scored(work, batches), scores)
        assert recording.left() == 0
        lines = (tmp_path / "run" / TRANSCRIPT_FILE).read_text().splitlines()
        exchanges = [line for line in map(json.loads, lines) if line["kind"] == "exchange"]
        head = exchanges[0]["messages"]
        written = [head[: line["same"]] + line["messages"] for line in exchanges]
        assert sorted(map(str, written)) == sorted(map(str, sent))

    def test_a_replay_goes_on(self, tmp_path):
        batches = daylight(self.CALLS)
        with FakeServer(lambda number: by_content) as server:
            options = asked(server, share=0.7)
            _, critic = from_text("critic", f"openai-http:{json.dumps(options)}")
            head = {"critic": {"name": "openai-http", "options": options}, "seed": 1}
            transcript = Transcript(tmp_path / "made.jsonl", head)
            session = dataclasses.replace(run_session(tmp_path), transcript=transcript, tail=None)
            with contextlib.closing(transcript), opened(critic, session) as work:
                scores = scored(work, batches)
        _, replay = from_text("critic", f"replay:transcript={tmp_path / 'made.jsonl'}")
        expected = uninterrupted(replay, batches, tmp_path / "once")
        assert same(expected[0], scores)
        for cut in (0, 5, 14):
            again = interrupted(replay, batches, tmp_path / str(cut), cut, min(cut + 3, 14))
            assert_equal(expected, again)


def scripted(request):
    """Reply, or fail, by what is asked."""
    asked = json.loads(request.messages[-1]["content"])
    kind = hashlib.sha256(f"{asked}".encode()).digest()[0] % 6
    if kind == 0:
        return TransportError("http-500", "it broke", retry=False)
    if kind == 1:
        return "no JSON"
    if kind == 2 and len(request.messages) == 2:
        return "[]"
    return json.dumps([truth(question) for question in asked])


def tiny(volumes):
    """Slots whose questions are their volumes; below 0 no trade is feasible."""
    volume = np.array(volumes, float)
    surplus = np.where(volume[:, None] < 0, 0.0, np.array([1.0, 1.0, 0.0]))
    deficit = np.zeros_like(surplus)
    deficit[:, 2] = 1.0
    household = (surplus, deficit, surplus, deficit, *(np.zeros_like(surplus),) * 4)
    prices = (np.full(len(volume), price) for price in (0.1, 0.3, 0.2))
    rest = (np.abs(volume), np.full(len(volume), 0.2), np.zeros(len(volume)))
    return SlotBatch(*prices, *household, *rest)


class TestAsked:
    @pytest.fixture(autouse=True)
    def no_waiting(self, monkeypatch):
        monkeypatch.setattr(background, "new_loop", VirtualTime)
        monkeypatch.setattr("peerwatt_critics.calls.opened.load_prompt", lambda _: TinyPrompt())

    BATCHES = st.lists(
        st.lists(st.sampled_from([-1.0, *(n / 20 for n in range(16))]), min_size=1, max_size=6),
        min_size=1,
        max_size=6,
    )
    COMMON = st.fixed_dictionaries(
        {
            "every": st.integers(1, 2),
            "share": st.sampled_from([0.7, 1.0]),
            "fallback": st.sampled_from(["abstain", "rule"]),
            "cache": st.sampled_from(["", "none"]),
            "concurrency": st.sampled_from([1, 8]),
            "retries": st.just(0),
        }
    )
    LIMITS = st.fixed_dictionaries(
        {
            "slots_per_call": st.integers(1, 3),
            "max_calls": st.none() | st.integers(0, 12),
            "max_tokens": st.none() | st.integers(500, 5000),
            "max_seconds": st.none() | st.integers(1, 12),
            "give_up_after": st.integers(1, 6),
        }
    )

    def compare(self, fields, batches, cut, killed, torn):
        options = CallOptions(model="scripted", **fields)

        class Scripted:
            def open(self, session):
                transport = ScriptedTransport([scripted] * 1000)
                return AskedCritic(options, lambda redact: transport, session)

        batches = [tiny(volumes) for volumes in batches]
        with tempfile.TemporaryDirectory() as folder:
            once = uninterrupted(Scripted(), batches, Path(folder) / "once")
            again = interrupted(Scripted(), batches, Path(folder) / "again", cut, killed, torn)
        assert same(once[0], again[0])
        return once[1:], again[1:]

    @settings(max_examples=35, deadline=None)
    @given(batches=BATCHES, fields=COMMON, limits=LIMITS, data=st.data())
    def test_killed_between_calls(self, batches, fields, limits, data):
        cut = data.draw(st.integers(0, len(batches)))
        killed = data.draw(st.integers(cut, len(batches)))
        once, again = self.compare(fields | limits, batches, cut, killed, 0)
        assert once == again

    @settings(max_examples=25, deadline=None)
    @given(batches=BATCHES, fields=COMMON, torn=st.integers(1, 3000), data=st.data())
    def test_killed_in_the_middle_of_a_line(self, batches, fields, torn, data):
        cut = data.draw(st.integers(0, len(batches)))
        killed = data.draw(st.integers(cut, len(batches)))
        (usage, once), (later, again) = self.compare(fields, batches, cut, killed, torn)
        for line in once.get("", []) + again.get("", []):
            line["source"] = line["source"] and "any"  # it may have come into the cache
        assert once == again
        for name in ("slots", "undefined", "skipped", "scored", "fallback", "abstained"):
            assert getattr(usage, name) == getattr(later, name)
