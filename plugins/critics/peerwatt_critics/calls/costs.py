"""What a request costs: at most, before it is sent, and in fact, as far as it can be believed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from peerwatt_critics.calls.exchange import Prices, Reply, Request
from peerwatt_critics.calls.ledger import Cost

PER_MESSAGE = 64
"""Tokens that a message may take beside its text."""
INSANE = 100
"""Reported usage above this multiple of the upper bound is not believed."""
MOST_DOLLARS = 1000.0
"""A client's word that one request cost more is not believed."""
MOST_PRICE = 0.01
"""Dollars per token; a client's price above it is not believed."""
NANO = 10**9


class Usage(NamedTuple):
    """Tokens and money of one request."""

    prompt_tokens: int
    completion_tokens: int
    nanodollars: int | None
    """Billionths of a dollar, rounded up; None if the price is not known."""
    assumed: bool = False
    """Whether the tokens are the most that they can be, for nobody told."""

    @property
    def cost(self) -> Cost:
        """What the ledger counts for it."""
        tokens = self.prompt_tokens + self.completion_tokens
        unknown = self.nanodollars is None
        return Cost(
            1, tokens, self.nanodollars or 0, self.prompt_tokens, int(unknown), int(self.assumed)
        )


def told(exchange: Mapping[str, Any]) -> Usage:
    """Return what an exchange cost that a transcript tells of."""
    dollars = exchange["dollars"]
    return Usage(
        exchange["prompt_tokens"],
        exchange["completion_tokens"],
        None if dollars is None else round(dollars * NANO),
        exchange["assumed"],
    )


def bound(request: Request, prices: Prices | None) -> Usage:
    """Return the most that `request` can cost: no tokenizer makes more tokens than bytes."""
    texts = [text for message in request.messages for text in message.values()]
    prompt = sum(len(text.encode(errors="replace")) for text in texts)
    prompt += PER_MESSAGE * len(request.messages) + len(json.dumps(request.schema))
    return _priced(prompt, request.reply_tokens, prices)._replace(assumed=True)


def actual(reply: Reply, most: Usage, prices: Prices | None, stated: bool) -> Usage:
    """Return what `reply` cost: as reported where that is sane, else the `most` that it can be.

    `stated` prices are the user's; they count more than what the client says of dollars.
    """
    tokens = INSANE * most.cost.tokens
    prompt, completion = reply.prompt_tokens, reply.completion_tokens
    sent = prompt if _count(prompt, tokens) else None
    received = completion if _count(completion, tokens) else None
    usage = _priced(
        most.prompt_tokens if sent is None else sent,
        most.completion_tokens if received is None else received,
        prices,
    )._replace(assumed=sent is None or received is None)
    dollars: Any = reply.dollars
    known = not stated and isinstance(dollars, int | float) and not isinstance(dollars, bool)
    highest = MOST_DOLLARS if prices is None else INSANE * (most.nanodollars or 0) / NANO
    if known and math.isfinite(dollars) and 0 <= dollars <= highest:
        return usage._replace(nanodollars=_nano(dollars))
    return usage


def believed(prices: Prices | None) -> Prices | None:
    """Return a client's prices, or None if they make no sense."""
    if prices is None or not all(0 <= price <= MOST_PRICE for price in prices):
        return None
    return prices


def _count(value: Any, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _priced(prompt: int, completion: int, prices: Prices | None) -> Usage:
    if prices is None:
        return Usage(prompt, completion, None)
    dollars = prompt * prices.prompt + completion * prices.completion
    return Usage(prompt, completion, _nano(dollars))


def _nano(dollars: float) -> int:
    return math.ceil(round(dollars * NANO, 3))
