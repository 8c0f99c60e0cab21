"""Golden files: what the deterministic layers do, so exactly that any change shows.

Three layers, each with every plugin that comes with PeerWatt:

- *clearing*: order books from a seeded generator, cleared by each mechanism;
- *settlement*: episodes of each task under random actions, with the task's own mechanism: every
  integer record of the kernel;
- *metrics*: the test episodes of each task played by each scripted trader: welfare and all metrics.

Clearing and settlement count in integers and are kept as SHA-256, equal on every machine. Metrics
are numbers of `DIGITS` digits and agree up to `TOLERANCE` (the optimum, which a solver finds, up to
`SOLVER`), for sums round differently elsewhere.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peerwatt.env import BATTERY_ACTIONS, Slot, VectorMarket
from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation import Evaluator
from peerwatt.fairness import Shaping
from peerwatt.market import QUANTA_PER_KWH, clear, price_grid
from peerwatt.plugins.loader import Kind, build, find, load_mechanism, load_task, registry
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.result import Hash
from peerwatt.runs.training import TrainingRun

GOLDEN_FILE = "golden.json"
VERSION: Literal[1] = 1
"""Raised when the cases change; files of another version do not compare."""
SIZES = ((2, 3), (5, 5), (12, 21), (40, 64))
"""Households and price levels of the books."""
BOOKS = 64
"""Books of each size."""
ENVS = 4
"""Communities of a task that are played at random, for an episode and a half."""
DIGITS, TOLERANCE, SOLVER = 12, 1e-9, 1e-6
MOST_BYTES = 5_000_000
FIELDS = {
    "position": "what is left of PV, load and battery, to be traded or settled",
    "order": "the orders that the actions quote",
    "traded": "how much each household trades",
    "payment": "what is paid for it",
    "moments": "volume and prices of the trades",
    "cost": "the cost of a slot, settlement with the grid included",
    "grid_cost": "the cost under grid-only",
    "stored": "what the batteries hold",
}
"""Records of the kernel whose change is told in words; the rest by name."""


class Golden(BaseModel):
    """What `peerwatt golden` writes: layer -> case -> part -> digest or number."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    golden_version: int
    peerwatt: Annotated[str, Field(max_length=100)]
    clearing: dict[str, dict[str, Hash]]
    settlement: dict[str, dict[str, Hash]]
    metrics: dict[str, dict[str, float | None]]


class Change(NamedTuple):
    """One difference between two golden files."""

    layer: str
    case: str
    text: str
    """What changed, as a sentence."""


def make_golden() -> Golden:
    """Return what the installed code does; a few seconds."""
    return Golden(
        golden_version=VERSION,
        peerwatt=importlib.metadata.version(PROJECT),
        clearing={name: dict(_clearing(name)) for name in _own("mechanism")},
        settlement={name: _settlement(name) for name in _own("task")},
        metrics={
            f"{trader} on {task}": _metrics(task, trader)
            for task in _own("task")
            for trader in _own("algorithm")
            if not find("algorithm", trader).spec.trainable
        },
    )


def write_golden(golden: Golden, folder: Path) -> Path:
    """Write `folder`/golden.json at once and return its path.

    Raises:
        PeerWattError: the disk refused.
    """
    path = folder / GOLDEN_FILE
    text = json.dumps(golden.model_dump(), indent=1, sort_keys=True) + "\n"
    write_text(path, text)
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there wholly or not at all.

    Raises:
        PeerWattError: the disk refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as draft:
            draft.write(text)
        os.chmod(draft.name, 0o644)
        os.replace(draft.name, path)
    except OSError as error:
        raise PeerWattError(f"cannot write {path}: {error.strerror or error}.") from None


def read_golden(path: Path) -> Golden:
    """Read a golden file.

    Raises:
        PeerWattError: it is missing, malformed or of another version.
    """
    mend = f"write it again with `peerwatt golden {path.parent}`"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PeerWattError(f"{path}: is larger than {MOST_BYTES:,} bytes; {mend}.")
        golden = Golden.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PeerWattError(f"{path}: cannot be read ({error.strerror}); {mend}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = shown(".".join(map(str, first["loc"])), 100)
        raise PeerWattError(f"{path}: {place}: {shown(first['msg'], 200)}; {mend}.") from None
    if golden.golden_version != VERSION:
        raise PeerWattError(
            f"{path}: golden_version: {golden.golden_version} does not compare with {VERSION} of "
            f"this PeerWatt; {mend}."
        )
    return golden


def compare_golden(base: Golden, new: Golden) -> list[Change]:
    """Return every difference, told in words; none if the deterministic layers do the same."""
    return [
        *_changes("clearing", base.clearing, new.clearing),
        *_changes("settlement", base.settlement, new.settlement),
        *_changes("metrics", base.metrics, new.metrics),
    ]


def count_cases(golden: Golden) -> int:
    """Return how many values are held against each other."""
    layers: tuple[Mapping[str, Mapping[str, Any]], ...] = (
        golden.clearing,
        golden.settlement,
        golden.metrics,
    )
    return sum(len(parts) for layer in layers for parts in layer.values())


def _own(kind: Kind) -> list[str]:
    """Return the names of PeerWatt's own plugins of a kind."""
    found = registry().qualified[kind]
    return sorted(plugin.spec.name for plugin in found.values() if plugin.distribution == PROJECT)


def _clearing(name: str) -> Iterator[tuple[str, str]]:
    """Yield "12 households, 21 price levels" and the digest of what `name` makes of such books."""
    mechanism = load_mechanism(f"{PROJECT}:{name}")
    for n, levels in SIZES:
        generator = np.random.default_rng([n, levels, VERSION])
        # Whole, half and odd quanta: large ties and none.
        step = generator.choice([QUANTA_PER_KWH, QUANTA_PER_KWH // 2, 1], (BOOKS, 1))
        most = 4 * QUANTA_PER_KWH // step
        order = step * np.rint((2 * generator.random((BOOKS, n)) - 1) * most).astype(np.int64)
        level = generator.integers(0, levels, (BOOKS, n))
        arrival = generator.permuted(np.tile(np.arange(n), (BOOKS, 1)), axis=1)
        cleared = clear(mechanism, order, level, price_grid(800, 3000, levels)[0], arrival)
        yield f"{n} households, {levels} price levels", _digest(*cleared)


def _settlement(name: str) -> dict[str, str]:
    """Return the digest of each record of random play on task `name`, field by field."""
    task = load_task(f"{PROJECT}:{name}")
    market = VectorMarket(task, ENVS, seed=VERSION)
    generator = np.random.default_rng(VERSION)
    market.reset()
    records: list[Slot] = []
    for _ in range(3 * task.horizon // 2):
        shape = (ENVS, market.num_agents)
        actions = np.stack([generator.integers(0, most, shape) for most in market.action_nvec], -1)
        storage = task.community.has_storage
        idle = BATTERY_ACTIONS.index("idle") if storage else 0
        actions[..., 2] = np.where(task.community.capacity > 0, actions[..., 2], idle)
        records.append(Slot(*(field.copy() for field in market.step(actions).slot)))
    return {
        field: _digest(*(getattr(record, field) for record in records)) for field in Slot._fields
    }


def _metrics(task_name: str, trader: str) -> dict[str, float | None]:
    """Return welfare and the mean of every metric of a scripted trader on the test split."""
    task = load_task(f"{PROJECT}:{task_name}")
    plugin = find("algorithm", f"{PROJECT}:{trader}")
    training = TrainingRun(
        task,
        seed=0,
        budget=0,
        critic=build("critic", find("critic", f"{PROJECT}:none"), {}),
        shaping=Shaping(),
        mechanism=None,
        validations=0,
    )
    policy = build("algorithm", plugin, {}).train(training)
    played = Evaluator(task, "test")(policy, seed=0)
    sums = {name: getattr(played, name) for name in ("cost", "grid_cost", "oracle_cost")}
    values = {name: math.fsum(costs) for name, costs in sums.items()}
    values["welfare"] = played.welfare
    values["worst_saving"] = float(played.savings.sum(axis=0).min())
    for name, episodes in played.metrics.items():
        defined = episodes[np.isfinite(episodes)]
        values[name] = math.fsum(defined) / defined.size if defined.size else math.nan
    return {
        name: float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
        for name, value in values.items()
    }


def _digest(*arrays: NDArray[Any]) -> str:
    """Return the SHA-256 of integers, whatever the byte order of the machine."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, "<i8").tobytes())
    return digest.hexdigest()


def _changes(
    layer: str, base: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Iterator[Change]:
    for case in sorted(base.keys() | new.keys()):
        there, here = base.get(case), new.get(case)
        name = shown(case, 100)
        if there is None:
            text = f"{layer}: {name} is new, so that there is nothing to hold it against"
            yield Change(layer, name, f"{text}: write the golden file again.")
        elif here is None:
            yield Change(layer, name, f"{layer}: {name} is there no more.")
        else:
            parts = [
                part
                for part in sorted(there.keys() | here.keys())
                if not _alike(layer, part, there.get(part), here.get(part))
            ]
            if parts:
                yield Change(layer, name, _TELLERS[layer](name, parts, there, here))


def _alike(layer: str, part: str, there: Any, here: Any) -> bool:
    if layer != "metrics" or there is None or here is None:
        return bool(there == here)
    tolerance = SOLVER if part in ("oracle_cost", "welfare") else TOLERANCE
    return math.isclose(there, here, rel_tol=tolerance, abs_tol=tolerance)


def _tell_clearing(
    case: str, parts: list[str], there: Mapping[str, Any], here: Mapping[str, Any]
) -> str:
    cases = f"{len(parts)} of {len(there.keys() | here.keys())} sets of books"
    return (
        f"clearing: the mechanism {case} clears {cases} otherwise ({'; '.join(parts)}): its rule "
        "has changed."
    )


def _tell_settlement(
    case: str, parts: list[str], there: Mapping[str, Any], here: Mapping[str, Any]
) -> str:
    told = [f"{part} ({FIELDS[part]})" if part in FIELDS else part for part in parts]
    return (
        f"settlement: under the same actions {case} records otherwise "
        f"{', '.join(shown(part, 100) for part in told)}."
    )


def _tell_metrics(
    case: str, parts: list[str], there: Mapping[str, Any], here: Mapping[str, Any]
) -> str:
    told = [
        f"{shown(part, 40)} was {_number(there.get(part))} and is {_number(here.get(part))}"
        for part in sorted(parts, key=lambda part: (part != "welfare", part))
    ]
    more = f" and {len(told) - 4} more" if len(told) > 4 else ""
    return f"metrics: of {case} {', '.join(told[:4])}{more}."


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.12g}"


_TELLERS = {
    "clearing": _tell_clearing,
    "settlement": _tell_settlement,
    "metrics": _tell_metrics,
}
