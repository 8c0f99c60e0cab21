"""Scripted traders: nothing is learned, so every number must be the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.entries import check_same_scenarios
from peerwatt.runs.regression.findings import Finding
from peerwatt.runs.regression.golden import alike
from peerwatt.runs.regression.pairing import Pair
from peerwatt.runs.result import EpisodeMetrics, RunResult
from peerwatt.runs.summary import run_values

MONEY = ("cost", "grid_cost", "savings", "grid_bills")
"""Whole ticks times a unit: equal on every machine. What else there is are sums and means."""


def compare_scripted(pair: Pair) -> Finding:
    """Hold all common seeds of a scripted trader against each other."""
    base, new = pair.runs("base"), pair.runs("new")
    seeds = pair.seeds
    differences = [
        (seed, text) for seed in seeds for text in differing(base[seed].result, new[seed].result)
    ]
    if not differences:
        episodes = pair.base.first.test.episodes
        text = f"the same to the last tick in {len(seeds)} seeds of {episodes} episodes."
        return Finding("scripted", pair.title, "no worse", text)
    seed, text = differences[0]
    changed = len({seed for seed, _ in differences})
    was, now = (run_values(runs[seed].result)["welfare"] for runs in (base, new))
    sentence = (
        f"a scripted trader plays otherwise in {changed} of {len(seeds)} seeds; in seed {seed} "
        f"welfare was {_number(was)} and is {_number(now)}; first difference: {text}."
    )
    return Finding("scripted", pair.title, "regression", sentence)


def other_scenarios(pair: Pair) -> Finding | None:
    """Return a finding if the runs of a pair were not evaluated on the same scenarios."""
    try:
        check_same_scenarios(pair.new.runs[0], pair.base.runs[0])
    except PeerWattError as error:
        text = f"what no policy can change has changed: {shown(str(error), 500)}"
        return Finding("runs", pair.title, "regression", text)
    return None


def same_in(pair: Pair, seeds: Iterable[int]) -> bool:
    """Return whether learners are the same bit for bit in `seeds`: policy and every number."""
    base, new = pair.runs("base"), pair.runs("new")
    return all(_same_play(base[seed].result, new[seed].result) for seed in seeds)


def _same_play(base: RunResult, new: RunResult) -> bool:
    one, other = (
        {name: sha for name, sha in result.files.items() if name.startswith("policy")}
        for result in (base, new)
    )
    return bool(one) and one == other and base.test == new.test


def differing(base: RunResult, new: RunResult) -> Iterator[str]:
    """Yield "cost of episode 3 was 1.2 and is 1.3" for each number that is not the same."""
    one, other = dict(_columns(base.test)), dict(_columns(new.test))
    for name in sorted(one.keys() | other.keys(), key=lambda name: (name not in MONEY, name)):
        there, here = one.get(name, []), other.get(name, [])
        if len(there) != len(here):
            yield f"{shown(name, 60)} has {len(there)} values in BASE and {len(here)} in NEW"
            continue
        for episode, (was, now) in enumerate(zip(there, here, strict=True)):
            if not (was == now if name in MONEY else alike(name, was, now)):
                yield (
                    f"{shown(name, 60)} of episode {episode} was {_number(was)} and is "
                    f"{_number(now)}"
                )


def _columns(test: EpisodeMetrics) -> Iterator[tuple[str, list[Any]]]:
    """Yield each metric with its values by episode, or with a list of the households' values."""
    for name in (*MONEY, "oracle_cost"):
        yield name, getattr(test, name)
    yield from test.metrics.items()


def _number(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_number, value[:4]))}{', …' if len(value) > 4 else ''}]"
    return "undefined" if value is None else f"{value:.9g}"
