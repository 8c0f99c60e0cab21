"""What the critic of an entry did in its runs, as the page tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peerwatt.fairness.session import HeldOut, summed
from peerwatt.runs.result import RunResult
from peerwatt_leaderboard.critic_columns import written


def usage_of(results: Sequence[RunResult]) -> dict[str, Any] | None:
    """Return what the critic of an entry did over all its runs; None if it told of nothing."""
    usages = [result.critic_usage for result in results if result.critic_usage is not None]
    if not usages:
        return None
    whole = summed(usages)
    slots = whole.slots
    abstained = sum(whole.abstained.values())
    unknown = whole.dollars is None
    return {
        "runs": len(usages),
        "slots": slots,
        "calls": whole.calls,
        "modelled": whole.modelled,
        "dollars": "at an unknown price" if unknown else f"for ${whole.dollars:,.2f}",
        "abstained": written(abstained / slots if slots else None, "percent"),
        "reasons": ", ".join(f"{n:,} {reason}" for reason, n in sorted(whole.abstained.items())),
        "shares": [
            (title, written(count / slots if slots else None, "percent"))
            for title, count in (
                ("scored by the critic", whole.scored),
                ("scored by its student", whole.student),
                ("scored by the rule critic instead", whole.fallback),
                ("left out on purpose", whole.skipped),
                ("undefined", whole.undefined),
            )
            if count
        ],
        "tokens": whole.prompt_tokens + whole.completion_tokens,
        "models": sorted(whole.models),
        "capped": sorted({usage.capped for usage in usages if usage.capped}),
        "held_out": [_held_out(u.held_out) for u in usages if u.held_out is not None],
    }


def _held_out(held_out: HeldOut) -> str:
    """Tell how well a student imitated its teacher in one run."""
    error, low, high = (
        written(value, "error") for value in (held_out.error, held_out.low, held_out.high)
    )
    return f"{error} [{low}, {high}] on {held_out.slots:,} slots, bound {held_out.bound:g}"
