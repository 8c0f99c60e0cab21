"""What a critic that asks will cost at most, told before a run."""

from __future__ import annotations

import math

from peerwatt.fairness.session import Forecast, Presentation
from peerwatt_critics.calls import costs
from peerwatt_critics.calls.exchange import Prices
from peerwatt_critics.prompting import SAMPLE, Prompt

MOST_HOMES = 64
"""Households of a community that the forecast has room for."""
ROW = 40
"""Bytes that the row of a household takes in a request at most."""


def questions(slots: int, every: int, share: float) -> int:
    """Return how many of `slots` are put to a model at most, but for one run in thousands."""
    possible = -(-slots // every)
    if share == 1.0:
        return possible
    mean = possible * share
    return min(possible, math.ceil(mean + 6.0 * math.sqrt(mean * (1.0 - share)) + 6.0))


def forecast(
    prompt: Prompt,
    count: int,
    *,
    rationale: bool,
    reply_tokens: int,
    prices: Prices | None,
    max_calls: int | None,
    max_tokens: int | None,
    max_dollars: float | None,
) -> Forecast:
    """Return what `count` questions cost at most, each in a request of its own.

    A token is counted for each byte, as when it is reserved: usual texts take a third of that.
    """
    request = prompt.request(
        prompt.canonical(SAMPLE.slots()),
        presentation=Presentation(),
        rationale=rationale,
        reply_tokens=reply_tokens,
    )
    most = costs.bound(request, None)
    sent = most.prompt_tokens + ROW * (MOST_HOMES if prompt.view == "households" else 1)
    calls = count if max_calls is None else min(count, max_calls)
    tokens = calls * sent, calls * most.completion_tokens
    if max_tokens is not None and sum(tokens) > max_tokens:
        kept = max_tokens * tokens[0] // sum(tokens)
        tokens = kept, max_tokens - kept
    dollars = None
    if prices is not None:
        dollars = round(tokens[0] * prices.prompt + tokens[1] * prices.completion, 9)
        dollars = dollars if max_dollars is None else min(dollars, max_dollars)
    return Forecast(calls, *tokens, dollars if calls else 0.0)
