"""Golden files: what the deterministic layers do, so exactly that any change shows.

Five layers, each with every plugin that comes with PeerWatt:

- *clearing*: order books from a seeded generator, cleared by each mechanism, with options too;
- *settlement*: episodes of each task under random actions, with the task's own mechanism: every
  integer record of the kernel;
- *play*: what the agents meet in them: observations and rewards;
- *metrics*: the test episodes of each task played by each scripted trader: costs and all metrics;
- *scores*: what tables show of these runs.

Clearing and settlement count in integers and are kept as SHA-256, equal on every machine. The rest
are numbers of 12 digits, which agree up to `TOLERANCE` (`SOLVER` what depends on the optimum, which
a solver finds, `SINGLE` what is counted in single precision), for sums round differently elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peerwatt.errors import PeerWattError, shown
from peerwatt.plugins.loader import find
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.files import write_whole
from peerwatt.runs.regression import cases
from peerwatt.runs.result import Hash

GOLDEN_FILE = "golden.json"
VERSION = 2
"""Raised when cases go or get another name; of files of two versions only what both have compares.
"""
TOLERANCE, SOLVER, SINGLE = 1e-9, 1e-6, 1e-6
MOST_BYTES = 5_000_000
LAYERS = ("clearing", "settlement", "play", "metrics", "scores")
WORDS = {
    "position": "what is left of PV, load and battery, to be traded or settled",
    "order": "the orders that the actions quote",
    "traded": "how much each household trades",
    "payment": "what is paid for it",
    "moments": "volume and prices of the trades",
    "cost": "the cost of a slot, settlement with the grid included",
    "grid_cost": "the cost under grid-only",
    "stored": "what the batteries hold",
    "truncated": "when episodes end",
    "action_mask": "which actions are allowed",
}
"""Records of random play whose change is told in words; the rest by name."""


class Golden(BaseModel):
    """What `peerwatt golden` writes: layer -> case -> part -> digest or number.

    Layers of a later version are left out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    golden_version: int
    peerwatt: Annotated[str, Field(max_length=100)]
    clearing: dict[str, dict[str, Hash]]
    settlement: dict[str, dict[str, Hash]]
    play: dict[str, dict[str, float | None]] = {}
    metrics: dict[str, dict[str, float | None]]
    scores: dict[str, dict[str, float | None]] = {}


class Change(NamedTuple):
    """One difference between two golden files."""

    layer: str
    case: str
    text: str
    """What changed, as a sentence."""


def make_golden() -> Golden:
    """Return what the installed code does; a second or two."""
    tasks = cases.own("task")
    traders = [
        name for name in cases.own("algorithm") if not find("algorithm", name).spec.trainable
    ]
    played = {task: cases.random_play(task) for task in tasks}
    runs = {
        f"{trader} on {task}": cases.scripted(task, trader) for task in tasks for trader in traders
    }
    return Golden(
        golden_version=VERSION,
        peerwatt=importlib.metadata.version(PROJECT),
        clearing=cases.clearings(),
        settlement={task: digests for task, (digests, _) in played.items()},
        play={task: means for task, (_, means) in played.items()},
        metrics={name: metrics for name, (metrics, _) in runs.items()},
        scores={name: scores for name, (_, scores) in runs.items()},
    )


def write_golden(golden: Golden, folder: Path) -> Path:
    """Write `folder`/golden.json at once and return its path.

    Raises:
        PeerWattError: the disk refused.
    """
    path = folder / GOLDEN_FILE
    write_text(path, json.dumps(golden.model_dump(), indent=1, sort_keys=True) + "\n")
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file, with the folders it lies in, so that it is there wholly or not at all.

    Raises:
        PeerWattError: the disk refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise PeerWattError(f"cannot write {path}: {error.strerror or error}.") from None


def read_golden(path: Path) -> Golden:
    """Read a golden file, of whatever version.

    Raises:
        PeerWattError: it is missing or malformed.
    """
    mend = f"write it again with `peerwatt golden {path.parent}`"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PeerWattError(f"{path}: is larger than {MOST_BYTES:,} bytes; {mend}.")
        return Golden.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PeerWattError(f"{path}: cannot be read ({error.strerror}); {mend}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = shown(".".join(map(str, first["loc"])), 100)
        raise PeerWattError(f"{path}: {place}: {shown(first['msg'], 200)}; {mend}.") from None


def compare_golden(base: Golden, new: Golden) -> list[Change]:
    """Return what `new` does otherwise than `base`, or no more, told in words.

    What only `new` has is no difference, nor is what only `base` has if it is of another version:
    see `unmatched`.
    """
    gone_counts = base.golden_version == new.golden_version
    return [
        change
        for layer in LAYERS
        for change in _changes(layer, getattr(base, layer), getattr(new, layer), gone_counts)
    ]


def unmatched(base: Golden, new: Golden) -> list[str]:
    """Return a sentence for each reason why values of one of the two are held against nothing."""
    there, here = _values(base), _values(new)
    told = []
    if base.golden_version != new.golden_version:
        told.append(
            f"The golden files are of the versions {base.golden_version} and {new.golden_version}, "
            f"so that only what both have is compared: {len(there & here)} of {len(there | here)} "
            "values."
        )
    if added := sorted({(layer, case) for layer, case, _ in here - there}):
        named = "; ".join(f"{layer} of {shown(case, 60)}" for layer, case in added[:5])
        more = f" and {len(added) - 5} more" if len(added) > 5 else ""
        told.append(
            f"{len(here - there)} values are in the later golden file only, so that there is "
            f"nothing to hold them against ({named}{more})."
        )
    return told


def count_cases(golden: Golden) -> int:
    """Return how many values a golden file has."""
    return len(_values(golden))


def count_shared(base: Golden, new: Golden) -> int:
    """Return how many values are held against each other."""
    return len(_values(base) & _values(new))


def alike(name: str, was: float | None, now: float | None) -> bool:
    """Return whether two values of a metric are the same, but for the rounding of sums."""
    return _close(was, now, SOLVER if name in ("oracle_cost", "welfare") else TOLERANCE)


def _close(was: float | None, now: float | None, tolerance: float) -> bool:
    if was is None or now is None:
        return was is now
    return math.isclose(was, now, rel_tol=tolerance, abs_tol=tolerance)


def _values(golden: Golden) -> set[tuple[str, str, str]]:
    """Return layer, case and part of each value."""
    return {
        (layer, case, part)
        for layer in LAYERS
        for case, parts in getattr(golden, layer).items()
        for part in parts
    }


def _changes(
    layer: str,
    base: Mapping[str, Mapping[str, Any]],
    new: Mapping[str, Mapping[str, Any]],
    gone_counts: bool,
) -> Iterator[Change]:
    for case, there in sorted(base.items()):
        name, here = shown(case, 100), new.get(case)
        if here is None:
            if gone_counts:
                yield Change(layer, name, f"{layer}: {name} is there no more.")
            continue
        parts = [
            part
            for part, value in sorted(there.items())
            if (gone_counts if part not in here else not _same(layer, part, value, here[part]))
        ]
        if parts:
            yield Change(layer, name, f"{layer}: {_told(layer, name, parts, there, here)}.")


def _same(layer: str, part: str, there: Any, here: Any) -> bool:
    if layer in ("clearing", "settlement"):
        return bool(there == here)
    return _close(there, here, SINGLE) if layer == "play" else alike(part, there, here)


def _told(
    layer: str, case: str, parts: list[str], there: Mapping[str, Any], here: Mapping[str, Any]
) -> str:
    names = [shown(part, 100) for part in parts]
    if layer == "clearing":
        books = f"{len(parts)} of {len(there)} sets of books"
        listed = "; ".join(names)
        return f"the mechanism {case} clears {books} otherwise ({listed}): its rule has changed"
    if layer == "settlement":
        told = [f"{name} ({WORDS[name]})" if name in WORDS else name for name in names]
        return f"under the same actions {case} records otherwise {', '.join(told)}"
    if layer == "play":
        where = f"agents of {case} meet otherwise, under the same actions and in weighted means,"
    else:
        where = f"of {case}"
        parts = sorted(parts, key=lambda part: (part != "welfare", part))
    told = [
        f"{shown(part, 60)} was {_number(there[part])} and is {_number(here.get(part))}"
        for part in parts[:4]
    ]
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    return f"{where} {', '.join(told)}{more}"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.12g}"
