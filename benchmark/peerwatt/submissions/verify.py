"""Replay the policies of an entry on the test scenarios, and say how close they come.

The market counts in whole quanta and ticks, so the same actions give the same episodes on every
machine. What may differ is the rounding inside a policy's network, which now and then tips an
action that was a near tie. Hence the tolerance on another platform:

- all but one in `TIPPED_EPISODES` episodes of a seed must agree up to `ROUNDING` of the scale;
- in the others a metric may differ by at most `TIPPED` of its scale;
- what no policy can change (grid-only costs and bills, the optimum) must agree up to `ROUNDING`;
- the welfare of the seed must agree up to `WELFARE`.

The scale of a metric is 1 for shares between 0 and 1, the community's grid-only bills of the
episode for money, and the larger of both values for the rest (energy, prices, cycles).
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerwatt.errors import PeerWattError
from peerwatt.evaluation import Evaluator, Policy
from peerwatt.evaluation.metrics import welfare
from peerwatt.plugins.loader import Kind, Registered, find, load_mechanism, load_task
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.entries import SHARES, Run
from peerwatt.runs.execute import episode_record
from peerwatt.runs.provenance import environment
from peerwatt.runs.result import EpisodeMetrics, full_name
from peerwatt.submissions.entry import EntryRecord
from peerwatt.submissions.validate import Submission

ROUNDING = 1e-6
TIPPED = 0.05
TIPPED_EPISODES = 16
WELFARE = 0.002
"""See above; each but `TIPPED_EPISODES` is a share of the scale."""

RATIOS = (*SHARES, "p2p_ratio", "self_consumption", "self_sufficiency")
MONEY = ("cost", "savings", "operator_revenue", "market_surplus")
FIXED = ("grid_cost", "grid_bills", "oracle_cost", "operator_revenue_grid")


@dataclass(frozen=True)
class Difference:
    """One value that a replay gives otherwise than the record."""

    seed: int
    metric: str
    episode: int
    recorded: float | None
    replayed: float | None
    relative: float
    """|replayed - recorded| over the scale of the metric; infinite where one is undefined."""

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.metric} of episode {self.episode}: recorded "
            f"{_number(self.recorded)}, replayed {_number(self.replayed)}"
        )


@dataclass(frozen=True)
class Replay:
    """One seed, replayed."""

    seed: int
    differences: list[Difference]
    """Every value that differs at all, the largest first."""
    welfare: tuple[float | None, float | None]
    """As recorded and as replayed."""
    must_be_exact: bool
    """Made on this platform, processor, Python and package versions."""
    failure: Difference | str | None
    """What is out of tolerance, if anything."""


def foreign(record: EntryRecord) -> list[str]:
    """Return the parts of an entry whose code is a stranger's, as a sentence names them."""
    parts = (
        ("algorithm", record.algorithm.name, record.algorithm.distribution, record.algorithm),
        ("task", record.task.name, record.task.distribution, record.task),
        ("mechanism", record.mechanism.name, record.mechanism.distribution, record.mechanism),
    )
    return [
        f"the {kind} {name!r} of {distribution} {part.version}"
        for kind, name, distribution, part in parts
        if distribution != PROJECT
    ]


def version_notes(record: EntryRecord) -> list[str]:
    """Return a clause for each plugin that is installed in another version than recorded.

    Raises:
        PeerWattError: a plugin is not installed.
    """
    kinds: tuple[tuple[Kind, str, str], ...] = (
        ("algorithm", full_name(record.algorithm), record.algorithm.version),
        ("task", f"{record.task.distribution}:{record.task.name}", record.task.version),
        ("mechanism", full_name(record.mechanism), record.mechanism.version),
    )
    notes = []
    for kind, name, recorded in kinds:
        installed = _find(kind, name, recorded).version
        if installed != recorded:
            notes.append(f"the {kind} {name} was version {recorded}, and {installed} is installed")
    return notes


def _find(kind: Kind, name: str, version: str) -> Registered:
    try:
        return find(kind, name)
    except PeerWattError as error:
        distribution = name.partition(":")[0]
        raise PeerWattError(
            f"{str(error).removesuffix('.')}; install it, as with pip install "
            f"'{distribution}=={version}'."
        ) from None


def replay(entry: Submission, seeds: int | None = None) -> Iterator[Replay]:
    """Play the policies of a validated entry again, seed by seed.

    Args:
        entry: what `read_entry` returned; its policies are loaded from the bytes that it checked.
        seeds: how many seeds, the lowest first; by default all.

    Raises:
        PeerWattError: a plugin is not installed, or a policy cannot be loaded or played.
    """
    record = entry.record
    assert record is not None
    plugin = _find("algorithm", full_name(record.algorithm), record.algorithm.version)
    same_versions = not version_notes(record)
    task_name = f"{record.task.distribution}:{record.task.name}"
    task = load_task(task_name)
    if task.content_hash != record.task.content_hash:
        raise PeerWattError(
            f"{entry.folder}: task: {task_name} is {task.content_hash[:12]} here, the entry was "
            f"made on {record.task.content_hash[:12]}; install {record.task.distribution} "
            f"{record.task.version}."
        )
    mechanism = load_mechanism(full_name(record.mechanism), record.mechanism.options)
    evaluator = Evaluator(task, "test", mechanism=mechanism)
    policy_class = plugin.spec.load_policy()
    for run in entry.runs[:seeds]:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in entry.policies[run.result.seed].items():
                (Path(folder) / name).write_bytes(content)
            try:
                policy: Policy = policy_class.load(Path(folder))
                played = episode_record(evaluator(policy, run.result.seed))
            except Exception as error:
                text = " ".join(str(error).replace(folder, str(run.path.parent)).split())
                raise PeerWattError(
                    f"{run.path.parent}: its policy cannot be replayed: "
                    f"{type(error).__name__}: {text}"
                ) from error
        yield compare(run, played, same_versions)


def compare(run: Run, played: EpisodeMetrics, same_versions: bool = True) -> Replay:
    """Hold the episodes that a policy `played` against the record of its run."""
    recorded = run.result.test
    now = EpisodeMetrics.model_validate_json(played.model_dump_json())
    seed = run.result.seed
    differences = sorted(
        _differences(seed, recorded, now), key=lambda item: item.relative, reverse=True
    )
    pair = (
        welfare(recorded.cost, recorded.grid_cost, recorded.oracle_cost),
        welfare(now.cost, now.grid_cost, now.oracle_cost),
    )
    here, there = environment(), run.result.environment
    names = ("python", "platform", "processor", "packages")
    same = same_versions and all(getattr(here, n) == getattr(there, n) for n in names)
    failure: Difference | str | None = None
    if differences:
        failure = differences[0] if same else _out_of_tolerance(differences, pair, recorded)
    return Replay(seed, differences, pair, same, failure)


def _out_of_tolerance(
    differences: Sequence[Difference],
    pair: tuple[float | None, float | None],
    recorded: EpisodeMetrics,
) -> Difference | str | None:
    tipped = {item.episode for item in differences if item.relative > ROUNDING}
    for item in differences:
        if item.relative > (ROUNDING if item.metric.partition(".")[0] in FIXED else TIPPED):
            return item
    most = max(1, recorded.episodes // TIPPED_EPISODES)
    if len(tipped) > most:
        item = differences[0]
        return f"{item} (and {len(tipped)} episodes differ, where {most} may)"
    one, other = pair
    if (one is None) != (other is None) or (
        one is not None and other is not None and abs(one - other) > WELFARE
    ):
        return f"seed {differences[0].seed}: welfare: recorded {one}, replayed {other}"
    return None


def _differences(seed: int, one: EpisodeMetrics, other: EpisodeMetrics) -> Iterator[Difference]:
    """Yield every value that is not the same in both."""
    bills = [math.fsum(map(abs, row)) for row in other.grid_bills]
    tables = [dict(_columns(side)) for side in (one, other)]
    for metric in sorted(tables[0].keys() | tables[1].keys()):
        columns = [table.get(metric, []) for table in tables]
        for episode in range(max(map(len, columns))):
            recorded, replayed = (c[episode] if episode < len(c) else None for c in columns)
            if recorded == replayed:
                continue
            relative = math.inf
            if recorded is not None and replayed is not None:
                scale = _scale(metric, bills, episode) or max(abs(recorded), abs(replayed))
                relative = abs(recorded - replayed) / scale
            yield Difference(seed, metric, episode, recorded, replayed, relative)


def _columns(test: EpisodeMetrics) -> Iterator[tuple[str, list[Any]]]:
    """Yield each metric with its values by episode; savings and bills once per household."""
    for name in ("cost", "grid_cost", "oracle_cost"):
        yield name, getattr(test, name)
    for name in ("savings", "grid_bills"):
        for household, column in enumerate(zip(*getattr(test, name), strict=True)):
            yield f"{name}.{household}", list(column)
    yield from test.metrics.items()


def _scale(metric: str, bills: Sequence[float], episode: int) -> float:
    """Return the scale of a metric, or 0 where it is that of its values."""
    name = metric.partition(".")[0]
    if name in RATIOS:
        return 1.0
    if name in MONEY or name in FIXED:
        return bills[episode] if episode < len(bills) else 0.0
    return 0.0


def _number(value: float | None) -> str:
    return "undefined" if value is None else json.dumps(value)
