"""What the critic of an entry did in its runs, as the page tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from peerwatt.fairness.session import HeldOut
from peerwatt.runs.result import RunResult
from peerwatt_leaderboard.critic_columns import written


def usage_of(results: Sequence[RunResult]) -> dict[str, Any] | None:
    """Return what the critic of an entry did over all its runs; None if it told of nothing."""
    usages = [result.critic_usage for result in results if result.critic_usage is not None]
    if not usages:
        return None
    slots = sum(usage.slots for usage in usages)
    abstained = sum(sum(usage.abstained.values()) for usage in usages)
    calls = sum(usage.calls for usage in usages)
    costs = [usage.dollars for usage in usages]
    reasons: Counter[str] = Counter()
    for usage in usages:
        reasons.update(usage.abstained)
    if None in costs:
        dollars = "at an unknown price"
    else:
        dollars = f"for ${sum(cost for cost in costs if cost is not None):,.2f}"
    return {
        "runs": len(usages),
        "slots": slots,
        "calls": calls,
        "dollars": dollars,
        "abstained": written(abstained / slots if slots else None, "percent"),
        "reasons": ", ".join(f"{n:,} {reason}" for reason, n in sorted(reasons.items())),
        "shares": [
            (title, written(count / slots if slots else None, "percent"))
            for title, count in (
                ("scored by the critic", sum(usage.scored for usage in usages)),
                ("scored by its student", sum(usage.student for usage in usages)),
                ("scored by the rule critic instead", sum(usage.fallback for usage in usages)),
                ("left out on purpose", sum(usage.skipped for usage in usages)),
                ("undefined", sum(usage.undefined for usage in usages)),
            )
            if count
        ],
        "tokens": sum(u.prompt_tokens + u.completion_tokens for u in usages),
        "models": sorted({name for usage in usages for name in usage.models}),
        "capped": sorted({usage.capped for usage in usages if usage.capped}),
        "held_out": [_held_out(u.held_out) for u in usages if u.held_out is not None],
    }


def _held_out(held_out: HeldOut) -> str:
    """Tell how well a student imitated its teacher in one run."""
    error, low, high = (
        written(value, "error") for value in (held_out.error, held_out.low, held_out.high)
    )
    return f"{error} [{low}, {high}] on {held_out.slots:,} slots, bound {held_out.bound:g}"
