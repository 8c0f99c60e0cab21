"""The only way to the network: one address, no redirects, replies of bounded size.

Both clients send through a `Guard`. It sees each request last and each response first, so what it
refuses holds whatever a client library does: no other host, no second request behind the caller's
back, no proxy of the environment, and nothing of a response but its JSON, without secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import logging
import time
import zlib
from http import HTTPStatus
from typing import Any

import httpx

from peerwatt.errors import shown, told
from peerwatt_critics.calls.exchange import TransportError
from peerwatt_critics.calls.redact import Redact

MOST_BYTES = 1_000_000
"""Longest body of a response, decompressed; a reply for 64 slots has some 20 kB."""

SENT_HEADERS = frozenset({"accept", "anthropic-beta", "anthropic-version", "content-type"})
KEY_HEADERS = frozenset({"authorization", "x-api-key", "x-goog-api-key"})
"""Other headers, such as those that a client takes from the environment, are left out."""

USAGE = {"usage", "usageMetadata"}
"""Where replies say how many tokens they took."""

NEVER = frozenset({400, 401, 402, 403, 404, 405, 422})
"""What tells that no request can succeed: a wrong address, key, model or parameter."""
LATER = frozenset({408, 409, 425, 429, 498})
"""What a later request may not meet, beside all of 5xx."""


class Guard:
    """Sends requests to one address and returns the JSON objects that it answers with."""

    def __init__(self, api_base: str, key: str | None, timeout: float, redact: Redact) -> None:
        """Prepare connections to `api_base`; `timeout` in seconds is for a whole exchange.

        `key` is what requests carry where a client puts one, whichever it puts there.
        """
        self._base = httpx.URL(api_base)
        self._key = key
        self._timeout = timeout
        self._redact = redact
        # Without a client around it, nothing is read from the environment but certificates, which
        # take a while to load.
        self._pool = httpx.AsyncHTTPTransport(
            verify=self._base.scheme == "https", limits=httpx.Limits(max_connections=None)
        )
        for name in ("httpx", "httpcore"):  # they log addresses and headers
            logging.getLogger(name).setLevel(logging.WARNING)

    async def send(self, request: httpx.Request) -> dict[str, Any]:
        """Send `request` once and return the JSON object of the response.

        Raises:
            TransportError: the request goes elsewhere, or there is no such response.
        """
        if _origin(request.url) != _origin(self._base):
            raise TransportError(
                "other-host",
                f"the request would go to {shown(_place(request.url), 100)} instead of "
                f"{_place(self._base)}",
                fatal=True,
                charged=False,
            )
        headers = {"User-Agent": "peerwatt", "Accept-Encoding": "identity"}
        for name in SENT_HEADERS & set(request.headers):
            headers[name] = request.headers[name]
        for name in KEY_HEADERS & set(request.headers):
            if self._key is not None:
                headers[name] = f"Bearer {self._key}" if name == "authorization" else self._key
        try:
            async with asyncio.timeout(self._timeout):
                body = await request.aread()
                clean = httpx.Request(request.method, request.url, headers=headers, content=body)
                response = await self._pool.handle_async_request(clean)
                try:
                    text = await self._text(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise TransportError(
                "timeout", f"no whole reply within {self._timeout:g} s", retry=True
            ) from None
        except httpx.ConnectError:
            raise TransportError(
                "connect", f"cannot connect to {_place(self._base)}", retry=True, charged=False
            ) from None
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            text = shown(self._redact(told(error, 10_000)), 100)  # cut last: half a secret is one
            raise TransportError(
                "connection", f"the connection broke ({text})", retry=True
            ) from None
        if response.status_code != HTTPStatus.OK:
            raise self._refused(response, text)
        return self._object(text)

    def _refused(self, response: httpx.Response, text: str) -> TransportError:
        """Return what a status other than 200 means; `text` is the body."""
        status = response.status_code
        if 300 <= status < 400:
            return TransportError(
                "redirect", "the server redirects, which is refused", charged=False
            )
        said = f"the server answered with status {status}"
        with contextlib.suppress(TransportError):  # a page for humans says nothing that helps
            error = self._object(text).get("error")
            message = error.get("message") if isinstance(error, dict) else error
            said += f": {shown(message, 200)}" if isinstance(message, str) else ""
        return TransportError(
            f"http-{status}",
            said,
            retry=status in LATER or status >= 500,
            retry_after=_retry_after(response.headers),
            fatal=status in NEVER,
            charged=not 400 <= status < 500,
        )

    def _object(self, text: str) -> dict[str, Any]:
        """Return the JSON object that `text` is, without secrets and halves of characters.

        They are looked for in JSON of our own, in which no letter is escaped that need not be.
        """
        try:
            plain = json.dumps(json.loads(text), ensure_ascii=False)
            content = json.loads(self._redact(plain.encode(errors="replace").decode()))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise TransportError("malformed", "the reply is no JSON object", retry=True)
        return content

    async def _text(self, response: httpx.Response) -> str:
        """Read the body, at most `MOST_BYTES` of it before and after decompression.

        The decoders of httpx are not used: they expand what they are given without a limit.
        """
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            coding = shown(self._redact(coding), 40)
            raise TransportError("encoding", f"the reply is encoded as '{coding}'")
        inflate = None if coding in ("", "identity") else zlib.decompressobj(zlib.MAX_WBITS | 32)
        body = bytearray()
        received = 0
        assert isinstance(response.stream, httpx.AsyncByteStream)
        async for chunk in response.stream:
            received += len(chunk)
            try:
                body += chunk if inflate is None else inflate.decompress(chunk, MOST_BYTES + 1)
            except zlib.error:
                raise TransportError("encoding", "the reply is not compressed as it says") from None
            if max(len(body), received) > MOST_BYTES:
                raise TransportError("too-large", f"the reply is longer than {MOST_BYTES:,} bytes")
        return body.decode(errors="replace")

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.aclose()


class Errand(httpx.AsyncBaseTransport):
    """Carries one request of a client library through a guard, and keeps what came of it."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.request = b""
        """Body of the request; empty if none came this way."""
        self.reply: dict[str, Any] | None = None
        self.error: TransportError | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the first request; the library gets the reply and nothing else of the response."""
        if self.request:
            # A retry of its own: what is counted, limited and waited for is decided elsewhere.
            raise self.error or TransportError("second", "the client sent a second request")
        self.request = await request.aread()
        try:
            self.reply = await self._guard.send(request)
        except TransportError as error:
            self.error = error
            raise
        # Libraries warn of or fail at counts that make no sense, which are judged elsewhere.
        counts = {name: _whole(self.reply[name]) for name in USAGE & set(self.reply)}
        body = json.dumps({**self.reply, **counts})
        headers = {"Content-Type": "application/json"}
        return httpx.Response(HTTPStatus.OK, headers=headers, content=body, request=request)


class Closed(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Lets nothing through."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse."""
        raise httpx.UnsupportedProtocol("requests go through a guard, or not at all")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Refuse."""
        return self.handle_request(request)


def _whole(counts: Any) -> dict[str, int]:
    """Return those of the `counts` that are numbers of tokens."""
    given = counts.items() if isinstance(counts, dict) else ()
    return {name: value for name, value in given if type(value) is int and 0 <= value < 10**9}


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _place(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _retry_after(headers: httpx.Headers) -> float | None:
    """Return the seconds of a Retry-After header, given in seconds or as a date (RFC 9110)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return max(0.0, until - time.time())
