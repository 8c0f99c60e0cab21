"""A language model behind any server that speaks OpenAI's protocol, asked over plain HTTP."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import CriticSession, OpenCritic
from peerwatt_critics.calls.exchange import Prices, Reply, Request, Transport, TransportError
from peerwatt_critics.calls.opened import AskedCritic, TransportFactory
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.redact import Redact

if TYPE_CHECKING:
    from peerwatt_critics.calls.guard import Guard

OPENAI = "https://api.openai.com/v1"


@dataclass(frozen=True)
class OpenaiHttpCritic(CallOptions):
    """Asks a model by OpenAI's protocol (`/chat/completions`), which most servers speak.

    Without `api_base` that is OpenAI itself, and the key comes from OPENAI_API_KEY. Any other
    server gets a key only if `api_key_env` names its variable.
    """

    def open(self, session: CriticSession) -> OpenCritic:
        """Start to score for the length of one run.

        Raises:
            PeerWattError: an option is missing or cannot work, or httpx is not installed.
        """
        return AskedCritic(self, self._transport, session)

    def check(self) -> None:
        """Open and close the critic without a run, so that what cannot work is told before one.

        Raises:
            PeerWattError: as `open`.
        """
        tried(self, self._transport)

    def _transport(self, redact: Redact) -> Transport:
        return HttpTransport(self, redact)


class HttpTransport:
    """Sends requests with httpx."""

    dropped: tuple[str, ...] = ()

    def __init__(self, options: CallOptions, redact: Redact) -> None:
        """Prepare connections; nothing is sent yet.

        Raises:
            PeerWattError: httpx is not installed, or the key's variable is not set.
        """
        self._options = options
        base = options.api_base.rstrip("/") or OPENAI
        self._address = f"{base}/chat/completions"
        key = usable_key(options, "" if options.api_base else "OPENAI_API_KEY")
        self._guard = guard(base, key, options.timeout, redact)
        self._headers = {"Accept": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        # OpenAI's newer models refuse the old name, which other servers still want.
        self._limit = "max_completion_tokens" if base == OPENAI else "max_tokens"
        self.identity: Mapping[str, Any] = {
            "client": "openai-http",
            "api_base": base,
            "model": options.model,
        }

    def prices(self) -> Prices | None:
        """Return None: the protocol tells no prices."""
        return None

    async def complete(self, request: Request) -> Reply:
        """Send `request` once.

        Raises:
            TransportError: there is no reply.
        """
        import httpx

        options = self._options
        body: dict[str, Any] = {
            "model": options.model,
            "messages": list(request.messages),
            self._limit: request.reply_tokens,
        }
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if options.model_seed is not None:
            body["seed"] = options.model_seed
        if (wanted := response_format(options, request)) is not None:
            body["response_format"] = wanted
        sent = httpx.Request("POST", self._address, headers=self._headers, json=body)
        return chat_reply(await self._guard.send(sent), options)

    async def close(self) -> None:
        """Close all connections."""
        await self._guard.close()


def tried(options: CallOptions, transport: TransportFactory) -> None:
    """Open a critic that asks, and close it; nothing is sent and nothing is written.

    Raises:
        PeerWattError: it cannot be opened.
    """
    without_cache = dataclasses.replace(options, cache="none")
    AskedCritic(without_cache, transport, CriticSession(np.random.default_rng(0))).close(False)


def guard(api_base: str, key: str | None, timeout: float, redact: Redact) -> Guard:
    """Return the guarded way to `api_base`.

    Raises:
        PeerWattError: httpx is not installed.
    """
    try:
        from peerwatt_critics.calls.guard import Guard
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise PeerWattError(
            "critic openai-http needs httpx, which is not installed; run: "
            "pip install 'peerwatt[http]'."
        ) from None
    return Guard(api_base, key, timeout, redact)


def usable_key(options: CallOptions, usual: str) -> str | None:
    """Return the key that requests carry; `usual` is its variable if the options name none.

    Raises:
        PeerWattError: there is none under the name, or it cannot be sent in a header.
    """
    key = options.key(usual)
    if key is None and usual:
        raise PeerWattError(
            f"{usual} is not set; export it, or name another variable by --critic.api-key-env."
        )
    if key is not None and (not key.isascii() or not key.isprintable() or " " in key):
        raise PeerWattError(
            f"the environment variable {options.api_key_env or usual} holds spaces, line ends or "
            "letters that no key has; export the key alone."
        )
    return key


def response_format(options: CallOptions, request: Request) -> dict[str, Any] | None:
    """Return OpenAI's `response_format` for a request; None: none is wanted."""
    if options.response_format == "none":
        return None
    if options.response_format == "json-object":
        return {"type": "json_object"}
    scores = {"name": "scores", "strict": True, "schema": request.schema}
    return {"type": "json_schema", "json_schema": scores}


def chat_reply(body: Mapping[str, Any], options: CallOptions) -> Reply:
    """Return the reply that the body of a chat completion holds.

    Raises:
        TransportError: it holds none, or one of another model.
    """
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise TransportError("no-choice", "the reply holds no choice", retry=True)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    text, refusal = message.get("content"), message.get("refusal")
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    finish = choice.get("finish_reason")
    return Reply(
        text=text if isinstance(text, str) else "",
        finish=shown(finish, 40) if isinstance(finish, str) else "",
        model=checked_model(body.get("model"), options),
        prompt_tokens=count(usage.get("prompt_tokens")),
        completion_tokens=count(usage.get("completion_tokens")),
        refusal=isinstance(refusal, str) and bool(refusal),
    )


def count(value: Any) -> int | None:
    """Return `value` if it is a number of tokens, else None."""
    return value if type(value) is int and value >= 0 else None


def checked_model(given: Any, options: CallOptions) -> str:
    """Return the name of the model that replied, if it is the one that was asked.

    A reply may leave out the path before the name, and add the date or number of a version after
    it: "gpt-4o-2024-08-06" is gpt-4o, "gpt-4o-mini" is not.

    Raises:
        TransportError: it is another.
    """
    name = given if isinstance(given, str) else ""
    asked = options.model.split("/")[-1].removesuffix("-latest")
    replied = name.split("/")[-1].removesuffix("-latest")
    version = re.fullmatch(re.escape(asked) + r"(-\d[\d-]*)?", replied)
    if version is None and (not name or name != options.reply_model):
        raise TransportError(
            "other-model",
            f"the reply is of the model '{shown(name, 60)}', not of '{options.model}'; if that is "
            "the same, say --critic.reply-model with the name of the reply",
        )
    return shown(name, 200)
