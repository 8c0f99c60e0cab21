"""Training with a server that fails in every way."""

import json

import pytest
from asking import KEY, needs_litellm
from fake_server import FakeServer, echo, forms
from test_faults import LASTING, PASSING, REFUSALS, WRONG

from peerwatt.cli.report import finish
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.execute import execute
from peerwatt.runs.runner import Finished
from peerwatt_critics.calls import backoff


@pytest.mark.parametrize(
    "client",
    ["openai-http", pytest.param("llm", marks=[needs_litellm, pytest.mark.slow])],
)
def test_a_training_run_finishes_whatever_the_server_does(client, tmp_path, monkeypatch, capfd):
    """Every fault in turn, and a key that is echoed."""
    monkeypatch.setenv("FAKE_KEY", KEY)
    monkeypatch.setattr(backoff, "wait", lambda *_: 0.001)
    passing = [fault for fault, reason in PASSING.values() if reason != "timeout"]
    lasting = [fault for fault, _ in [*LASTING.values(), *WRONG.values()]]
    faults = [*passing, *lasting, *REFUSALS.values(), echo(KEY), echo(KEY, 500)]

    def script(number):
        return faults[number // 2 % len(faults)] if number % 2 else None

    model = {"openai-http": "fake", "llm": "openai/fake"}[client]
    with FakeServer(script) as server:
        options = {
            "model": model,
            "api_base": server.url,
            "api_key_env": "FAKE_KEY",
            "share": 0.1,
            "retries": 2,
        }
        config = RunConfig(
            "pilot-v1",
            "ippo",
            critic=client,
            critic_options=tuple(options.items()),
            algorithm_options=(("num_envs", 4), ("rollout_slots", 24), ("hidden", (8,))),
            budget=20_000,
            validations=1,
        )
        folder = execute(resolve(config), tmp_path)
    finish(Finished([folder], {}))
    record = json.loads((folder / "result.json").read_text())
    usage = record["critic_usage"]
    assert usage["calls"] == len(server.seen) > 2 * len(faults)
    assert usage["scored"] > 20
    assert {"http-500", "connection", "too-large", "other-model"} <= set(usage["failed"])
    assert {"prose", "keys", "type", "range", "count", "truncated"} <= set(usage["invalid"])
    assert any("abstained" in note for note in record["notes"])
    printed = "".join(capfd.readouterr()).encode()
    for text in (printed, *(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())):
        assert not [form for form in forms(KEY) if form.encode() in text]
