"""Adding up what several critics cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from peerwatt.fairness.session import CriticUsage

MOST_LATENCIES = 200
MOST_WORDS = 64
MOST_CHARACTERS = 200
COUNTS = ("calls", "retries", "repaired", "cache_hits", "prompt_tokens", "completion_tokens")
REASONS = ("invalid", "failed")


def merged(usages: Sequence[CriticUsage]) -> CriticUsage:
    """Return what all of `usages` cost together; who is made of these critics counts the slots.

    The dollars are unknown if those of any critic that sent a request are.
    """
    bills = [usage.dollars for usage in usages if usage.calls or usage.dollars is not None]
    known = [bill for bill in bills if bill is not None]
    capped = "; ".join(dict.fromkeys(usage.capped for usage in usages if usage.capped))
    sums: dict[str, Any] = {name: sum(getattr(usage, name) for usage in usages) for name in COUNTS}
    for name in REASONS:
        sums[name] = dict(sum((Counter(getattr(usage, name)) for usage in usages), Counter()))
    return CriticUsage(
        **sums,
        dollars=sum(known) if bills and len(known) == len(bills) else None,
        seconds=sum(usage.seconds for usage in usages),
        latencies=tuple(x for usage in usages for x in usage.latencies)[:MOST_LATENCIES],
        models=_each_once(usage.models for usage in usages),
        dropped=_each_once(usage.dropped for usage in usages),
        capped=capped[:MOST_CHARACTERS] or None,
    )


def _each_once(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for words in lists for word in words))[:MOST_WORDS]
