"""What goes to a model and what comes back, whatever carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True)
class Request:
    """One request for a reply in JSON."""

    messages: tuple[Mapping[str, str], ...]
    """Each with `role` and `content`."""
    schema: Mapping[str, Any]
    """JSON Schema that the reply must fulfil; it is checked here as well."""
    reply_tokens: int
    """Most tokens that the reply may have."""


@dataclass(frozen=True)
class Reply:
    """What a model replied."""

    text: str
    finish: str
    """Why it ended: "stop", "length", "content_filter", or as the server says."""
    model: str
    """The model that says it replied."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    dollars: float | None = None
    """What it cost, as the client knows; None if it does not."""
    refusal: bool = False
    """The model declined to answer."""


class Prices(NamedTuple):
    """Dollars per token."""

    prompt: float
    completion: float


class TransportError(Exception):
    """No reply, or none that could be read.

    Attributes:
        reason: a short name by which such failures are counted, such as "timeout".
        retry: whether the same request may succeed another time.
        retry_after: seconds that the server asked to wait, if it did.
        fatal: whether no request of this run can succeed, as with a wrong key.
        charged: whether the server may count the request as one that it answered; it does not if
            no connection came about or it refused the request (4xx).
    """

    def __init__(
        self,
        reason: str,
        text: str,
        *,
        retry: bool = False,
        retry_after: float | None = None,
        fatal: bool = False,
        charged: bool = True,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry = retry
        self.retry_after = retry_after
        self.fatal = fatal
        self.charged = charged


class Transport(Protocol):
    """Carries requests to one model; used on one event loop only.

    Attributes:
        identity: what tells this model from others in the cache and the transcript: at least
            "client", "api_base" and "model"; nothing secret.
        dropped: names of parameters that were asked for and that the model does not take.
    """

    identity: Mapping[str, Any]
    dropped: tuple[str, ...]

    def prices(self) -> Prices | None:
        """Return the model's prices, if they are known."""
        ...

    async def complete(self, request: Request) -> Reply:
        """Send `request` once.

        Raises:
            TransportError: there is no reply.
        """
        ...

    async def close(self) -> None:
        """Close all connections; called on the loop of `complete`, if that was called."""
        ...
