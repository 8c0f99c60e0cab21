"""Keys go to the server, in a header, and nowhere else, however hard the server tries."""

import base64
import json
import logging
from urllib.parse import quote

import numpy as np
import pytest
from asking import CLIENTS, KEY, ask, critic, markets
from fake_server import FakeServer, echo, forms

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import CriticSession, opened
from peerwatt.fairness.transcript import Transcript
from peerwatt_critics.calls import backoff

pytestmark = pytest.mark.parametrize("client", CLIENTS)

OTHER = "another-secret-of-the-environment"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("FAKE_KEY", KEY)
    monkeypatch.setenv("SOME_SECRET", OTHER)
    monkeypatch.setattr(backoff, "FIRST", 0.001)


def assert_hidden(data):
    text = data if isinstance(data, bytes) else data.encode()
    for secret in (KEY, OTHER):
        found = [form for form in forms(secret) if form.encode() in text]
        assert not found, f"{found[0]} in {text[:2000]!r}"


def assert_no_file_has_it(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {"critic.jsonl", "critic-cache.sqlite"} <= {file.name for file in files}
    for file in files:
        assert_hidden(file.read_bytes())


def echoing(number):
    secret = KEY if number % 2 else OTHER
    return echo(secret, [200, 500, 429, 400, 418][number % 5])


def test_an_echoed_key_is_in_no_file_and_no_log(client, tmp_path, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    transcript = Transcript(tmp_path / "critic.jsonl", {})
    session = CriticSession(
        np.random.default_rng(1), run="r", entry="e", store=tmp_path, transcript=transcript
    )
    with FakeServer([None, *map(echoing, range(40))]) as server:
        asking = critic(client, server.url, api_key_env="FAKE_KEY", rationale=True)
        with opened(asking, session) as work:
            work.score(markets(30))
            assert_no_file_has_it(tmp_path)  # that of the database's journal among them
            usage = work.usage()
    transcript.close()
    assert usage.calls == len(server.seen)
    assert {"http-500", "http-429", "http-400", "other-model"} <= set(usage.failed)
    for seen in server.seen:
        assert KEY in seen.headers["authorization"]
        assert_hidden(seen.body)
        assert_hidden(json.dumps({**seen.headers, "authorization": ""}))
    assert_no_file_has_it(tmp_path)
    assert_hidden(repr(usage))
    assert_hidden("".join(capfd.readouterr()))
    assert_hidden(caplog.text)


def escaped(text):
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


WRITTEN = {
    "JSON escapes in JSON": escaped(KEY).replace("\\", "\\\\"),
    "hex": KEY.encode().hex(),
    "plain": KEY,
    "JSON escapes": escaped(KEY),
    "address": quote(KEY, safe=""),
    "base64 of a user and the key": base64.b64encode(f"user:{KEY}".encode()).decode(),
}


def in_text(body):
    reply = json.loads(body["choices"][0]["message"]["content"])
    body["choices"][0]["message"]["content"] = json.dumps(reply | {"rationale": "WRITTEN"})


def in_finish(body):
    body["choices"][0]["finish_reason"] = "WRITTEN"


def in_model(body):
    body["model"] = "fake/WRITTEN/fake"


def in_refusal(body):
    body["choices"][0]["message"]["refusal"] = "WRITTEN"


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN.keys())
@pytest.mark.parametrize("place", [in_text, in_finish, in_model, in_refusal])
def test_a_valid_reply_may_hold_the_key(client, place, written, tmp_path):
    def fault(exchange):
        body = exchange.completion(exchange.answer())
        place(body)
        exchange.send(200, json.dumps(body).replace("WRITTEN", written))

    with FakeServer([fault]) as server:
        asking = critic(client, server.url, api_key_env="FAKE_KEY", rationale=True)
        asked = ask(asking, tmp_path, count=2)
    assert asked.scored == [place != in_refusal, True]
    assert asked.usage.calls == len(server.seen) == 2
    assert_no_file_has_it(tmp_path)
    text = (tmp_path / "critic.jsonl").read_text()
    assert ("[secret]" in text) == (place != in_refusal)
    assert base64.b64encode(KEY.encode()).decode()[3:-4] not in text


def bad_line(padding):
    line = f"HTTP/9.9 {'a' * padding}{KEY}\r\n\r\n"

    def fault(exchange):
        exchange.handler.wfile.write(line.encode())
        exchange.handler.close_connection = True

    return fault


def bad_encoding(padding):
    coding = {"Content-Encoding": f"{'a' * padding}{KEY}"}
    return lambda exchange: exchange.send(200, b"{}", coding)


@pytest.mark.parametrize("bad", [bad_line, bad_encoding])
def test_no_part_of_a_key_is_left_where_a_text_is_cut(client, bad, tmp_path):
    with FakeServer(lambda number: bad(number)) as server:
        quick = {"retries": 0, "give_up_after": 1000, "slots_per_call": 1}
        asking = critic(client, server.url, api_key_env="FAKE_KEY", **quick)
        asked = ask(asking, tmp_path, count=61)
    assert asked.usage.calls == len(server.seen) == 61
    text = (tmp_path / "critic.jsonl").read_text()
    assert "[secret]" in text
    assert KEY[:5] not in text


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_the_error_of_a_refused_key_does_not_tell_it(client, status, tmp_path):
    with (
        FakeServer([echo(KEY, status)]) as server,
        pytest.raises(PeerWattError, match=f"status {status}") as error,
    ):
        ask(critic(client, server.url, api_key_env="FAKE_KEY"), tmp_path)
    assert_hidden(str(error.value))
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_another_server_does_not_get_the_usual_key(client, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with FakeServer() as server:
        ask(critic(client, server.url), tmp_path, count=1)
    (seen,) = server.seen
    assert "authorization" not in seen.headers
    assert KEY not in json.dumps(dict(seen.headers))


@pytest.mark.parametrize("key", ["sk-0123456789\nX-Evil: 1", "sk 0123456789", "sk-ключ-0123456789"])
def test_what_is_no_key_is_not_sent(client, key, tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_KEY", key)
    with (
        FakeServer() as server,
        pytest.raises(PeerWattError, match="FAKE_KEY holds spaces, line ends") as error,
    ):
        ask(critic(client, server.url, api_key_env="FAKE_KEY"), tmp_path)
    assert key not in str(error.value)
    assert server.seen == []
