"""A model server on loopback that answers as the rule critic and fails as it is told to.

It speaks enough of the protocols of OpenAI (`/v1/chat/completions`), ollama (`/api/chat`,
`/api/generate`), Anthropic (`/v1/messages`) and Gemini (`:generateContent`) for clients to take it
for one of them. What goes wrong is a script: one fault for each request in its order, or a function
of the request's number.

    with FakeServer([error(500), None, says(keys)]) as server:
        ...  # the first request fails, the second is answered, the third answered with wrong keys
    assert len(server.seen) == 3
"""

from __future__ import annotations

import base64
import functools
import gzip
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote

from decoding import rule_reply

Fault = Callable[["Exchange"], None]
Script = Sequence[Fault | None] | Callable[[int], Fault | None]


@dataclass(frozen=True)
class Seen:
    """One request that reached the server."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The messages of the request, whatever the protocol: each with `role` and `content`."""
        body = self.json
        if "prompt" in body:  # ollama's /api/generate
            parts = re.split(r"### (System|User|Assistant):\n", body["prompt"])[1:]
            return [
                {"role": role.lower(), "content": content}
                for role, content in zip(parts[::2], parts[1::2], strict=True)
            ]
        if "contents" in body:  # Gemini, which puts the system's text before the first user's
            return [
                {
                    "role": "assistant" if part["role"] == "model" else "user",
                    "content": part["parts"][-1]["text"],
                }
                for part in body["contents"]
            ]
        system = body.get("system")
        head = [{"role": "system", "content": _plain(system)}] if system else []
        return head + [
            {"role": message["role"], "content": _plain(message["content"])}
            for message in body["messages"]
        ]


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def rule(seen: Seen, scale: int = 100) -> str:
    """Answer as the rule critic, from what the request says alone."""
    return rule_reply(seen.messages, scale)


class FakeServer:
    """The server, which runs in threads of its own while the block lasts."""

    def __init__(self, script: Script = (), answer: Callable[[Seen], str] = rule) -> None:
        self.script = script
        self.answer = answer
        self.seen: list[Seen] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.port: int = self._server.server_address[1]
        self.origin = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.origin}/v1"

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def _fault(self, number: int) -> Fault | None:
        if callable(self.script):
            return self.script(number)
        return self.script[number] if number < len(self.script) else None

    def serve(self, exchange: Exchange) -> None:
        """Count the request, and answer it or do what the script says."""
        with self._lock:
            self.seen.append(exchange.seen)
            fault = self._fault(len(self.seen) - 1)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            (fault or answered)(exchange)
        finally:
            with self._lock:
                self._at_once -= 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fake: FakeServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.fake.serve(Exchange(self, Seen(self.command, self.path, headers, body)))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


class Exchange:
    """One request at the server, and the means to answer it."""

    def __init__(self, handler: _Handler, seen: Seen) -> None:
        self.handler = handler
        self.seen = seen
        self.fake = handler.fake

    def answer(self) -> str:
        """Return the text that a good model would reply."""
        return self.fake.answer(self.seen)

    def completion(
        self,
        text: str,
        *,
        finish: str = "stop",
        model: str | None = None,
        refusal: str | None = None,
        usage: Any = (100, 20),
    ) -> dict[str, Any]:
        """Return the body of a reply of the protocol that the request speaks."""
        asked = self.seen.json
        if model is None:
            model = asked["model"] if "model" in asked else re.split("[/:]", self.seen.path)[-2]
        sent, received = usage if isinstance(usage, tuple) else (usage, usage)
        if self.seen.path.startswith("/api/"):
            said = {"message": {"role": "assistant", "content": text}}
            return {
                "model": model,
                "created_at": "2026-01-01T00:00:00Z",
                **({"response": text} if self.seen.path == "/api/generate" else said),
                "done": True,
                "done_reason": finish,
                "prompt_eval_count": sent,
                "eval_count": received,
            }
        if self.seen.path.endswith("/messages"):
            block = {"type": "text", "text": text}
            if asked.get("tools"):
                name = asked["tools"][0]["name"]
                block = {"type": "tool_use", "id": "t", "name": name, "input": json.loads(text)}
            return {
                "id": "msg",
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [block],
                "stop_reason": {"stop": "end_turn", "length": "max_tokens"}.get(finish, finish),
                "stop_sequence": None,
                "usage": {"input_tokens": sent, "output_tokens": received},
            }
        if "contents" in asked:
            content = {"role": "model", "parts": [{"text": text}]}
            reasons = {"stop": "STOP", "length": "MAX_TOKENS"}
            return {
                "candidates": [{"content": content, "finishReason": reasons.get(finish, finish)}],
                "modelVersion": model,
                "usageMetadata": {
                    "promptTokenCount": sent,
                    "candidatesTokenCount": received,
                    "totalTokenCount": 0,
                },
            }
        message = {"role": "assistant", "content": None if refusal else text, "refusal": refusal}
        total = sent + received if isinstance(sent, int) and isinstance(received, int) else sent
        return {
            "id": "chatcmpl",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "service_tier": "default",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": sent,
                "completion_tokens": received,
                "total_tokens": total,
            },
        }

    def send(
        self,
        status: int,
        body: bytes | str | Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        """Send a whole response."""
        if isinstance(body, Mapping):
            body = json.dumps(body)  # with NaN, if there is one: a server may be as careless
        data = body.encode() if isinstance(body, str) else body
        self.handler.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.write(data)

    def reset(self) -> None:
        """Break the connection so that the client gets a reset instead of an end."""
        self.handler.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.handler.connection.close()
        self.handler.close_connection = True


def answered(exchange: Exchange) -> None:
    """Answer as a good server with a good model does."""
    exchange.send(200, exchange.completion(exchange.answer()))


# Faults of the network and the server.


def slow(seconds: float) -> Fault:
    """Answer well, but late."""

    def fault(exchange: Exchange) -> None:
        exchange.fake.stopping.wait(seconds)
        answered(exchange)

    return fault


def hang(exchange: Exchange) -> None:
    """Never answer."""
    exchange.fake.stopping.wait(60)
    exchange.handler.close_connection = True


def trickle(exchange: Exchange) -> None:
    """Send a byte now and then, so that no single read takes long, and never come to an end."""
    exchange.handler.send_response(200)
    exchange.handler.send_header("Content-Length", "1000000")
    exchange.handler.end_headers()
    while not exchange.fake.stopping.wait(0.02):
        exchange.handler.wfile.write(b" ")


def broken_off(exchange: Exchange) -> None:
    """Reset the connection in the middle of the body."""
    body = json.dumps(exchange.completion(exchange.answer())).encode()
    exchange.handler.send_response(200)
    exchange.handler.send_header("Content-Type", "application/json")
    exchange.handler.send_header("Content-Length", str(len(body)))
    exchange.handler.end_headers()
    exchange.handler.wfile.write(body[: len(body) // 2])
    exchange.reset()


def dropped(exchange: Exchange) -> None:
    """Close the connection without a word."""
    exchange.handler.close_connection = True


def error(status: int, text: str = "it broke", **headers: str) -> Fault:
    """Answer with an error as OpenAI words it; `headers` with `_` for `-`."""

    def fault(exchange: Exchange) -> None:
        body = {"error": {"message": text, "type": "server_error", "code": None}}
        exchange.send(status, body, {k.replace("_", "-"): v for k, v in headers.items()})

    return fault


def redirect(url: str, status: int = 307) -> Fault:
    """Send the client to another address."""
    return lambda exchange: exchange.send(status, b"", {"Location": url})


def html(exchange: Exchange) -> None:
    """Answer with the page of a proxy that is in the way."""
    exchange.send(200, "<html><body><h1>Sign in</h1></body></html>", kind="text/html")


def html_error(exchange: Exchange) -> None:
    """Answer with the error page of a web server."""
    exchange.send(502, "<html><body><h1>Bad Gateway</h1></body></html>", kind="text/html")


def malformed(exchange: Exchange) -> None:
    """Send a body that is no JSON."""
    body = json.dumps(exchange.completion(exchange.answer()))
    exchange.send(200, body[: len(body) // 2])


def no_object(exchange: Exchange) -> None:
    """Send a body that is JSON, and not of the protocol at all."""
    exchange.send(200, "[1, 2]")


def empty_choices(exchange: Exchange) -> None:
    """Send a reply without a choice."""
    empty: dict[str, Any] = {"choices": [], "content": [], "candidates": []}
    body = exchange.completion(exchange.answer())
    exchange.send(200, {name: empty.get(name, value) for name, value in body.items()})


def huge(exchange: Exchange) -> None:
    """Reply with 10 MB of text."""
    exchange.send(200, exchange.completion(json.dumps("x" * 10_000_000)))


@functools.cache
def _small(times: int) -> bytes:
    body = b'{"choices": [{"message": {"content": "' + b" " * 50_000_000 + b'"}}]}'
    for _ in range(times):
        body = gzip.compress(body, 6)
    return body


def bomb(exchange: Exchange) -> None:
    """Reply with 50 MB that are 50 KB on the way."""
    exchange.send(200, _small(1), {"Content-Encoding": "gzip"})


def nested_bomb(exchange: Exchange) -> None:
    """Reply with 50 MB that were compressed three times."""
    exchange.send(200, _small(3), {"Content-Encoding": "gzip, gzip, gzip"})


def zipped(exchange: Exchange) -> None:
    """Answer well, compressed though nobody asked for it."""
    body = json.dumps(exchange.completion(exchange.answer())).encode()
    exchange.send(200, gzip.compress(body), {"Content-Encoding": "gzip"})


# Faults of the model.


def replies(**changes: Any) -> Fault:
    """Answer with another `finish`, `model`, `refusal` or `usage`."""
    return lambda exchange: exchange.send(200, exchange.completion(exchange.answer(), **changes))


def says(change: Callable[[Any], Any], **changes: Any) -> Fault:
    """Answer with what `change` makes of the good reply, parsed; a text is sent as it is."""

    def fault(exchange: Exchange) -> None:
        changed = change(json.loads(exchange.answer()))
        text = changed if isinstance(changed, str) else json.dumps(changed)
        exchange.send(200, exchange.completion(text, **changes))

    return fault


def each_number(change: Callable[[float], Any]) -> Callable[[Any], Any]:
    """Return a change of all numbers in a reply."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item) for item in value]
        return change(value) if isinstance(value, int | float) else value

    return changed


def wrong_keys(value: Any) -> Any:
    """Return a reply with other keys."""
    if isinstance(value, dict):
        return {f"{key}_score": wrong_keys(item) for key, item in value.items()}
    return [wrong_keys(item) for item in value] if isinstance(value, list) else value


def in_prose(value: Any) -> str:
    """Return a reply as chatty models give it."""
    return f"Sure! Here are the scores:\n```json\n{json.dumps(value)}\n```\nLet me know!"


# Attacks on secrets.


def forms(secret: str) -> tuple[str, ...]:
    """Return how a secret may be written: plain, URL-encoded, in base64, escaped in JSON."""
    return (
        secret,
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        json.dumps(secret)[1:-1],
    )


def echo(secret: str, status: int = 200) -> Fault:
    """Put the key everywhere: headers, body, model, finish, usage and the reply's own text."""

    def fault(exchange: Exchange) -> None:
        said = " ".join(forms(secret))
        text = json.dumps({"rationale": said, "key": secret})
        body = exchange.completion(text, finish=secret, model=f"{secret}-{said}")
        body |= {"id": said, "error": {"message": said, "code": secret}, secret: secret}
        headers = {"X-Request-Id": said, "Set-Cookie": f"key={secret}", "Location": f"/{secret}"}
        exchange.send(status, body, headers)

    return fault
