"""What is paid for is kept: by questions, by requests, over kills, and in transcripts."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

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
from test_calls import failure, slots

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import Presentation
from peerwatt.fairness.transcript import Recording, Transcript
from peerwatt_critics.calls import background
from peerwatt_critics.calls import opened as opened_critic
from peerwatt_critics.calls.cache import AnswerCache
from peerwatt_critics.calls.database import Database
from peerwatt_critics.calls.ledger import Ledger, Limits
from peerwatt_critics.calls.opened import AskedCritic
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.recorded import RecordedPath

QUESTIONS = [f"slot {number}" for number in range(10)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(background, "new_loop", VirtualTime)
    monkeypatch.setattr(opened_critic, "load_prompt", lambda name: TinyPrompt())


def calls(store, texts=QUESTIONS, script=(), fields=None, transport=None, prompt=None, **run):
    """Ask in a run of its own and return the outcomes and how many calls that took."""
    transport = transport or ScriptedTransport(list(script))
    options = CallOptions(**{"model": "scripted", **(fields or {})})
    path = open_path(transport, options, store=store, **run)
    try:
        outcomes = path.ask(texts)
    finally:
        path.close(True)
    return outcomes, len(transport.requests)


class TestAnswers:
    def test_an_answer_is_paid_for_once(self, tmp_path):
        first, paid = calls(tmp_path)
        second, again = calls(tmp_path)
        assert (paid, again) == (10, 0)
        assert first == second

    def test_hits_are_counted(self, tmp_path):
        calls(tmp_path, QUESTIONS[:4])
        path = open_path(ScriptedTransport(), store=tmp_path)
        path.ask(QUESTIONS)
        path.ask(QUESTIONS)
        path.close(True)
        usage = path.usage_part()
        assert (usage.cache_hits, usage.calls) == (14, 6)

    @pytest.mark.parametrize(
        "change",
        [
            {"fields": {"temperature": 0.5}},
            {"fields": {"temperature": None}},
            {"fields": {"model_seed": 1}},
            {"fields": {"reply_tokens": 100}},
            {"fields": {"rationale": True}},
            {"fields": {"slots_per_call": 2}},
            {"fields": {"response_format": "none"}},
            {"repeat": 1},
            {"presentation": Presentation(order=1)},
            {"presentation": Presentation(note="x")},
            {"transport": ScriptedTransport(identity={"api_base": "other"})},
        ],
    )
    def test_it_answers_nothing_else(self, tmp_path, change):
        calls(tmp_path, QUESTIONS[:2])
        assert calls(tmp_path, QUESTIONS[:2], **change)[1] > 0

    @pytest.mark.parametrize(
        "same", [{"concurrency": 1}, {"timeout": 5.0}, {"retries": 0}, {"max_calls": 0}]
    )
    def test_what_changes_no_answer_does_not_matter(self, tmp_path, same):
        calls(tmp_path)
        assert calls(tmp_path, fields=same)[1] == 0

    def test_it_may_be_kept_elsewhere_or_not_at_all(self, tmp_path):
        elsewhere = {"cache": str(tmp_path / "mine" / "cache.sqlite")}
        assert [calls(None, fields=elsewhere)[1] for _ in range(2)] == [10, 0]
        assert [calls(tmp_path, fields={"cache": "none"})[1] for _ in range(2)] == [10, 10]
        assert [calls(None)[1] for _ in range(2)] == [10, 10]
        assert not list(tmp_path.glob("*.sqlite"))

    @given(st.tuples(*[st.floats(0, 1)] * 4))
    def test_scores_come_back_to_the_last_bit(self, scores):
        database = Database(None)
        cache = AnswerCache(database)
        cache.keep_answers({"a": scores})
        cache.keep_answers({"a": (0.0, 0.0, 0.0, 0.0)})
        (kept,) = cache.answers(["a", "b"]).values()
        assert np.array(kept).tobytes() == np.array(scores).tobytes()
        database.close()

    def test_thousands_are_found_at_once(self):
        database = Database(None)
        cache = AnswerCache(database)
        answers = {str(number): (0.0, 0.0, 0.0, number / 5000) for number in range(5000)}
        cache.keep_answers(answers)
        assert cache.answers([*answers, "other"]) == answers
        database.close()


class TestReplies:
    def test_an_invalid_reply_is_paid_for_once(self, tmp_path):
        first, paid = calls(tmp_path, ["a"], ["no", "[]"])
        second, again = calls(tmp_path, ["a"])
        assert (paid, again) == (2, 0)
        assert first == second == [(None, "count")]

    def test_a_repair_is_paid_for_once(self, tmp_path):
        calls(tmp_path, ["a"], ["no", failure(retry=False)])
        second, again = calls(tmp_path, ["a"])
        assert second[0].scores == truth("a")
        assert again == 1

    def test_failures_are_not_kept(self, tmp_path):
        first, _ = calls(tmp_path, ["a"], [failure(retry=False)])
        second, again = calls(tmp_path, ["a"])
        assert first[0].scores is None
        assert second[0].scores == truth("a")
        assert again == 1

    def test_half_a_surrogate_pair_is_kept_like_any_text(self, tmp_path):
        script = [reply("\ud800", model="\udfff"), "\x00"]
        first, paid = calls(tmp_path, ["a"], script)
        assert (paid, first[0].reason) == (2, "not-json")
        assert calls(tmp_path, ["a"]) == (first, 0)


class TestFile:
    @pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00 broken"])
    def test_another_file_is_refused_and_left_alone(self, tmp_path, content):
        file = tmp_path / "cache.sqlite"
        file.write_bytes(content)
        with pytest.raises(PeerWattError, match=r"^critic\.cache .*cache\.sqlite: .*another file"):
            Database(file)
        assert file.read_bytes() == content

    def test_another_database_is_refused(self, tmp_path):
        file = tmp_path / "cache.sqlite"
        other = sqlite3.connect(file)
        other.execute("CREATE TABLE letters (text)")
        other.close()
        with pytest.raises(PeerWattError, match="no cache of this version"):
            Database(file)

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(PeerWattError, match=r"^critic\.cache .*cannot be used"):
            Database(tmp_path / "file" / "cache.sqlite")

    def test_a_full_disk_is_told_in_a_sentence(self, tmp_path):
        path = open_path(ScriptedTransport(), store=tmp_path)
        with path._databases[0].reading() as connection:
            connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(PeerWattError, match=r"^critic\.cache .*full"):
            for number in range(1000):
                path.ask([f"{number} {k}" for k in range(50)])
        path.close(False)

    def test_processes_may_make_it_together(self, tmp_path):
        code = (
            "import sys; from pathlib import Path; "
            "from peerwatt_critics.calls.database import Database; "
            "input(); [Database(Path(sys.argv[1]) / f'{k}.sqlite').close() for k in range(30)]"
        )
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code, tmp_path],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        for child in children:
            _, errors = child.communicate(timeout=60)
            assert (child.returncode, errors) == (0, "")

    def test_threads_may_share_it(self):
        database = Database(None)
        ledger = Ledger(database, Limits(), entry="e", critic="", run="r", fresh=False)
        threads = [
            threading.Thread(target=lambda: [ledger.add_waiting(1.0) for _ in range(100)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.waited() == 400.0
        database.close()


def planted(folder, table, column, content):
    """Have one row of the cache hold `content`."""
    calls(folder, ["a"])
    file = sqlite3.connect(folder / "critic-cache.sqlite")
    file.execute(f"UPDATE {table} SET {column} = ?", (content,))
    if table == "replies":
        file.execute("DELETE FROM answers")
    file.commit()
    file.close()
    with pytest.raises(PeerWattError, match=r"^critic\.cache .*\.sqlite: holds .*delete") as caught:
        calls(folder, ["a"])
    assert len(str(caught.value)) < 400


class TestRows:
    @pytest.mark.parametrize(
        "content",
        [
            *("[1, 1, 1, 2]", "[1, 1, 1]", "[1, 1, 1, NaN]", "[1, 1, 1, true]", '["a", 1, 1, 1]'),
            *('{"a": 1}', "null", "7", "not JSON", b"\xff\xfe", "[" * 100_000, "[-1, 0, 0, 0]"),
        ],
    )
    def test_answers_that_are_none_are_refused(self, tmp_path, content):
        planted(tmp_path, "answers", "scores", content)

    @pytest.mark.parametrize(
        "content",
        [
            *("[]", "null", "not JSON", b"\xff\xfe", "[" * 100_000),
            *('{"text": "a", "finish": "stop", "model": "m"}', '{"evil": 1}'),
            json.dumps(vars(reply("a")) | {"evil": 1}),
            json.dumps(vars(reply("a")) | {"text": 7}),
            json.dumps(vars(reply("a")) | {"model": None}),
            json.dumps(vars(reply("a")) | {"refusal": "yes"}),
        ],
    )
    def test_replies_that_are_none_are_refused(self, tmp_path, content):
        planted(tmp_path, "replies", "reply", content)


class TestKilled:
    def spend(self, folder, die_at, cap):
        command = [sys.executable, "spender.py", folder, "seed-0", "60", str(cap), str(die_at)]
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120
        )

    def lines(self, folder, kind):
        return (folder / f"seed-0.{kind}").read_text().splitlines()

    def test_a_resumed_run_pays_for_nothing_twice(self, tmp_path):
        killed = self.spend(tmp_path, 37, 1000)
        assert killed.returncode == -signal.SIGKILL
        requests, replies = self.lines(tmp_path, "requests"), self.lines(tmp_path, "replies")
        assert len(replies) == 36
        file = sqlite3.connect(tmp_path / "critic-cache.sqlite")
        (kept,) = file.execute("SELECT count(*) FROM replies").fetchone()
        # Those lost were under way when the process died.
        lost = len(requests) - kept
        assert 0 <= lost <= 8

        resumed = self.spend(tmp_path, 0, 1000)
        assert (resumed.returncode, resumed.stderr) == (0, "")
        assert json.loads(resumed.stdout)[0] == 60
        both = self.lines(tmp_path, "requests")
        assert len(both) - len(set(both)) <= lost
        assert len(set(both)) == 60 + 20  # a third of the questions needed a repair
        (spent,) = file.execute("SELECT sum(calls) FROM spent").fetchone()
        file.close()
        assert spent == len(both)

    def test_its_cap_holds_over_the_kill(self, tmp_path):
        assert self.spend(tmp_path, 21, 50).returncode == -signal.SIGKILL
        resumed = self.spend(tmp_path, 0, 50)
        assert resumed.returncode == 0
        assert len(self.lines(tmp_path, "requests")) == 50


def scored(critic, batches):
    scores = [np.stack(critic.score(slots(volumes))) for volumes in batches]
    critic.close(True)
    return np.concatenate(scores, axis=1).tobytes()


class TestReplay:
    STEPS = st.sampled_from([None, None, "no", "[]", failure(), failure("x", retry=False)])

    @settings(max_examples=40)
    @given(
        script=st.lists(STEPS, max_size=30),
        warm=st.lists(st.sampled_from([0.1, 0.2, 0.3]), max_size=3),
        batches=st.lists(
            st.lists(st.sampled_from([-1, 0, 0.1, 0.2, 0.3, 0.4, 0.5]), min_size=1, max_size=8),
            min_size=1,
            max_size=4,
        ),
        fields=st.fixed_dictionaries(
            {
                "every": st.integers(1, 2),
                "share": st.sampled_from([0.7, 1.0]),
                "slots_per_call": st.integers(1, 3),
                "fallback": st.sampled_from(["abstain", "rule"]),
                "max_calls": st.none() | st.integers(0, 8),
                "max_seconds": st.none() | st.integers(1, 20),
                "give_up_after": st.integers(1, 5),
                "retries": st.integers(0, 1),
            }
        ),
    )
    def test_the_same_scores_come_again_bit_for_bit(
        self, tmp_path_factory, script, warm, batches, fields
    ):
        folder = tmp_path_factory.mktemp("replay")
        options = CallOptions(model="scripted", **fields)

        def opened(transport, **run):
            return AskedCritic(
                options, lambda redact: transport, session(path="members.0", seed=1, **run)
            )

        if warm:
            scored(opened(ScriptedTransport(), store=folder), [warm])
        transcript = Transcript(folder / "critic.jsonl", {"critic": "llm"})
        live = opened(ScriptedTransport(list(script)), store=folder, transcript=transcript)
        expected = scored(live, batches)
        transcript.close()
        if not transcript.file.exists():
            return  # nothing was asked

        recording = Recording(transcript.file)
        replayed = AskedCritic(
            options, None, session(path="members.0", seed=1, recording=recording)
        )
        assert scored(replayed, batches) == expected
        assert recording.left() == 0
        was, now = live.usage(), replayed.usage()
        for count in ("slots", "undefined", "skipped", "scored", "fallback", "abstained"):
            assert getattr(was, count) == getattr(now, count)
        assert (now.calls, now.dollars) == (0, 0.0)

    def recorded(self, folder):
        transcript = Transcript(folder / "critic.jsonl", {})
        path = open_path(ScriptedTransport(), transcript=transcript)
        path.ask(QUESTIONS[:3])
        path.close(True)
        transcript.close()
        return transcript.file

    def test_another_question_is_refused(self, tmp_path):
        recording = Recording(self.recorded(tmp_path))
        critic = AskedCritic(CallOptions(model="scripted"), None, session(recording=recording))
        with pytest.raises(PeerWattError, match="question 1 of this run is not the recorded one"):
            critic.score(slots([0.5]))

    @pytest.mark.parametrize("scores", ["[1, 2, 3, 4]", "[1, 1]", '"x"', "[1, 1, 1, NaN]"])
    def test_scores_that_are_none_are_refused(self, tmp_path, scores):
        file = self.recorded(tmp_path)
        lines = file.read_text().splitlines()
        place = next(k for k, line in enumerate(lines) if '"answer"' in line)
        start, end = lines[place].index('"scores": ') + 10, lines[place].index(', "reason"')
        lines[place] = lines[place][:start] + scores + lines[place][end:]
        file.write_text("\n".join(lines) + "\n")
        with pytest.raises(PeerWattError, match="not four numbers"):
            RecordedPath(Recording(file), "", 0).ask(QUESTIONS[:3])


class TestTranscript:
    def written(self, folder, script=(), texts=QUESTIONS[:3], **fields):
        transcript = Transcript(folder / "critic.jsonl", {})
        options = CallOptions(model="scripted", concurrency=1, **fields)
        path = open_path(ScriptedTransport(list(script)), options, transcript=transcript)
        path.ask(list(texts))
        path.close(True)
        transcript.close()
        return [json.loads(line) for line in transcript.file.read_text().splitlines()]

    def test_every_exchange_is_there_with_its_cost(self, tmp_path):
        lines = self.written(
            tmp_path, [failure(), "no", reply("[[0, 0, 0, 1]]", dollars=0.5)], price_in=None
        )
        exchanges = [line for line in lines if line["kind"] == "exchange"]
        assert [line["problem"] for line in exchanges] == ["http-500", "not-json", None, None, None]
        assert [line["attempt"] for line in exchanges] == [0, 1, 0, 0, 0]
        assert [line["repair"] for line in exchanges] == [False, False, True, False, False]
        assert exchanges[1]["reply"] == "no"
        assert exchanges[2]["dollars"] == 0.5
        assert exchanges[3]["dollars"] is None
        assert exchanges[3]["prompt_tokens"] == 20
        assert exchanges[3]["seconds"] == 1.0

    def test_messages_can_be_put_together_again(self, tmp_path):
        lines = self.written(tmp_path)
        first, *others = [line for line in lines if line["kind"] == "exchange"]
        assert first["same"] == 0
        for number, line in enumerate(others, 1):
            messages = first["messages"][: line["same"]] + line["messages"]
            assert [message["role"] for message in messages] == ["system", "user"]
            assert json.loads(messages[-1]["content"]) == [QUESTIONS[number]]
        assert sum("Score markets" in json.dumps(line) for line in lines) == 1

    def test_answers_come_in_the_order_of_the_questions(self, tmp_path):
        lines = self.written(tmp_path, [failure("x", retry=False)], max_calls=2)
        answers = [line for line in lines if line["kind"] == "answer"]
        assert [line["scores"] for line in answers] == [None, list(truth("slot 1")), None]
        assert [line["reason"] for line in answers] == ["x", None, "capped"]
        assert [line["source"] for line in answers] == ["call", "call", None]

    def test_a_full_disk_is_told_in_a_sentence(self, tmp_path):
        class Full(Transcript):
            def write(self, kind, path, *contents):
                raise OSError(28, "No space left on device")

        path = open_path(ScriptedTransport(), transcript=Full(tmp_path / "critic.jsonl", {}))
        with pytest.raises(PeerWattError, match=r"critic\.jsonl: cannot be written \(No space"):
            path.ask(QUESTIONS)
        path.close(False)
