"""Reading results from disk, checking them, and grouping the runs into entries.

Whatever a result says is a stranger's word: its size is checked before it is parsed, its schema is
validated strictly, what cannot be true is refused, and no aggregate in it is believed.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError, shown
from peerwatt.evaluation import METRICS
from peerwatt.fairness.session import CriticUsage, HeldOut
from peerwatt.plugins.loader import Kind, Registered, build, registry
from peerwatt.plugins.options import recorded_options
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.labels import Asked, labels_of
from peerwatt.runs.result import (
    METRICS_VERSION,
    PluginRecord,
    RunResult,
    TaskRecord,
    configuration_hash,
    full_name,
)
from peerwatt.runs.store import RESULT_FILE, read_record

TOLERANCE = 1e-6
"""Relative error of money that is put down to rounding and to the solver of the optimum."""
SHARES = ("ftg", "fbs", "fpp", "ftb", "feasible_share", "losers", "price_qoe", "p2p_ratio")
"""Metrics that lie between 0 and 1 by their definition."""
AT_MOST_ONE = ("self_consumption", "self_sufficiency")
"""Without batteries they are shares; energy that is bought and stored makes them negative."""
NOT_NEGATIVE = ("battery_cycles", "peak_import_kw")
"""As all energies are, whose names end in kwh."""


@dataclass(frozen=True)
class Run:
    """One validated result and the file that it came from."""

    path: Path
    raw: bytes
    result: RunResult


@dataclass(frozen=True)
class Entry:
    """The runs of one algorithm, critic, mechanism and configuration over the seeds of a task."""

    runs: tuple[Run, ...]
    label: str
    """Unique among the entries of the task: the algorithm, the critic, and more if needed."""

    @property
    def first(self) -> RunResult:
        """The result of the lowest seed; what is common to all seeds is read from it."""
        return self.runs[0].result

    @property
    def results(self) -> list[RunResult]:
        """The results of all seeds, in order of the seed."""
        return [run.result for run in self.runs]

    @property
    def scripted(self) -> bool:
        """Whether this is a scripted trader, which is allowed no training.

        The steps taken do not tell: of an algorithm that steps its own environment none are known.
        """
        return all(result.budget == 0 for result in self.results)


@dataclass(frozen=True)
class Board:
    """All entries that compare: those of one task and one mechanism with its options."""

    task: TaskRecord
    mechanism: PluginRecord
    title: str
    """Name of the task, with a part of its hash where two contents bear the same name, and with
    the mechanism where there are several."""
    entries: tuple[Entry, ...]


def read_boards(folder: Path) -> list[Board]:
    """Read every result below `folder`; see `boards_of`."""
    return boards_of(_find_results(folder))


def boards_of(files: Iterable[Path]) -> list[Board]:
    """Read the result files and return one board per task and mechanism, by name."""
    return boards_from(map(read_run, files))


def boards_from(runs: Iterable[Run]) -> list[Board]:
    """Return one board per task and mechanism of `runs`, by name.

    Raises:
        PeerWattError: a seed is told twice, or runs of a task were evaluated on other scenarios.
    """
    tasks: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        tasks[run.result.task.name, run.result.task.content_hash].append(run)
    names = Counter(name for name, _ in tasks)
    boards = []
    for (name, content_hash), of_task in sorted(tasks.items()):
        for run in of_task[1:]:
            check_same_scenarios(run, of_task[0])
        title = name if names[name] == 1 else f"{name} ({content_hash[:8]})"
        mechanisms: dict[tuple[str, str], list[Run]] = defaultdict(list)
        for run in of_task:
            mechanisms[_rule(run.result.mechanism)].append(run)
        records = [group[0].result.mechanism for _, group in sorted(mechanisms.items())]
        for mechanism, hint in zip(records, _mechanism_names(records), strict=True):
            boards.append(
                Board(
                    task=of_task[0].result.task,
                    mechanism=mechanism,
                    title=f"{title} · {hint}" if len(records) > 1 else title,
                    entries=_group(mechanisms[_rule(mechanism)]),
                )
            )
    return boards


def _rule(mechanism: PluginRecord) -> tuple[str, str]:
    """Return what tells mechanisms apart: whose it is, and its options.

    Those of PeerWatt's own are told as they take effect, lest another spelling of the same options
    make a board of its own.
    """
    options = mechanism.options
    plugin = own_plugin("mechanism", mechanism.distribution, mechanism.name)
    if plugin is not None:
        options = effective_options("mechanism", plugin, options)
    return full_name(mechanism), json.dumps(options, sort_keys=True)


def own_plugin(kind: Kind, distribution: str, name: str) -> Registered | None:
    """Return the plugin of that name if it is PeerWatt's own."""
    if distribution != PROJECT:
        return None
    return registry().qualified[kind].get(f"{PROJECT}:{name}")


def effective_options(kind: Kind, plugin: Registered, options: dict[str, Any]) -> dict[str, Any]:
    """Return `options` as a run with them records them: all of them, each of its type.

    Raises:
        PeerWattError: an option is unknown or out of range, or the plugin cannot be loaded.
    """
    made = build(kind, plugin, options)
    recorded = recorded_options(made, own_only=True)
    effective: dict[str, Any] = json.loads(json.dumps(recorded))
    return effective


def _mechanism_names(records: Sequence[PluginRecord]) -> list[str]:
    """Name each mechanism: with its distribution or options where the name is not enough."""
    names = []
    for record in records:
        alike = [other for other in records if other.name == record.name]
        name = record.name
        if len({other.distribution for other in alike}) > 1:
            name = full_name(record)
        if len({_rule(other)[1] for other in alike}) > 1:
            options = [f"{key} {value}" for key, value in sorted(record.options.items())]
            name = " ".join([name, ", ".join(options)]).strip()
        names.append(name)
    return names


def read_run(path: Path) -> Run:
    """Read and validate one result file."""
    try:
        raw, result = read_record(path)
    except PeerWattError as error:  # it may quote a stranger's text
        raise PeerWattError(shown(str(error), 2_000)) from None
    return checked_run(path, raw, result)


def checked_run(path: Path, raw: bytes, result: RunResult) -> Run:
    """Refuse what cannot be true of `result`, which was read as `raw` from `path`.

    Raises:
        PeerWattError: the sentence names the file and the field.
    """
    if result.metrics_version != METRICS_VERSION:
        raise PeerWattError(
            f"{path}: metrics_version: scored by version {result.metrics_version} of the metrics, "
            f"which does not compare with version {METRICS_VERSION}; evaluate the run again."
        )
    _check_shapes(path, result)
    _check_steps(path, result)
    _check_money(path, result)
    _check_metrics(path, result)
    _check_timings(path, result)
    _check_critic(path, result)
    _check_configuration(path, result)
    return Run(path=path, raw=raw, result=result)


def _find_results(folder: Path) -> list[Path]:
    """Find all results below `folder`, leaving out hidden folders (writes in progress)."""
    if not folder.is_dir():
        raise PeerWattError(f"{folder}: no such folder of results; `peerwatt run` makes one.")
    paths = sorted(
        path
        for path in folder.rglob(RESULT_FILE)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise PeerWattError(
            f"{folder}: holds no {RESULT_FILE}, at any depth; `peerwatt run` writes one per seed."
        )
    return paths


def _check_configuration(path: Path, result: RunResult) -> None:
    """Refuse a hash that is not that of the configuration, and a time that is none."""
    expected = configuration_hash(
        task=result.task,
        mechanism=result.mechanism,
        algorithm=result.algorithm,
        critic=result.critic,
        shaping=result.shaping,
        budget=result.budget,
        validations=result.validations,
    )
    if result.config_hash != expected:
        raise PeerWattError(
            f"{path}: config_hash: is not that of the task, the plugins and the options beside it."
        )
    try:
        datetime.datetime.fromisoformat(result.created_utc)
    except ValueError:
        raise PeerWattError(
            f"{path}: created_utc: {result.created_utc!r} is no date and time."
        ) from None


def _check_shapes(path: Path, result: RunResult) -> None:
    """Refuse a result whose lists do not fit each other."""
    test = result.test
    if test.episodes < 1:
        raise PeerWattError(f"{path}: test.episodes: at least one is needed, not {test.episodes}.")
    if result.task.households != len(result.households):
        raise PeerWattError(
            f"{path}: households: {len(result.households)} groups for "
            f"{result.task.households} households."
        )
    per_episode: dict[str, Sequence[object]] = {
        "cost": test.cost,
        "grid_cost": test.grid_cost,
        "oracle_cost": test.oracle_cost,
        "savings": test.savings,
        "grid_bills": test.grid_bills,
    }
    per_episode |= {f"metrics.{name}": values for name, values in test.metrics.items()}
    for name, values in per_episode.items():
        if len(values) != test.episodes:
            raise PeerWattError(
                f"{path}: test.{name}: {len(values)} values for {test.episodes} episodes."
            )
    for name, rows in (("savings", test.savings), ("grid_bills", test.grid_bills)):
        for episode, row in enumerate(rows):
            if len(row) != result.task.households:
                raise PeerWattError(
                    f"{path}: test.{name}.{episode}: {len(row)} values for "
                    f"{result.task.households} households."
                )


def _check_steps(path: Path, result: RunResult) -> None:
    """Refuse more training than was allowed, by which a learner could pass for a script."""
    if not 0 <= result.agent_steps <= result.budget:
        raise PeerWattError(
            f"{path}: agent_steps: {result.agent_steps} is not between 0 and the budget of "
            f"{result.budget}."
        )
    steps = [point.agent_steps for point in result.curve]
    if steps != sorted(set(steps)) or (steps and steps[-1] > result.agent_steps):
        raise PeerWattError(
            f"{path}: curve: its agent_steps must rise, up to {result.agent_steps}, not {steps}."
        )


def _check_money(path: Path, result: RunResult) -> None:
    """Refuse costs below the optimum, and households that do not add up to the community."""
    test = result.test
    scale = TOLERANCE * max(map(abs, test.grid_cost)) + 1e-9
    least, most = _surplus_bounds(path, result.mechanism)
    for episode, optimum in enumerate(test.oracle_cost):
        cost, grid_cost = test.cost[episode], test.grid_cost[episode]
        for name, value in (("cost", cost), ("grid_cost", grid_cost)):
            if value < optimum - TOLERANCE * abs(optimum) - scale:
                raise PeerWattError(
                    f"{path}: test.{name}.{episode}: {value:.9g} is below the optimum of "
                    f"{optimum:.9g} (oracle_cost), which nothing can beat."
                )
        surplus = _recorded(result, "market_surplus", episode) or 0.0
        slack = TOLERANCE * abs(grid_cost) + scale
        if not least - slack <= surplus <= most + slack:
            raise PeerWattError(
                f"{path}: test.metrics.market_surplus.{episode}: {surplus:.9g}, but the mechanism "
                f"{result.mechanism.name!r} {'keeps none' if most == 0.0 else 'runs no deficit'}."
            )
        for name, value in (("operator_revenue", cost), ("operator_revenue_grid", grid_cost)):
            told = _recorded(result, name, episode)
            if told is not None and abs(told - value) > TOLERANCE * abs(value) + scale:
                raise PeerWattError(
                    f"{path}: test.metrics.{name}.{episode}: {told:.9g}, but what the community "
                    f"pays, and the grid gets, is {value:.9g}."
                )
        sums = (
            (
                "savings",
                test.savings[episode],
                grid_cost - cost - surplus,
                "grid_cost less cost less market_surplus",
            ),
            ("grid_bills", test.grid_bills[episode], grid_cost, "grid_cost"),
        )
        for name, households, expected, meaning in sums:
            total = math.fsum(households)
            if abs(total - expected) > TOLERANCE * abs(expected) + scale:
                raise PeerWattError(
                    f"{path}: test.{name}.{episode}: the households add up to {total:.9g}, not to "
                    f"{expected:.9g} ({meaning})."
                )


def _recorded(result: RunResult, name: str, episode: int) -> float | None:
    """Return a metric of an episode; None if it is undefined or was not recorded."""
    values = result.test.metrics.get(name)
    return None if values is None else values[episode]


def _surplus_bounds(path: Path, mechanism: PluginRecord) -> tuple[float, float]:
    """Return how much a mechanism of PeerWatt may keep of the payments; of others all is open."""
    plugin = own_plugin("mechanism", mechanism.distribution, mechanism.name)
    if plugin is None:
        return -math.inf, math.inf
    try:
        properties = build("mechanism", plugin, mechanism.options).properties
    except PeerWattError as error:
        raise PeerWattError(f"{path}: mechanism.options: {error}") from None
    if "budget-balanced" in properties:
        return 0.0, 0.0
    return (0.0 if "no-deficit" in properties else -math.inf), math.inf


def _check_metrics(path: Path, result: RunResult) -> None:
    """Refuse metrics that the harness does not know, and values that they cannot take.

    One that is missing is no error: it is undefined, as in results from before it was introduced.
    """
    for name, values in result.test.metrics.items():
        if name not in METRICS:
            raise PeerWattError(
                f"{path}: test.metrics.{shown(name, 60)}: is no metric of the harness."
            )
        low, high, meaning = -math.inf, math.inf, ""
        if name in SHARES:
            low, high, meaning = 0.0, 1.0, "not between 0 and 1"
        elif name in AT_MOST_ONE:
            # Without a battery its cycles are undefined.
            stores = set(result.test.metrics.get("battery_cycles", [0.0])) != {None}
            low, high = -math.inf if stores else 0.0, 1.0
            meaning = "more than 1" if stores else "not between 0 and 1"
        elif name.endswith("_kwh") or name in NOT_NEGATIVE:
            low, meaning = 0.0, "negative"
        for episode, value in enumerate(values):
            if value is not None and not low - 1e-9 <= value <= high + 1e-9:
                raise PeerWattError(
                    f"{path}: test.metrics.{name}.{episode}: {value:.9g} is {meaning}."
                )
    for part in ("volume_kwh", "fbs_kwh"):
        _check_part(path, result, part)
    _check_ftg(path, result)


def _check_part(path: Path, result: RunResult, part: str) -> None:
    """Refuse more energy of a kind than could be traded."""
    metrics = result.test.metrics
    pairs = zip(metrics.get(part, []), metrics.get("feasible_kwh", []), strict=False)
    for episode, (value, most) in enumerate(pairs):
        if value is not None and most is not None and value > most * (1 + 1e-9):
            raise PeerWattError(
                f"{path}: test.metrics.{part}.{episode}: {value:.9g} is more than the tradable "
                f"{most:.9g} kWh."
            )


def _check_ftg(path: Path, result: RunResult) -> None:
    """Refuse an FTG that is not the traded share of the tradable energy beside it."""
    metrics = result.test.metrics
    names = ("ftg", "volume_kwh", "feasible_kwh")
    for episode, (ftg, volume, most) in enumerate(
        zip(*(metrics.get(n, []) for n in names), strict=False)
    ):
        if None in (ftg, volume) or not most:
            continue
        if abs(ftg - volume / most) > TOLERANCE:
            raise PeerWattError(
                f"{path}: test.metrics.ftg.{episode}: {ftg:.9g} is not volume_kwh / feasible_kwh, "
                f"which is {volume / most:.9g}."
            )


def _check_timings(path: Path, result: RunResult) -> None:
    """Refuse times and speeds below 0."""
    for name, value in result.timings:
        if value is not None and value < 0:
            raise PeerWattError(f"{path}: timings.{name}: {value:.9g} is negative.")


def _check_critic(path: Path, result: RunResult) -> None:
    """Refuse a critic's account of itself that does not add up."""
    for role in ("algorithm", "mechanism"):
        if getattr(result, role).contents:
            raise PeerWattError(f"{path}: {role}.contents: only a critic names files that it read.")
    usage = result.critic_usage
    if usage is None:
        return
    if usage.slots != usage.parts:
        raise PeerWattError(
            f"{path}: critic_usage.slots: {usage.slots} is not the sum of its parts, {usage.parts}."
        )
    played = result.agent_steps // result.task.households
    if usage.slots > played:
        raise PeerWattError(
            f"{path}: critic_usage.slots: {usage.slots} is more than the {played} that were played."
        )
    if usage.retries > usage.calls:
        raise PeerWattError(
            f"{path}: critic_usage.retries: {usage.retries} is more than the {usage.calls} calls."
        )
    if usage.held_out is not None:
        _check_held_out(path, usage, usage.held_out)


def _check_held_out(path: Path, usage: CriticUsage, held: HeldOut) -> None:
    """Refuse an account of a student that does not add up."""
    place = f"{path}: critic_usage.held_out"
    if held.error is not None:
        low, high = held.low or 0.0, math.inf if held.high is None else held.high
        if not low <= held.error <= high:
            raise PeerWattError(f"{place}.error: {held.error:.9g} is not in its interval.")
    if held.slots + held.unanswered > held.asked:
        raise PeerWattError(
            f"{place}.asked: {held.asked} is less than the {held.slots} slots held out and the "
            f"{held.unanswered} without an answer."
        )
    if held.unjudged > usage.student:
        raise PeerWattError(
            f"{place}.unjudged: {held.unjudged} is more than the {usage.student} slots that the "
            "student scored."
        )
    if held.within is not None and held.within != (
        held.high is not None and held.high <= held.bound
    ):
        raise PeerWattError(
            f"{place}.within: is {str(held.within).lower()}, unlike the interval and the bound."
        )


def check_same_scenarios(run: Run, first: Run, tolerance: float = TOLERANCE) -> None:
    """Refuse a run of one task that was not evaluated on the same scenarios as another.

    Args:
        run: the run.
        first: the other.
        tolerance: how far the money that no policy can change may be apart, relatively.

    Raises:
        PeerWattError: the sentence names both files.
    """
    here, there = run.result, first.result
    if (here.task, here.households) != (there.task, there.households):
        raise PeerWattError(
            f"{run.path}: task: other households or slots of {here.task.name} than {first.path}; "
            "the two do not compare."
        )
    for field in ("grid_cost", "oracle_cost", "grid_bills"):
        one, other = getattr(here.test, field), getattr(there.test, field)
        slack = 1e-3 * tolerance
        if len(one) != len(other) or not np.allclose(one, other, rtol=tolerance, atol=slack):
            raise PeerWattError(
                f"{run.path}: test.{field}: evaluated on other scenarios of "
                f"{here.task.name} than {first.path}; the two do not compare."
            )


def _group(runs: Iterable[Run]) -> tuple[Entry, ...]:
    """Group the runs of one board into entries with distinct labels."""
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        result = run.result
        plugins = (result.algorithm, result.critic)
        names = [name for p in plugins for name in (p.name, p.distribution)]
        groups[(*names, result.config_hash)].append(run)
    members = [
        sorted(group, key=lambda run: run.result.seed) for _, group in sorted(groups.items())
    ]
    for group in members:
        for one, other in itertools.pairwise(group):
            if one.result.seed == other.result.seed:
                raise PeerWattError(
                    f"{other.path}: seed: {other.result.seed} is already told by {one.path}."
                )
    labels = labels_of([Asked.of(group[0].result) for group in members])
    return tuple(
        Entry(runs=tuple(group), label=label) for group, label in zip(members, labels, strict=True)
    )
