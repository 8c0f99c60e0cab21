"""Transcripts: written line by line, read again however they ended, refused if they do not fit."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from peerwatt.errors import PeerWattError
from peerwatt.fairness.transcript import Recording, Transcript, locked

HEAD = {"critic": {"name": "llm"}, "seed": 0}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "critic.jsonl"


def written(file, *answers):
    transcript = Transcript(file, HEAD)
    for path, question, score in answers:
        transcript.write("answer", path, {"question": question, "scores": score})
    transcript.close()
    return transcript


def test_the_file_appears_with_the_first_line(file):
    transcript = written(file)
    assert transcript.digest() is None and not file.exists()
    transcript = written(file, ("", "q", 1.0))
    assert transcript.digest() == hashlib.sha256(file.read_bytes()).hexdigest()
    head, line = map(json.loads, file.read_text().splitlines())
    assert head == {"kind": "run", "version": 1, **HEAD}
    assert line == {"kind": "answer", "path": "", "question": "q", "scores": 1.0}


def test_every_line_is_there_before_the_next_is_written(file):
    transcript = Transcript(file, HEAD)
    for count in range(1, 4):
        transcript.write("answer", "", {})
        assert len(file.read_text().splitlines()) == 1 + count
    transcript.close()


def test_answers_come_again_in_their_order_and_by_path(file):
    written(file, ("a", "1", 0.1), ("b", "1", 0.2), ("a", "2", 0.3))
    recording = Recording(file)
    assert recording.head["critic"] == {"name": "llm"}
    assert [recording.answer(*ask)["scores"] for ask in (("b", "1"), ("a", "1"))] == [0.2, 0.1]
    assert recording.left() == 1
    with pytest.raises(PeerWattError, match="question 2 of a of this run is not the recorded one"):
        recording.answer("a", "1")
    with pytest.raises(PeerWattError, match="ends before question 2 of b of this run; replay it"):
        recording.answer("b", "2")


def test_a_torn_last_line_is_left_out(file):
    written(file, ("", "1", 0.1), ("", "2", 0.2))
    whole = file.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1])):
        file.write_bytes(whole[: -1 - cut])
        recording = Recording(file)
        recording.answer("", "1")
        assert recording.left() == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty; name the critic.jsonl of a run"),
        (b"\xff\xfe", "cannot be read \\(it is no text\\)"),
        (b'{"kind": "run", "version": 2}\n', "line 1 is not the head of a transcript of version 1"),
        (b"[1]\n", "line 1 is not the head"),
        (b'{"kind": "run", "version": 1}\n[1]\n{}\n', "line 2 is no JSON object: '\\[1\\]'"),
        (b'{"kind": "run", "version": 1}\n{"a": 1}\n', "line 2 is no JSON object"),
        (b'{"kind": "run", "version": 1}\n' + b"[" * 100_000 + b"\n", "line 2 is no JSON object"),
        (b'{"kind": "run", "version": 1}\n' + b"a" * 10**7 + b"\n", "line 2 is longer than 10,000"),
        (b'{"kind": "run", "version": 1, "seed": true}\n', "gives the seed 'True'"),
        (b'{"kind": "run", "version": 1, "seed": 0.0}\n', "gives the seed '0.0'"),
    ],
)
def test_what_is_no_transcript_is_refused(file, content, says):
    file.write_bytes(content)
    with pytest.raises(PeerWattError, match=says):
        Recording(file)


def test_a_missing_transcript_is_one_sentence(file):
    with pytest.raises(PeerWattError, match="cannot be read \\(No such file or directory\\)"):
        Recording(file)


def test_a_pipe_is_no_transcript(file):
    os.mkfifo(file)
    with pytest.raises(PeerWattError, match="is no file"):
        Recording(file)


def test_a_transcript_is_the_one_that_the_record_beside_it_tells_of(file):
    digest = written(file, ("", "1", 0.1)).digest()
    record = file.with_name("result.json")
    for content in ("no JSON", "[]", "{}", '{"critic_usage": null}', "[" * 100_000):
        record.write_text(content)
        assert Recording(file).left() == 1
    record.write_text(json.dumps({"critic_usage": {"transcript": digest}}))
    assert Recording(file).left() == 1
    file.write_text(file.read_text().replace("0.1", "0.2"))
    with pytest.raises(PeerWattError, match=r"is not the one that result\.json beside it tells of"):
        Recording(file)


def test_no_transcript_is_written_over(file):
    written(file, ("", "1", 0.1))
    with pytest.raises(PeerWattError, match="another process writes it"):
        written(file, ("", "1", 0.1))


def test_a_transcript_is_locked_while_its_process_lives(file):
    transcript = Transcript(file, HEAD)
    transcript.write("answer", "", {})
    script = (
        "import sys; from peerwatt.fairness.transcript import locked\n"
        "print(locked(open(sys.argv[1], 'a')))"
    )
    look = [sys.executable, "-c", script, str(file)]
    assert subprocess.run(look, capture_output=True, text=True).stdout == "False\n"
    transcript.close()
    with file.open("a") as again:
        assert locked(again)


def test_a_full_disk_is_one_sentence(monkeypatch, file):
    transcript = Transcript(file, HEAD)
    transcript.write("answer", "", {})

    class Full:
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(transcript, "_open", Full())
    with pytest.raises(PeerWattError, match=r"cannot be written \(No space left on device\)"):
        transcript.write("answer", "", {})


def gone_on(file, *answers):
    transcript = Transcript(file, HEAD, going_on=True)
    for path, question, score in answers:
        transcript.write("answer", path, {"question": question, "scores": score})
    transcript.close()
    return transcript


def test_a_transcript_is_gone_on_with(file):
    assert gone_on(file).tail is None
    assert gone_on(file, ("", "1", 0.1)).tail is None
    transcript = gone_on(file, ("", "2", 0.2))
    assert transcript.tail.answer("", "1")["scores"] == 0.1
    assert transcript.tail.ended("")
    once = file.with_name("once.jsonl")
    assert transcript.digest() == written(once, ("", "1", 0.1), ("", "2", 0.2)).digest()
    assert gone_on(file).digest() == transcript.digest()


def test_what_a_kill_left_unfinished_is_cut_off(file):
    written(file, ("", "1", 0.1), ("", "2", 0.2))
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        transcript = gone_on(file, ("", "3", 0.3))
        kept = sum(length >= len(b"".join(lines[: n + 1])) for n in range(3))
        then = [json.loads(line)["kind"] for line in file.read_text().splitlines()]
        assert then == ["run"] + ["answer"] * max(1, kept)
        assert (0 if transcript.tail is None else transcript.tail.left()) == max(0, kept - 1)


@pytest.mark.parametrize("rest", [b"\0" * 4096, b"\0\n" * 9, b'{"kind": "answer"\n{}\n', b"[1]\n"])
def test_what_follows_a_damaged_line_is_cut_off(file, rest):
    digest = written(file, ("", "1", 0.1)).digest()
    file.write_bytes(file.read_bytes() + rest)
    transcript = gone_on(file)
    assert transcript.tail.left() == 1
    assert transcript.digest() == digest


def test_only_one_process_goes_on_with_a_transcript(file):
    transcript = Transcript(file, HEAD)
    transcript.write("answer", "", {})
    before = file.read_bytes()
    with pytest.raises(PeerWattError, match="another process writes it"):
        Transcript(file, HEAD, going_on=True)
    transcript.close()
    assert file.read_bytes() == before


def test_what_is_no_transcript_is_not_gone_on_with(file):
    file.write_text('{"kind": "run", "version": 2}\n')
    with pytest.raises(PeerWattError, match="not the head of a transcript of version 1"):
        gone_on(file)
    assert file.read_text() == '{"kind": "run", "version": 2}\n'


def test_answers_before_a_checkpoint_are_skipped(file):
    written(file, *(("a", str(n), n / 10) for n in range(4)), ("b", "0", 1.0))
    recording = Recording(file)
    recording.skip("a", 2)
    assert [line["question"] for line in recording.upcoming("a")] == ["2", "3"]
    with pytest.raises(PeerWattError, match="question 3 of a of this run is not the recorded one"):
        recording.answer("a", "3")
    recording.skip("a", 1)
    assert recording.ended("a") and not recording.ended("b")
    with pytest.raises(
        PeerWattError, match="holds 1 answers to b, fewer than the 2 that the check"
    ):
        recording.skip("b", 2)


def test_of_an_interrupted_run_the_exchanges_are_read(file):
    transcript = Transcript(file, HEAD)
    for number, reply in enumerate(("yes", None)):
        line = {"messages": [number], "reply": reply, "attempt": number}
        transcript.write("exchange", "a", line)
    transcript.close()
    assert Recording(file).exchanges == {}
    first, second = Recording(file, interrupted=True).exchanges["a"]
    assert (first["messages"], first["reply"], first["attempt"]) == ([0], "", 0)
    assert ("messages" in second, second["reply"], second["attempt"]) == (False, None, 1)


def test_lines_that_belong_together_are_written_together(file):
    transcript = Transcript(file, HEAD)
    transcript.write("answer", "", {"question": "1"}, {"question": "2"})
    transcript.sync()
    transcript.close()
    assert len(file.read_text().splitlines()) == 3


def test_a_disk_that_cannot_sync_is_one_sentence(monkeypatch, file):
    def refuse(descriptor):
        raise OSError(5, "Input/output error")

    transcript = Transcript(file, HEAD)
    monkeypatch.setattr(os, "fsync", refuse)
    transcript.sync()  # nothing is there yet
    transcript.write("answer", "", {})
    with pytest.raises(PeerWattError, match=r"cannot be written \(Input/output error\)"):
        transcript.sync()
    transcript.close()
