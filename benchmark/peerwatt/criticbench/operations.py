"""What a benchmark took: requests and what came of them, tokens, dollars and seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from peerwatt.criticbench.journal import Journal, total
from peerwatt.criticbench.phases import TIMING, lines_of
from peerwatt.criticbench.record import Latency, Operations
from peerwatt.criticbench.resampling import quantile, rate

MOST_SECONDS = 1000


def operations(phases: Sequence[str], journal: Journal, folder: Path) -> Operations:
    """Return what all attempts at `phases` took, by journal and transcripts in `folder`."""
    usage = {name: found for name in phases if (found := journal.usage(name)) is not None}
    whole = total(list(usage.values()))
    calls = whole.calls if whole else 0
    replies = calls - sum(whole.failed.values()) if whole else 0
    counts = Counter[str]()
    for name in phases:
        counts += _replies(name, journal, folder)
    not_repaired = counts["invalid"] - counts["repaired"]
    dollars = whole.dollars if whole and calls else None
    timing = journal.done(TIMING) or {}
    warm, hits = timing.get("warm", []), timing.get("warm_hits")
    return Operations(
        usage=usage,
        calls=calls,
        retries=whole.retries if whole else 0,
        replies=replies,
        first_replies=counts["first"],
        first_invalid=counts["invalid"],
        not_repaired=not_repaired,
        refused=counts["refused"],
        failed_rate=rate(calls - replies, calls),
        invalid_rate=rate(counts["invalid"], counts["first"]),
        invalid_after_repair=rate(not_repaired, counts["first"]),
        refusal_rate=rate(counts["refused"], counts["first"]),
        prompt_tokens_per_call=whole.prompt_tokens / calls if whole and calls else None,
        completion_tokens_per_call=whole.completion_tokens / calls if whole and calls else None,
        dollars=dollars,
        dollars_per_1000_calls=None if dollars is None else 1000 * dollars / calls,
        cache_hits=whole.cache_hits if whole else 0,
        cache_hit_rate=hits / len(warm) if hits is not None and calls and warm else None,
        cold=_latency(timing.get("cold", [])),
        warm=_latency(warm),
    )


def _replies(phase: str, journal: Journal, folder: Path) -> Counter[str]:
    """Count first replies, those that could not be used, refusals and repairs that helped.

    A repair counts if the reply that it mends was counted, in whatever attempt: one that another
    benchmark or run had paid for is not. Exchanges of which a killed attempt had not yet told the
    cost are left out here as they are there.
    """
    counts = Counter[str]()
    mendable = 0  # invalid replies that no repair was sent for
    for attempt, calls in journal.calls(phase).items():
        for line in islice(lines_of(folder, phase, attempt, "exchange"), calls):
            if line.get("reply") is None:
                continue
            problem = line.get("problem")
            if not line.get("repair"):
                counts["first"] += 1
                counts["invalid"] += bool(problem)
                counts["refused"] += problem == "refused"
                mendable += bool(problem) and problem != "refused"
            elif mendable:
                mendable -= 1
                counts["repaired"] += not problem
    return counts


def _latency(seconds: Sequence[float]) -> Latency:
    kept = [float(value) for value in seconds][:MOST_SECONDS]
    return Latency(p50=quantile(kept, 0.5), p95=quantile(kept, 0.95), seconds=kept)
