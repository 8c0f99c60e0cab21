"""Adding up what several critics did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from peerwatt.fairness.session import CriticUsage

MOST_LATENCIES = 200
MOST_WORDS = 64
MOST_CHARACTERS = 200
COUNTS = (
    *("slots", "undefined", "skipped", "scored", "student", "fallback"),
    *("calls", "retries", "repaired", "cache_hits", "prompt_tokens", "completion_tokens"),
)
REASONS = ("abstained", "invalid", "failed")


def merged(usages: Sequence[CriticUsage]) -> CriticUsage:
    """Return the sum of `usages`, in which a slot counts once for each critic that saw it.

    The dollars are unknown if those of any critic that sent a request are. What one critic tells of
    a student stays out: there may be several.
    """
    bills = [usage.dollars for usage in usages if usage.calls or usage.dollars is not None]
    known = [bill for bill in bills if bill is not None]
    capped = "; ".join(dict.fromkeys(usage.capped for usage in usages if usage.capped))
    sums: dict[str, int] = {
        name: sum(getattr(usage, name) for usage in usages) for name in COUNTS
    }
    reasons = {
        name: dict(sum((Counter(getattr(usage, name)) for usage in usages), Counter()))
        for name in REASONS
    }
    return CriticUsage(
        **sums,
        **reasons,
        dollars=sum(known) if bills and len(known) == len(bills) else None,
        seconds=sum(usage.seconds for usage in usages),
        latencies=tuple(x for usage in usages for x in usage.latencies)[:MOST_LATENCIES],
        models=_each_once(usage.models for usage in usages),
        dropped=_each_once(usage.dropped for usage in usages),
        capped=capped[:MOST_CHARACTERS] or None,
    )


def _each_once(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for words in lists for word in words))[:MOST_WORDS]
