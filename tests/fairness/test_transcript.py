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
