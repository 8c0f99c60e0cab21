"""Check one entry without believing, executing or unpickling anything of it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peerwatt.community import Task
from peerwatt.errors import PeerWattError, told
from peerwatt.evaluation import METRICS, Evaluator
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import FILE_PREFIX, Kind, Registered, registry
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.entries import (
    TOLERANCE,
    Run,
    check_same_scenarios,
    checked_run,
    effective_options,
    own_plugin,
)
from peerwatt.runs.result import METRICS_VERSION, SCHEMA_VERSION, PluginRecord, RunResult
from peerwatt.runs.store import METRICS_FILE, RESULT_FILE
from peerwatt.submissions.entry import ENTRY_SCHEMA, EntryRecord, Header, TaskOfEntry, entry_id
from peerwatt.submissions.guards import (
    ENTRY_FILE,
    ENTRY_LEVEL,
    MAX_BYTES,
    check_no_link,
    check_portable,
    check_safetensors,
    files_of_entry,
    parse_lines,
    parse_object,
    read_bytes,
    refuse,
    shown,
    strictly,
)

REPACK = "pack the runs again with `peerwatt submit pack`"
REPEAT = "repeat the run and pack it again"
ALIKE = TOLERANCE / 5
"""Relative error up to which entries were evaluated on the same scenarios. Four such steps lead
from any run over its entry and another one to any other run, which compare by `TOLERANCE`."""


WEIGHTS = {
    "ftg": "feasible_kwh",
    "fbs": "fbs_kwh",
    "fpp": "feasible_kwh",
    "ftb": "feasible_kwh",
    "mean_price": "volume_kwh",
    "price_qoe": "volume_kwh",
}
"""Metric -> the energy without which it is undefined."""
MAYBE_UNDEFINED = {"p2p_ratio", "self_consumption", "self_sufficiency", "battery_cycles"}
"""Where there is no energy, generation, load or battery; all others are always defined."""


@dataclass(frozen=True)
class Submission:
    """One entry of the results root, as far as it was read."""

    folder: Path
    header: Header
    outdated: str | None
    """Why it does not compare with today's entries; then nothing but the header was read."""
    record: EntryRecord | None = None
    runs: tuple[Run, ...] = ()
    policies: Mapping[int, Mapping[str, bytes]] = field(default_factory=dict)
    """Seed -> file name -> content."""

    @property
    def file(self) -> Path:
        """Its `entry.json`."""
        return self.folder / ENTRY_FILE

    @property
    def trainings(self) -> set[frozenset[tuple[str, str]]]:
        """Names and SHA-256 of the files of each trained policy."""
        if self.record is None or self.record.budget == 0:
            return set()
        return {
            frozenset(item for item in run.files.items() if item[0] not in MAX_BYTES)
            for run in self.record.runs
        }


def is_entry(path: Path) -> bool:
    """Return whether `path` is the folder of one entry."""
    return (path / ENTRY_FILE).is_symlink() or (path / ENTRY_FILE).exists()


def read_header(folder: Path) -> Header:
    """Read the part of `entry.json` that every version of it has; its id is checked.

    Raises:
        PeerWattError: it is not what `peerwatt submit pack` writes.
    """
    return _header(folder, read_bytes(folder / ENTRY_FILE))


def _header(folder: Path, raw: bytes) -> Header:
    file = folder / ENTRY_FILE
    content = parse_object(raw, file)
    header = strictly(Header, raw, file, REPACK)
    if header.entry_id != entry_id(content):
        refuse(file, "entry_id", "is not the SHA-256 of the rest", REPACK)
    return header


def read_entry(folder: Path, place: Path | None = None) -> Submission:
    """Read and check the entry in `folder`.

    Args:
        folder: where its files are.
        place: where they will be, if that is another folder.

    Raises:
        PeerWattError: the sentence names the file, the field and the mend.
    """
    check_no_link(folder)
    files = files_of_entry(folder)
    raw = read_bytes(folder / ENTRY_FILE)
    header = _header(folder, raw)
    if (place or folder.absolute()).parts[-ENTRY_LEVEL:] != header.folder:
        expected = "/".join(header.folder)
        refuse(folder / ENTRY_FILE, "", f"belongs into the folder {expected}", "move it there")
    for name in header.folder:
        check_portable(Path(name))
    outdated = _outdated(header)
    if outdated is not None:
        return Submission(folder, header, outdated)
    record = strictly(EntryRecord, raw, folder / ENTRY_FILE, REPACK)
    contents = {path: read_bytes(path) for path in files if path.name != ENTRY_FILE}
    _check_files(folder, record, contents)
    for path, content in contents.items():
        _check_content(path, content)
    results = [path for path in contents if path.name == RESULT_FILE]
    runs = tuple(_run(path, contents[path]) for path in results)
    _check_agreement(record, runs)
    _check_plugins(folder / ENTRY_FILE, record)
    for run in runs:
        if modelled(run.result) and not record.disclosure.llm_in_training:
            problem = f"is false, but the critic {record.critic.name!r} asked a model"
            mend = "pack the runs again with --llm-in-training"
            refuse(folder / ENTRY_FILE, "disclosure.llm_in_training", problem, mend)
        _check_hashes(run, record)
        _check_shaping(run)
        _check_complete(run)
        _check_anchors(run, record)
        _check_prices(run, record)
    for run in runs:
        check_same_scenarios(run, runs[0], ALIKE)
    policies = _policies(runs, contents)
    if record.budget > 0:
        _check_distinct(folder, policies)
    return Submission(folder, header, None, record, runs, policies)


def _check_files(folder: Path, record: EntryRecord, contents: Mapping[Path, bytes]) -> None:
    """Hold the files that are there against those that `entry.json` binds."""
    file = folder / ENTRY_FILE
    seeds = [run.seed for run in record.runs]
    if seeds != sorted(set(seeds)):
        refuse(file, "runs", f"tells the seeds {seeds}, which must rise", REPACK)
    bound = {
        folder / f"seed-{run.seed:03d}" / name: digest
        for run in record.runs
        for name, digest in run.files.items()
    }
    for path in sorted(bound.keys() | contents.keys()):
        name = path.relative_to(folder)
        if path not in contents:
            refuse(file, "runs", f"names {shown(str(name))}, which is not there", REPACK)
        if path not in bound:
            refuse(path, "", "is not named in entry.json", "take it out")
        if hashlib.sha256(contents[path]).hexdigest() != bound[path]:
            refuse(path, "", "has another SHA-256 than entry.json tells", REPACK)


def _check_content(path: Path, content: bytes) -> None:
    """Parse a file under guard, whatever it is."""
    if path.suffix == ".safetensors":
        check_safetensors(content, path)
    elif path.name == METRICS_FILE:
        for number, row in enumerate(parse_lines(content, path), 1):
            for key, value in row.items():
                if value is not None and type(value) not in (int, float):
                    problem = f"{shown(key)} is no number"
                    refuse(path, f"line {number}", problem, "log numbers only")
    else:
        parse_object(content, path)


def _run(path: Path, raw: bytes) -> Run:
    result = strictly(RunResult, raw, path, REPEAT)
    try:
        return checked_run(path, raw, result)
    except PeerWattError as error:
        text = shown(str(error).removesuffix("."), 600)
        raise PeerWattError(f"{text}; {REPEAT}.") from None


def _check_agreement(record: EntryRecord, runs: Sequence[Run]) -> None:
    """Hold every result against what `entry.json` says of all, and against its folder."""
    for run in runs:
        result = run.result
        if run.path.parent.name != f"seed-{result.seed:03d}":
            problem = f"{result.seed} is not that of the folder {run.path.parent.name}"
            refuse(run.path, "seed", problem, REPACK)
        for kind in ("algorithm", "critic", "mechanism"):
            here, there = (getattr(side, kind).source for side in (result, record))
            if here != there:
                problem = (
                    f"'{shown(str(here), 200)}', but '{shown(str(there), 200)}' in {ENTRY_FILE}: "
                    "made by different code"
                )
                mend = "repeat the runs with one installation and pack them again"
                refuse(run.path, f"{kind}.source", problem, mend)
        here, there = _common(result), _common(record)
        for name, value in here.items():
            if value != there[name]:
                refuse(run.path, name, f"does not agree with {ENTRY_FILE}", REPACK)


def _common(record: EntryRecord | RunResult) -> dict[str, object]:
    """Return what an entry and all its results tell alike; versions were checked before."""
    return {
        "task": (record.task.name, record.task.content_hash),
        "algorithm": record.algorithm,
        "critic": record.critic,
        "mechanism": record.mechanism,
        "budget": record.budget,
        "config_hash": record.config_hash,
    }


def _check_hashes(run: Run, record: EntryRecord) -> None:
    """Hold the hashes in a result against those in `entry.json`, which are true."""
    (bound,) = (item.files for item in record.runs if item.seed == run.result.seed)
    others = {name: digest for name, digest in bound.items() if name != RESULT_FILE}
    if dict(run.result.files) != others:
        refuse(run.path, "files", "are not those of its folder", REPEAT)


def modelled(result: RunResult) -> bool:
    """Return whether a model took part in the training by way of the critic, as far as it says."""
    return result.critic_usage is not None and result.critic_usage.modelled


def _check_shaping(run: Run) -> None:
    """Refuse a shaping that no run records."""
    shaping = run.result.shaping
    names = [item.name for item in dataclasses.fields(Shaping)]
    if sorted(shaping) != sorted(names):
        refuse(run.path, "shaping", f"must have {', '.join(names)}, and nothing else", REPEAT)
    for name, value in shaping.items():
        if type(value) not in ((bool,) if name == "role_aware" else (int, float)):
            refuse(run.path, f"shaping.{name}", "is of another type", REPEAT)
    try:
        Shaping(**shaping)
    except PeerWattError as error:
        refuse(run.path, "shaping", str(error).removesuffix("."), REPEAT)


def _check_complete(run: Run) -> None:
    """Refuse metrics that are missing, or undefined in an episode in which they are defined.

    An episode without a score is left out of its mean, and a bad one must not be.
    """
    metrics = run.result.test.metrics
    if missing := [name for name in METRICS if name not in metrics]:
        refuse(run.path, "test.metrics", f"{', '.join(missing)} is missing", REPEAT)
    for name in METRICS.keys() - MAYBE_UNDEFINED:
        weights = metrics[WEIGHTS[name]] if name in WEIGHTS else [1.0] * len(metrics[name])
        for episode, (value, weight) in enumerate(zip(metrics[name], weights, strict=True)):
            if (value is not None) != bool(weight):
                state = "undefined" if value is None else "defined"
                problem = f"is {state}, which is not so of such an episode"
                refuse(run.path, f"test.metrics.{name}.{episode}", problem, REPEAT)


def _policies(runs: Iterable[Run], contents: Mapping[Path, bytes]) -> dict[int, dict[str, bytes]]:
    return {
        run.result.seed: {
            path.name: content
            for path, content in contents.items()
            if path.parent == run.path.parent and path.name not in MAX_BYTES
        }
        for run in runs
    }


def _check_distinct(folder: Path, policies: Mapping[int, Mapping[str, bytes]]) -> None:
    """Refuse one training that passes for several seeds."""
    for one, other in itertools.combinations(sorted(policies), 2):
        if policies[one] == policies[other]:
            problem = f"has the very policy of seed {one}, though it was trained"
            refuse(folder / f"seed-{other:03d}", "", problem, "train every seed by itself")


# --- what PeerWatt itself knows --------------------------------------------------------------


def _check_plugins(file: Path, record: EntryRecord) -> None:
    """Hold the names that an entry gives as PeerWatt's own against what PeerWatt has."""
    parts: tuple[tuple[Kind, PluginRecord | TaskOfEntry], ...] = (
        ("task", record.task),
        ("algorithm", record.algorithm),
        ("critic", record.critic),
        ("mechanism", record.mechanism),
    )
    for kind, part in parts:
        normal = re.sub(r"[-_.]+", "-", part.distribution).lower().strip("-")  # PEP 503
        if normal == PROJECT != part.distribution:
            mend = f"write {PROJECT} if it is PeerWatt's own"
            problem = f"{part.distribution!r} is another spelling of {PROJECT}"
            refuse(file, f"{kind}.distribution", problem, mend)
        if part.distribution.startswith(FILE_PREFIX):
            mend = f"package it with `peerwatt plugins new NAME --kind {kind}`"
            refuse(file, f"{kind}.distribution", f"{part.distribution} is a single file", mend)
        plugin = own_plugin(kind, part.distribution, part.name)
        if part.distribution == PROJECT and plugin is None:
            refuse(file, f"{kind}.name", f"PeerWatt has no {kind} {part.name!r}", REPACK)
        if isinstance(part, PluginRecord) and plugin is not None and not plugin.spec.requires:
            check_options(file, kind, part, plugin)
    task = record.task
    if task.distribution != PROJECT and own_plugin("task", PROJECT, task.name) is not None:
        problem = f"{task.name!r} is a task of PeerWatt, not of {task.distribution}"
        refuse(file, "task.distribution", problem, "give the task a name of its own")
    algorithm = own_plugin("algorithm", record.algorithm.distribution, record.algorithm.name)
    if algorithm is not None:
        if algorithm.spec.trainable and record.budget == 0:
            refuse(file, "budget", f"{record.algorithm.name!r} cannot learn with 0", REPACK)
        if not algorithm.spec.trainable and record.budget > 0:
            refuse(file, "budget", f"{record.algorithm.name!r} does not learn: it is 0", REPACK)


def check_options(file: Path, kind: Kind, record: PluginRecord, plugin: Registered) -> None:
    """Refuse options of PeerWatt's own plugin that no run with it would record.

    They would make one configuration pass for several. Those of another version cannot be told.

    Raises:
        PeerWattError: so it is, or the plugin cannot be loaded.
    """
    if record.version != plugin.version:
        return
    try:
        expected = effective_options(kind, plugin, record.options)
    except PeerWattError as error:
        refuse(file, f"{kind}.options", shown(str(error).removesuffix("."), 300), REPACK)
    here, there = (json.dumps(options, sort_keys=True) for options in (record.options, expected))
    if here != there:
        problem = f"{shown(here, 200)} are recorded as {shown(there, 200)}"
        refuse(file, f"{kind}.options", problem, REPEAT)
    if record.contents and not hasattr(plugin.spec.load(), "contents"):
        refuse(file, f"{kind}.contents", f"{record.name!r} reads no files", REPEAT)


def made_task(plugin: Registered) -> Task:
    """Return the task that `plugin` provides, which may be a stranger's.

    Raises:
        PeerWattError: it cannot be made.
    """
    factory = plugin.spec.load()
    try:
        task = factory()
    except Exception as error:
        raise PeerWattError(
            f"the task {plugin.spec.name!r} of {plugin.distribution} cannot be made: {told(error)}."
        ) from error
    if not isinstance(task, Task):
        raise PeerWattError(
            f"the task {plugin.spec.name!r} of {plugin.distribution} is a {type(task).__name__}: "
            "its factory must return a Task."
        )
    return task


@cache
def _task(name: str, distribution: str) -> Task | None:
    """Make a registered task, or return None."""
    plugin = registry().qualified["task"].get(f"{distribution}:{name}")
    return None if plugin is None else made_task(plugin)


def _outdated(header: Header) -> str | None:
    """Say in a clause why an entry does not compare with today's, if it does not."""
    pairs = (
        ("entry.json", header.schema_version, ENTRY_SCHEMA),
        ("the results", header.result_schema, SCHEMA_VERSION),
        ("the metrics", header.metrics_version, METRICS_VERSION),
    )
    for name, then, now in pairs:
        if then != now:
            return f"version {then} of {name}, today it is {now}"
    task = _task(header.task.name, header.task.distribution)
    if task is not None and task.content_hash != header.task.content_hash:
        old, new = header.task.content_hash[:12], task.content_hash[:12]
        return f"task content {old}, today it is {new}"
    return None


class _Idle:
    """Does nothing; what the grid and the optimum cost does not depend on it."""

    def act(
        self,
        observations: NDArray[np.float32],
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        return np.zeros((*observations.shape[:2], 3), np.int64)

    def save(self, folder: Path) -> None:
        """Save nothing."""

    @classmethod
    def load(cls, folder: Path) -> _Idle:
        return cls()


@cache
def _anchors(name: str) -> tuple[list[float], list[float], list[list[float]]]:
    """Return grid-only cost, optimum and grid-only bills of the test episodes of an own task."""
    task = _task(name, PROJECT)
    assert task is not None
    found = Evaluator(task, "test")(_Idle(), 0)
    return found.grid_cost.tolist(), found.oracle_cost.tolist(), found.grid_bills.tolist()


def _check_anchors(run: Run, record: EntryRecord) -> None:
    """Hold households, grid-only costs and optima of PeerWatt's own tasks against the truth."""
    if record.task.distribution != PROJECT:
        return
    task, result = _task(record.task.name, PROJECT), run.result
    assert task is not None
    if (result.task.slots, result.households) != (task.horizon, list(task.community.groups)):
        refuse(run.path, "households", f"are not those of {task.name}", REPEAT)
    for name, recorded, true in zip(
        ("grid_cost", "oracle_cost", "grid_bills"),
        (result.test.grid_cost, result.test.oracle_cost, result.test.grid_bills),
        _anchors(task.name),
        strict=True,
    ):
        one, other = np.array(recorded), np.array(true)
        scale = TOLERANCE * float(np.abs(other).max())
        if one.shape != other.shape or not np.allclose(one, other, rtol=TOLERANCE, atol=scale):
            refuse(run.path, f"test.{name}", f"is not that of the episodes of {task.name}", REPEAT)


def _check_prices(run: Run, record: EntryRecord) -> None:
    """Refuse prices and surpluses that PeerWatt's own mechanisms never make on its own tasks.

    They trade between free of charge and the retail price; what the market maker keeps or pays in
    for a kWh is at most that.
    """
    mechanism = own_plugin("mechanism", record.mechanism.distribution, record.mechanism.name)
    if record.task.distribution != PROJECT or mechanism is None:
        return
    task = _task(record.task.name, PROJECT)
    assert task is not None
    retail = float(task.community.retail.max()) * task.card.tariff.tick
    metrics = run.result.test.metrics
    names = ("volume_kwh", "mean_price", "market_surplus")
    for episode, values in enumerate(zip(*(metrics[name] for name in names), strict=True)):
        volume, price, surplus = (value or 0.0 for value in values)
        slack = TOLERANCE * (1.0 + volume * retail)
        if not -slack <= price <= retail + slack:
            problem = f"{price:.9g} is not between 0 and the retail price of {retail:.9g}"
            refuse(run.path, f"test.metrics.mean_price.{episode}", problem, REPEAT)
        if abs(surplus) > volume * retail + slack:
            problem = f"{surplus:.9g} is more than {volume:.9g} kWh can cost"
            refuse(run.path, f"test.metrics.market_surplus.{episode}", problem, REPEAT)
