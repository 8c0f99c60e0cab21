"""Counts of what a critic's calls came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from peerwatt.errors import shown
from peerwatt.fairness.session import MOST_LATENCIES, MOST_NAMES, CriticUsage
from peerwatt_critics.calls.ledger import Cost


@dataclass
class Tally:
    """Running counts of one run; costs hold what is reserved for requests under way."""

    calls: int = 0
    retries: int = 0
    repaired: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    nanodollars: int = 0
    unpriced: int = 0
    """Requests whose price is not known."""
    assumed: int = 0
    """Requests whose tokens are only known to be at most so many."""
    seconds: float = 0.0
    invalid: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    def count(self, cost: Cost, sign: int = 1) -> None:
        """Add what requests cost, apart from their number, or take it off again."""
        self.prompt_tokens += sign * cost.prompt_tokens
        self.completion_tokens += sign * (cost.tokens - cost.prompt_tokens)
        self.nanodollars += sign * cost.nanodollars
        self.unpriced += sign * cost.unpriced
        self.assumed += sign * cost.assumed

    def count_reply(self, model: str, seconds: float) -> None:
        """Count a reply that took so many seconds."""
        if len(self.latencies) < MOST_LATENCIES:
            self.latencies.append(seconds)
        name = shown(model, 190)
        if name not in self.models and len(self.models) < MOST_NAMES:
            self.models.append(name)

    def count_again(self, exchange: Mapping[str, Any]) -> None:
        """Count an exchange that a transcript tells of, apart from what it cost."""
        self.retries += exchange["attempt"] > 0
        if exchange["reply"] is None:
            self.failed[exchange["problem"]] += 1
            return
        self.count_reply(exchange["model"], exchange["seconds"])
        if exchange["problem"]:
            self.invalid[exchange["problem"]] += 1
        else:
            self.repaired += exchange["repair"]

    def usage(self, capped: str | None, dropped: tuple[str, ...]) -> CriticUsage:
        """Return the counts as recorded; those of slots are left at 0."""
        return CriticUsage(
            calls=self.calls,
            retries=self.retries,
            repaired=self.repaired,
            invalid=dict(self.invalid),
            failed=dict(self.failed),
            cache_hits=self.cache_hits,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            dollars=None if self.unpriced else self.nanodollars / 1e9,
            assumed=self.assumed,
            seconds=self.seconds,
            latencies=tuple(self.latencies),
            models=tuple(self.models),
            dropped=tuple(shown(name, 190) for name in dropped),
            capped=capped,
        )
