"""A language model of any provider, asked through litellm."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import logging
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import CriticSession, OpenCritic
from peerwatt_critics.calls.exchange import Prices, Reply, Request, Transport, TransportError
from peerwatt_critics.calls.opened import AskedCritic
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.redact import Redact
from peerwatt_critics.openai_http import (
    OPENAI,
    chat_reply,
    checked_model,
    count,
    guard,
    response_format,
    tried,
    usable_key,
)

if TYPE_CHECKING:
    from peerwatt_critics.calls.guard import Errand


class Provider(NamedTuple):
    """Where litellm's provider is, and which variable holds its key by custom."""

    api_base: str = ""
    key: str = ""


PROVIDERS = {
    "anthropic": Provider("https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "cerebras": Provider("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": Provider("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "hosted_vllm": Provider(),
    "lm_studio": Provider("http://127.0.0.1:1234/v1"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "nvidia_nim": Provider("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434"),
    "ollama_chat": Provider("http://127.0.0.1:11434"),
    "openai": Provider(OPENAI, "OPENAI_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "perplexity": Provider("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "sambanova": Provider("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "together_ai": Provider("https://api.together.ai/v1", "TOGETHERAI_API_KEY"),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY"),
}
"""Providers whose requests all go where they are told to; each is tested."""

ENVIRONMENT = {
    "LITELLM_MODE": "PRODUCTION",  # otherwise it reads a .env file
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise it fetches prices, and so on
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
}
"""What litellm must find before it is imported, so that it contacts nobody."""

MISSING = "critic llm needs litellm, which is not installed; run: pip install 'peerwatt[llm]'."

FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "tool_calls": "stop",
    "STOP": "stop",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "refusal": "content_filter",
    "SAFETY": "content_filter",
}
"""Why replies end, in the words of other providers: in those of OpenAI."""


@dataclass(frozen=True)
class LlmCritic(CallOptions):
    """Asks a model through litellm; `model` is "provider/name", such as "openai/gpt-4o-mini".

    The provider's own address and the key in its usual variable are taken unless `api_base` is
    given. Any other server gets a key only if `api_key_env` names its variable.
    """

    def open(self, session: CriticSession) -> OpenCritic:
        """Start to score for the length of one run.

        Raises:
            PeerWattError: an option is missing or cannot work, or litellm is not installed.
        """
        return AskedCritic(self, self._loaded, session)

    def check(self) -> None:
        """Open and close the critic without a run, so that what cannot work is told before one.

        litellm is imported only where a limit on dollars needs its prices.

        Raises:
            PeerWattError: as `open`.
        """
        if importlib.util.find_spec("litellm") is None:
            raise PeerWattError(MISSING)
        tried(self, self._transport)

    def known_prices(self) -> Prices | None:
        """Return the prices that are stated, or else those of litellm's list, if it is there."""
        stated = self.prices()
        if stated is not None or self.api_base:
            return stated
        try:
            return _listed(fenced_litellm(), self.model)
        except PeerWattError:
            return None

    def _transport(self, redact: Redact) -> LitellmTransport:
        return LitellmTransport(self, redact)

    def _loaded(self, redact: Redact) -> Transport:
        transport = self._transport(redact)
        transport.load()
        return transport


class LitellmTransport:
    """Has litellm write the requests and read the replies of each provider; a guard sends them."""

    def __init__(self, options: CallOptions, redact: Redact) -> None:
        """Find out where requests go; nothing is imported or sent yet.

        Raises:
            PeerWattError: the provider is unknown or has no address, or the key's variable is not
                set.
        """
        name, _, model = options.model.partition("/")
        provider = PROVIDERS.get(name)
        if provider is None or not model:
            raise PeerWattError(
                f"critic.model '{shown(options.model, 60)}' names no provider that requests can be "
                f"confined to; write provider/model with one of {', '.join(PROVIDERS)} (openai "
                "with --critic.api-base for any server that speaks its protocol)."
            )
        base = options.api_base.rstrip("/") or provider.api_base
        if not base:
            raise PeerWattError(
                f"critic.api_base is empty, and {name} has no usual address; name the server's."
            )
        self._options = options
        self._provider = name
        self._base = base
        self._known = not options.api_base
        key = usable_key(options, provider.key if self._known else "")
        self._guard = guard(base, key, options.timeout, redact)
        # A placeholder where there is none, for litellm would look for one elsewhere.
        self._key = key or "none"
        self.dropped: tuple[str, ...] = ()
        self.identity: Mapping[str, Any] = {
            "client": "llm",
            "api_base": base,
            "model": options.model,
        }

    @functools.cached_property
    def _litellm(self) -> Any:
        return fenced_litellm()

    def load(self) -> None:
        """Import litellm, which takes seconds.

        Raises:
            PeerWattError: it is not installed, or cannot be kept from the network.
        """
        _ = self._litellm

    def prices(self) -> Prices | None:
        """Return the prices of litellm's list; None if it has none for this model and address."""
        if not self._known:
            return None  # whoever serves the model under another address asks other prices
        return _listed(self._litellm, self._options.model)

    async def complete(self, request: Request) -> Reply:
        """Send `request` once.

        Raises:
            TransportError: there is no reply.
        """
        from peerwatt_critics.calls.guard import Errand

        options = self._options
        errand = Errand(self._guard)
        sampling = {"temperature": options.temperature, "seed": options.model_seed}
        response: Any = None
        cause = "no request"
        try:
            response = await self._litellm.acompletion(
                model=options.model,
                messages=[dict(message) for message in request.messages],
                api_base=self._base,
                api_key=self._key,
                client=_client(errand, self._base, self._key),
                max_tokens=request.reply_tokens,
                response_format=response_format(options, request),
                drop_params=True,
                max_retries=0,
                num_retries=0,
                timeout=options.timeout + 60,  # the guard's comes first, and is exact
                **{name: value for name, value in sampling.items() if value is not None},
            )
        except Exception as error:
            cause = type(error).__name__  # its text may hold anything
        if errand.error is not None:
            raise errand.error from None
        if errand.reply is None:
            raise TransportError(
                "unguarded",
                f"litellm does not send requests to {self._provider} as it is told to ({cause}); "
                "use --critic openai-http, or another version of litellm",
                fatal=True,
                charged=False,
            )
        self._note_dropped(errand.request, request)
        reply = _reply(errand.reply, options)
        if response is None:
            raise TransportError("malformed", f"litellm cannot read the reply ({cause})")
        text = response.choices[0].message.content
        return dataclasses.replace(reply, text=text if isinstance(text, str) else "")

    async def close(self) -> None:
        """Close all connections."""
        await self._guard.close()

    def _note_dropped(self, body: bytes, request: Request) -> None:
        """Note which options the body of a request does not hold; quotes in texts are escaped."""
        options = self._options
        names = "|".join(map(re.escape, request.schema.get("properties", {})))
        for option, wanted, held in (
            ("temperature", options.temperature is not None, '"temperature"'),
            ("model_seed", options.model_seed is not None, '"(random_)?seed"'),
            ("response_format", options.response_format == "json-schema", f'"({names})"'),
        ):
            if wanted and not re.search(held.encode(), body):
                self.dropped = tuple(sorted({*self.dropped, option}))


def fenced_litellm() -> Any:
    """Import litellm so that it contacts, prints and remembers nothing; return the module.

    What it sends without being told how, such as questions about a model before the first call,
    is refused for the rest of the process.

    Raises:
        PeerWattError: it is not installed, or cannot be kept from the network.
    """
    for name in [name for name in os.environ if name.startswith(("LITELLM_", "OPENAI_LOG"))]:
        if "KEY" not in name:
            del os.environ[name]
    os.environ.update(ENVIRONMENT)
    try:
        import litellm
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler
    except ModuleNotFoundError as error:
        if error.name != "litellm":
            raise
        raise PeerWattError(MISSING) from None
    from peerwatt_critics.calls.guard import Closed

    makers = {"create_async_transport", "_create_async_transport"} & set(vars(AsyncHTTPHandler))
    if not makers:
        raise PeerWattError(
            f"litellm {importlib.metadata.version('litellm')} cannot be kept from other addresses; "
            "install a version that `pip install 'peerwatt[llm]'` takes, or use --critic "
            "openai-http."
        )
    for maker in makers:
        setattr(AsyncHTTPHandler, maker, staticmethod(lambda *_, **__: Closed()))
    litellm.sync_transport = Closed()
    litellm.suppress_debug_info = True
    litellm.set_verbose = False
    litellm.cache = None
    for callbacks in ("callbacks", "input_callback", "success_callback", "failure_callback"):
        setattr(litellm, callbacks, [])
        setattr(litellm, f"_async_{callbacks}", [])
    for careless in ("Pydantic serializer warnings", "coroutine '.*completion' was never awaited"):
        warnings.filterwarnings("ignore", message=careless)
    for logger in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
    return litellm


def _listed(litellm: Any, model: str) -> Prices | None:
    """Return the prices that litellm lists for "provider/model", if it does."""
    provider, _, name = model.partition("/")
    for listed in (litellm.model_cost.get(model, {}), litellm.model_cost.get(name, {})):
        costs = (listed.get("input_cost_per_token"), listed.get("output_cost_per_token"))
        if listed.get("litellm_provider") == provider and all(costs):
            return Prices(*map(float, costs))
    return None


def _client(errand: Errand, api_base: str, key: str) -> Any:
    """Return what litellm takes for its own HTTP client and for OpenAI's alike."""
    import httpx
    import openai
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    http_client = httpx.AsyncClient(transport=errand, trust_env=False)

    class Client(AsyncHTTPHandler):
        sdk = openai.AsyncOpenAI(
            api_key=key, base_url=api_base, http_client=http_client, max_retries=0
        )

        def create_client(self, *_: Any, **__: Any) -> httpx.AsyncClient:
            return http_client

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sdk, name)

    return Client()


def _reply(body: Mapping[str, Any], options: CallOptions) -> Reply:
    """Return what the body of a response says, all but the text, which litellm reads.

    Raises:
        TransportError: it holds no reply, or one of another model.
    """
    if "choices" in body:
        reply = chat_reply(body, options)
        return dataclasses.replace(reply, finish=FINISHES.get(reply.finish, reply.finish))
    blocks = body.get("candidates" if "candidates" in body else "content", [{}])
    if not isinstance(blocks, list) or not blocks or not isinstance(blocks[0], dict):
        raise TransportError("no-choice", "the reply holds no choice", retry=True)
    usage = next(
        (body[name] for name in ("usage", "usageMetadata") if isinstance(body.get(name), dict)),
        body,
    )
    finish = _first(body, "done_reason", "stop_reason") or blocks[0].get("finishReason")
    finish = shown(finish, 40) if isinstance(finish, str) else ""
    return Reply(
        text="",
        finish=FINISHES.get(finish, finish),
        model=checked_model(_first(body, "model", "modelVersion"), options),
        prompt_tokens=count(_first(usage, "input_tokens", "prompt_eval_count", "promptTokenCount")),
        completion_tokens=count(
            _first(usage, "output_tokens", "eval_count", "candidatesTokenCount")
        ),
        refusal=finish in ("refusal", "SAFETY"),
    )


def _first(body: Mapping[str, Any], *names: str) -> Any:
    return next((body[name] for name in names if name in body), None)
