"""The options that every critic shares that asks a language model."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import Forecast
from peerwatt_critics.calls import forecast
from peerwatt_critics.calls.exchange import Prices
from peerwatt_critics.calls.redact import SHORTEST
from peerwatt_critics.prompting import load_prompt

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}")
VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
CACHE_FILE = "critic-cache.sqlite"
OPERATIONAL = {"operational": True}
"""Metadata of options that change no result: they stay out of records."""


@dataclass(frozen=True)
class CallOptions:
    """Which model is asked, how, how often, and what that may cost."""

    model: str = ""
    """Name of the model, as the server or provider knows it."""
    api_base: str = ""
    """Address of the server, such as http://127.0.0.1:8080/v1; empty: the provider's own."""
    prompt: str = "households-v1"
    """Name of a prompt, or path of a prompt file of your own."""
    slots_per_call: int = 1
    """Slots that share one request."""
    every: int = 1
    """Score every k-th slot in which trade is feasible; the others stay unscored."""
    share: float = 1.0
    """Score this share of the slots, drawn at random; the others stay unscored."""
    temperature: float | None = 0.0
    """Sampling temperature; None leaves it to the model, as some models demand."""
    model_seed: int | None = None
    """Seed of the model's sampling, if the server takes one."""
    reply_tokens: int = 160
    """Most tokens that a reply may have, per slot."""
    rationale: bool = False
    """Ask for a short rationale beside the scores; it is kept in the transcript."""
    response_format: Literal["json-schema", "json-object", "none"] = "json-schema"
    """How the server is told to reply in JSON; what it replies is checked here in any case."""
    fallback: Literal["abstain", "rule"] = "abstain"
    """What stands in for an answer that cannot be had: no score, or that of the rule critic."""
    on_cap: Literal["fallback", "stop"] = "fallback"
    """When a limit is reached: go on training without asking, or end the run with an error."""
    max_calls: int | None = None
    """Most requests that all runs of an entry may send together, failed ones included."""
    max_tokens: int | None = None
    """Most tokens, of prompts and replies, that all runs of an entry may use together."""
    max_dollars: float | None = None
    """Most dollars that all runs of an entry may spend together; needs known prices."""
    max_seconds: float | None = None
    """Most seconds that one run may wait for answers."""
    give_up_after: int = 50
    """Ask no more after this many questions in a row without a usable answer."""
    price_in: float | None = None
    """Dollars per million tokens of prompts, for a model whose price is not known."""
    price_out: float | None = None
    """Dollars per million tokens of replies, for a model whose price is not known."""
    reply_model: str = ""
    """Another name that replies may give for the model."""
    concurrency: int = 8
    """Most requests under way at once."""
    timeout: float = 60.0
    """Seconds after which a request without a whole reply counts as failed."""
    retries: int = 4
    """How often a request that failed is sent again, if that may help."""
    cache: str = field(default="", metadata=OPERATIONAL)
    """SQLite file of answers; empty: one shared by all runs of the results folder, "none": none."""
    api_key_env: str = field(default="", metadata=OPERATIONAL)
    """Name of the environment variable that holds the key; empty: the provider's usual one."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work, in one sentence."""
        for name in ("model", "reply_model"):
            value = getattr(self, name)
            if value and not MODEL_NAME.fullmatch(value):
                raise PeerWattError(
                    f"critic.{name} '{shown(value, 60)}' is no name of a model; write letters, "
                    "digits and . _ : / @ + - only, at most 200."
                )
        self._check_address()
        if self.api_key_env and not VARIABLE_NAME.fullmatch(self.api_key_env):
            # Not shown: it may be the key itself.
            raise PeerWattError(
                "critic.api_key_env is no name of an environment variable; name the variable that "
                "holds the key, such as OPENAI_API_KEY, never the key."
            )
        self._whole("slots_per_call", 1, 64)
        self._whole("every", 1, 10**9)
        self._whole("model_seed", 0, 2**63 - 1)
        self._whole("reply_tokens", 1, 100_000)
        self._whole("max_calls", 0, 10**12)
        self._whole("max_tokens", 0, 10**15)
        self._whole("give_up_after", 1, 10**9)
        self._whole("concurrency", 1, 256)
        self._whole("retries", 0, 20)
        self._number("share", 0, 1, positive=True)
        self._number("temperature", 0, 2)
        self._number("max_dollars", 0, 1e6)
        self._number("max_seconds", 0, 1e9, positive=True)
        self._number("price_in", 0, 1e4)
        self._number("price_out", 0, 1e4)
        self._number("timeout", 0, 3600, positive=True)
        self._one_of("response_format", ("json-schema", "json-object", "none"))
        self._one_of("fallback", ("abstain", "rule"))
        self._one_of("on_cap", ("fallback", "stop"))
        if self.cache.lower() in ("off", "no", "false"):
            raise PeerWattError(
                f"critic.cache {self.cache!r} would be a file of that name: did you mean 'none'? "
                "If not, write its folder too."
            )
        if (self.price_in is None) != (self.price_out is None):
            given, other = ("in", "out") if self.price_out is None else ("out", "in")
            raise PeerWattError(
                f"critic.price_{given} is given without critic.price_{other}; give both, or "
                "neither for prices as the client knows them."
            )

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 of the file that each option names.

        Raises:
            PeerWattError: there is no such prompt.
        """
        return {"prompt": load_prompt(self.prompt).digest}

    def paraphrased(self) -> Self | None:
        """Return the critic that asks in other words; None if its prompt has no paraphrase."""
        other = load_prompt(self.prompt).paraphrase
        return dataclasses.replace(self, prompt=other) if other else None

    def key(self, usual: str = "") -> str | None:
        """Return the key that requests carry, from the environment only; None: they carry none.

        `usual` is the variable that counts when `api_key_env` names none.

        Raises:
            PeerWattError: the variable that `api_key_env` names is not set, or the key is so short
                that it could not be hidden.
        """
        if self.api_key_env and not os.environ.get(self.api_key_env):
            raise PeerWattError(
                f"critic.api_key_env names {self.api_key_env}, but no such environment variable is "
                "set; export it before the run."
            )
        name = self.api_key_env or usual
        key = os.environ.get(name) or None
        if key is not None and len(key) < SHORTEST:
            raise PeerWattError(
                f"the environment variable {name} holds a key of less than {SHORTEST} characters, "
                "which cannot be kept secret; export a longer key, or none."
            )
        return key

    def prices(self) -> Prices | None:
        """Return the prices that the options state, in dollars per token."""
        if self.price_in is None or self.price_out is None:
            return None
        return Prices(self.price_in / 1e6, self.price_out / 1e6)

    def known_prices(self) -> Prices | None:
        """Return the prices that will hold, in dollars per token, as far as they are known."""
        return self.prices()

    def forecast(self, slots: int) -> Forecast:
        """Return what answers on so many slots cost at most, if none is in the cache.

        Caps hold for all runs of an entry, so `slots` are best those of all of them.
        """
        return forecast.forecast(
            load_prompt(self.prompt),
            forecast.questions(slots, self.every, self.share),
            rationale=self.rationale,
            reply_tokens=self.reply_tokens,
            prices=self.known_prices(),
            max_calls=self.max_calls,
            max_tokens=self.max_tokens,
            max_dollars=self.max_dollars,
        )

    def cache_file(self, store: Path | None) -> Path | None:
        """Return where answers are kept, given the folder that runs share; None keeps none."""
        if self.cache == "none":
            return None
        if self.cache:
            return Path(self.cache)
        return None if store is None else store / CACHE_FILE

    def _check_address(self) -> None:
        """Refuse an `api_base` that is no plain address, or that holds secrets."""
        if not self.api_base:
            return
        try:
            parts = urlsplit(self.api_base)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host = None
        printable = self.api_base.isascii() and self.api_base.isprintable()
        if host is None or parts.scheme not in ("http", "https") or not printable:
            wrong = "is no address of a server"
        elif "@" in parts.netloc or "?" in self.api_base or "#" in self.api_base:
            wrong = "holds a user, a query or a fragment, which may be secret"
        elif " " in self.api_base or len(self.api_base) > 500:
            wrong = "holds a space or is too long"
        else:
            return
        # Not shown: it may hold a password.
        raise PeerWattError(
            f"critic.api_base {wrong}; write it like http://127.0.0.1:8080/v1 and name the key's "
            "variable with --critic.api-key-env."
        )

    def _whole(self, name: str, low: int, high: int) -> None:
        value: Any = getattr(self, name)
        if value is None and type(self).__dataclass_fields__[name].default is None:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise PeerWattError(
                f"critic.{name} must be a whole number from {low:,} to {high:,}, not "
                f"'{shown(str(value), 40)}'."
            )

    def _number(self, name: str, low: float, high: float, positive: bool = False) -> None:
        value: Any = getattr(self, name)
        if value is None and name not in ("share", "timeout"):
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            not number
            or not math.isfinite(value)
            or not low <= value <= high
            or (positive and value == 0)
        ):
            kind = "a number above" if positive else "a number from"
            raise PeerWattError(
                f"critic.{name} must be {kind} {low:g} {'and at most' if positive else 'to'} "
                f"{high:g}, not '{shown(str(value), 40)}'."
            )

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise PeerWattError(
                f"critic.{name} must be one of {', '.join(choices)}, not '{shown(str(value), 40)}'."
            )
