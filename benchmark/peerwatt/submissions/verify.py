"""Replay the policies of an entry on the test scenarios, and say how close they come.

Where the record says that it was made on this platform, processor, Python and versions, every
number must be equal. Elsewhere, the market still counts in whole quanta and ticks, so the same
actions give the same episodes. A scripted trader has no network that could round: its costs,
savings and bills must be equal on every platform, and all else up to `ROUNDING` of the scale.

In the network of a learner, rounding now and then tips an action that was a near tie. Its
tolerance elsewhere:

- all but one in `TIPPED_EPISODES` episodes of a seed must agree up to `ROUNDING` of the scale;
- in the others a metric may differ by at most `TIPPED` of its scale;
- what no policy can change (grid-only costs and bills, the optimum) must agree up to `ROUNDING`;
- the welfare of each seed must agree up to `WELFARE`, its mean over seeds up to `MEAN_WELFARE`;
- the differences must go both ways, as those of rounding do: of all episodes whose cost differs,
  the replay may not be the dearer in so many that a fair coin would show as many with a
  probability of less than `BIAS` (sign test, one-sided).

The scale of a metric is 1 for shares between 0 and 1, the community's grid-only bills of the
episode for money, and the larger of both values for the rest (energy, prices, cycles).

Where somebody says that a record was made, nobody can check, so the tolerance is what a forger may
claim. It is far wider than rounding: 20 trained runs of 32 episodes each cost the same to the last
digit in every episode when their networks count in double precision.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from peerwatt.community import Task
from peerwatt.env import VectorMarket
from peerwatt.errors import PeerWattError, told
from peerwatt.evaluation import Evaluator, Policy
from peerwatt.evaluation.metrics import welfare
from peerwatt.fairness import Shaping
from peerwatt.market import Mechanism
from peerwatt.plugins.loader import Kind, Registered, build, find, load_mechanism, load_task
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.entries import AT_MOST_ONE, SHARES, Run
from peerwatt.runs.execute import episode_record
from peerwatt.runs.provenance import PACKAGES, environment
from peerwatt.runs.result import Environment, EpisodeMetrics, full_name
from peerwatt.runs.training import TrainingRun
from peerwatt.submissions.entry import EntryRecord
from peerwatt.submissions.guards import refuse, shown
from peerwatt.submissions.validate import Submission, check_options

ROUNDING = 1e-6
TIPPED = 0.05
TIPPED_EPISODES = 16
WELFARE = 0.002
MEAN_WELFARE = 0.0005
BIAS = 0.01
"""See above; `ROUNDING` and `TIPPED` are shares of the scale."""

RATIOS = (*SHARES, *AT_MOST_ONE)
MONEY = ("cost", "savings", "operator_revenue", "market_surplus")
FIXED = ("grid_cost", "grid_bills", "oracle_cost", "operator_revenue_grid")
COUNTED = ("cost", "savings", "grid_cost", "grid_bills")
"""Whole ticks times a unit: no sum, mean or solver rounds them."""


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
    dearer: int
    """Episodes that cost more replayed than recorded, so that welfare is lower."""
    cheaper: int
    elsewhere: tuple[str, ...]
    """What the record says to be otherwise than here; if nothing, all must be equal."""
    failure: str | None
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
        PeerWattError: a plugin is not installed, a policy cannot be loaded or played, or one is not
            of the algorithm of PeerWatt that its record names.
    """
    record = entry.record
    assert record is not None
    plugin = _find("algorithm", full_name(record.algorithm), record.algorithm.version)
    if plugin.distribution == PROJECT:  # `read_entry` leaves out what needs further packages
        check_options(entry.file, "algorithm", record.algorithm, plugin)
    versions = version_notes(record)
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
    own, scripted = plugin.distribution == PROJECT, not plugin.spec.trainable
    for run in entry.runs[:seeds]:
        if own and scripted:
            _check_scripted(entry, run, plugin, task, mechanism)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in entry.policies[run.result.seed].items():
                (Path(folder) / name).write_bytes(content)
            try:
                policy: Policy = policy_class.load(Path(folder))
                if own:
                    _check_spaces(policy, task)
                played = episode_record(evaluator(policy, run.result.seed))
            except Exception as error:
                text = told(error, 1_000).replace(folder, str(run.path.parent))
                raise PeerWattError(
                    f"{run.path.parent}: its policy cannot be replayed: {text}"
                ) from error
        yield compare(run, played, versions, scripted)


def _check_scripted(
    entry: Submission, run: Run, plugin: Registered, task: Task, mechanism: Mechanism
) -> None:
    """Refuse a policy that is not the one that a scripted trader of PeerWatt is on this task."""
    algorithm = build("algorithm", plugin, run.result.algorithm.options)
    training = TrainingRun(
        task,
        seed=run.result.seed,
        budget=0,
        critic=build("critic", find("critic", f"{PROJECT}:none"), {}),
        shaping=Shaping(),
        mechanism=mechanism,
        validations=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        algorithm.train(training).save(Path(folder))
        made = {file.name: file.read_bytes() for file in Path(folder).iterdir()}
    told = entry.policies[run.result.seed]
    for name in sorted(made.keys() | told.keys()):
        # By line, for the ends of lines are those of the platform.
        if made.get(name, b"").splitlines() != told.get(name, b"").splitlines():
            problem = f"is not what {plugin.spec.name!r} of PeerWatt {plugin.version} plays here"
            refuse(run.path.parent / name, "", problem, "repeat the run and pack it again")


def _check_spaces(policy: Policy, task: Task) -> None:
    """Refuse a policy of PeerWatt that was made for other actions than those of the task."""
    actions = VectorMarket(task, 1).action_nvec
    heads = tuple(map(int, getattr(policy, "nvec", actions)))
    if heads != actions:
        raise PeerWattError(f"it has action heads of {heads}, and {task.name} has {actions}.")


def compare(
    run: Run, played: EpisodeMetrics, versions: Sequence[str] = (), scripted: bool = False
) -> Replay:
    """Hold the episodes that a policy `played` against the record of its run.

    Args:
        run: the run, with its record.
        played: the same episodes, played here.
        versions: clauses on plugins whose installed version is not the recorded one.
        scripted: the policy has no network that could round.
    """
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
    elsewhere = (*_elsewhere(run.result.environment), *versions)
    failure = None
    if differences and not elsewhere:
        failure = f"{differences[0]} (same platform: must be equal)"
    elif scripted:
        failure = _rounded_too_far(differences)
    elif differences:
        failure = _out_of_tolerance(differences, pair, recorded)
    costs = [item for item in differences if item.metric == "cost"]
    dearer = sum((item.replayed or 0.0) > (item.recorded or 0.0) for item in costs)
    return Replay(seed, differences, pair, dearer, len(costs) - dearer, elsewhere, failure)


def _elsewhere(there: Environment) -> Iterator[str]:
    """Yield a clause for whatever a record says to be otherwise than here."""
    here = environment()
    names = ("platform", "processor", "python")
    pairs = [(name, getattr(there, name), getattr(here, name)) for name in names]
    pairs += [
        (name, there.packages.get(name, "none"), here.packages.get(name, "none"))
        for name in PACKAGES
    ]
    for name, one, other in pairs:
        if one != other:
            yield f"{name} '{shown(one, 100)}' (here '{shown(other, 100)}')"


def bias(replays: Sequence[Replay]) -> str | None:
    """Say in a clause why the differences of all seeds are not those of rounding, if so."""
    dearer, cheaper = (sum(getattr(one, n) for one in replays) for n in ("dearer", "cheaper"))
    differing = dearer + cheaper
    if differing and binomtest(dearer, differing, alternative="greater").pvalue < BIAS:
        return (
            f"the replay is worse than the record in {dearer} of the {differing} episodes whose "
            "cost differs, and rounding goes both ways"
        )
    gaps = [a - b for a, b in (one.welfare for one in replays) if a is not None and b is not None]
    mean = math.fsum(gaps) / max(1, len(gaps))
    if abs(mean) > MEAN_WELFARE:
        side = "above" if mean > 0 else "below"
        return (
            f"the mean of the recorded welfare is {abs(mean):.2g} {side} that of the replay, and "
            f"at most {MEAN_WELFARE} is rounding"
        )
    return None


def _rounded_too_far(differences: Sequence[Difference]) -> str | None:
    for item in differences:
        if item.relative > ROUNDING or item.metric.partition(".")[0] in COUNTED:
            return f"{item} (a scripted trader: must be equal on every platform)"
    return None


def _out_of_tolerance(
    differences: Sequence[Difference],
    pair: tuple[float | None, float | None],
    recorded: EpisodeMetrics,
) -> str | None:
    tipped = {item.episode for item in differences if item.relative > ROUNDING}
    for item in differences:
        if item.relative > (ROUNDING if item.metric.partition(".")[0] in FIXED else TIPPED):
            return str(item)
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
