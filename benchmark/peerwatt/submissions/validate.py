"""Check entries without believing, executing or unpickling anything of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peerwatt.community import Task
from peerwatt.errors import PeerWattError
from peerwatt.evaluation import Evaluator
from peerwatt.plugins.loader import Kind, Registered, registry
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.entries import TOLERANCE, Run, checked_run
from peerwatt.runs.result import METRICS_VERSION, SCHEMA_VERSION, PluginRecord, RunResult
from peerwatt.runs.store import METRICS_FILE, RESULT_FILE
from peerwatt.submissions.entry import ENTRY_SCHEMA, EntryRecord, Header, entry_id
from peerwatt.submissions.guards import (
    ENTRY_FILE,
    ENTRY_LEVEL,
    LEDGER_FILE,
    MAX_BYTES,
    check_no_link,
    check_safetensors,
    files_of_entry,
    names_in,
    parse_lines,
    parse_object,
    read_bytes,
    refuse,
    shown,
    strictly,
)
from peerwatt.submissions.ledger import Ledger, read_ledger

REPACK = "pack the runs again with `peerwatt submit pack`"
REPEAT = "repeat the run and pack it again"


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


@dataclass
class Results:
    """A results root: what is right, and one sentence for each thing that is not."""

    root: Path
    entries: list[Submission] = field(default_factory=list)
    superseded: dict[str, str] = field(default_factory=dict)
    """Id of an entry -> id of the one that corrects it."""
    ledger: Ledger = field(default_factory=lambda: Ledger({}, {}))
    problems: list[str] = field(default_factory=list)


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
        _check_hashes(run, record)
        _check_anchors(run, record)
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
        task = {"name": result.task.name, "content_hash": result.task.content_hash}
        here = {
            "task": task,
            "algorithm": _identity(result.algorithm),
            "critic": _identity(result.critic),
            "mechanism": _identity(result.mechanism),
            "budget": result.budget,
            "config_hash": result.config_hash,
            "metrics_version": result.metrics_version,
            "result_schema": result.schema_version,
        }
        there = {
            "task": record.task.model_dump(include=set(task)),
            "algorithm": _identity(record.algorithm),
            "critic": _identity(record.critic),
            "mechanism": _identity(record.mechanism),
            "budget": record.budget,
            "config_hash": record.config_hash,
            "metrics_version": record.metrics_version,
            "result_schema": record.result_schema,
        }
        for name, value in here.items():
            if value != there[name]:
                refuse(run.path, name, f"does not agree with {ENTRY_FILE}", REPACK)
        if result.shaping != runs[0].result.shaping:
            refuse(run.path, "shaping", f"is not that of {runs[0].path.parent.name}", REPEAT)


def _identity(plugin: PluginRecord) -> dict[str, object]:
    """Return all but where it was installed from, as `config_hash` does."""
    return plugin.model_dump(exclude={"source"})


def _check_hashes(run: Run, record: EntryRecord) -> None:
    """Hold the hashes in a result against those in `entry.json`, which are true."""
    (bound,) = (item.files for item in record.runs if item.seed == run.result.seed)
    others = {name: digest for name, digest in bound.items() if name != RESULT_FILE}
    if dict(run.result.files) != others:
        refuse(run.path, "files", "are not those of its folder", REPEAT)


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


def _own(kind: Kind, name: str) -> Registered | None:
    return registry().qualified[kind].get(f"{PROJECT}:{name}")


def _check_plugins(file: Path, record: EntryRecord) -> None:
    """Hold the names that an entry gives as PeerWatt's own against what PeerWatt has."""
    parts: tuple[tuple[Kind, str, str], ...] = (
        ("task", record.task.name, record.task.distribution),
        ("algorithm", record.algorithm.name, record.algorithm.distribution),
        ("critic", record.critic.name, record.critic.distribution),
        ("mechanism", record.mechanism.name, record.mechanism.distribution),
    )
    for kind, name, distribution in parts:
        if distribution.startswith("file:"):
            mend = f"package it with `peerwatt plugins new NAME --kind {kind}`"
            refuse(file, f"{kind}.distribution", f"{distribution} is a single file", mend)
        if distribution == PROJECT and _own(kind, name) is None:
            refuse(file, f"{kind}.name", f"PeerWatt has no {kind} {name!r}", REPACK)
    if record.task.distribution != PROJECT and _own("task", record.task.name) is not None:
        problem = f"{record.task.name!r} is a task of PeerWatt, not of {record.task.distribution}"
        refuse(file, "task.distribution", problem, "give the task a name of its own")
    algorithm = _own("algorithm", record.algorithm.name)
    if record.algorithm.distribution == PROJECT and algorithm is not None:
        if algorithm.spec.trainable and record.budget == 0:
            refuse(file, "budget", f"{record.algorithm.name!r} cannot learn with 0", REPACK)
        if not algorithm.spec.trainable and record.budget > 0:
            refuse(file, "budget", f"{record.algorithm.name!r} does not learn: it is 0", REPACK)


@cache
def _task(name: str, distribution: str) -> Task | None:
    """Load a registered task, or return None."""
    plugin = registry().qualified["task"].get(f"{distribution}:{name}")
    task: Task | None = None if plugin is None else plugin.spec.load()()
    return task


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
        told = header.task.content_hash[:12]
        return f"task content {told}, today it is {task.content_hash[:12]}"
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
    for name, told, true in zip(
        ("grid_cost", "oracle_cost", "grid_bills"),
        (result.test.grid_cost, result.test.oracle_cost, result.test.grid_bills),
        _anchors(task.name),
        strict=True,
    ):
        one, other = np.array(told), np.array(true)
        scale = TOLERANCE * float(np.abs(other).max())
        if one.shape != other.shape or not np.allclose(one, other, rtol=TOLERANCE, atol=scale):
            refuse(run.path, f"test.{name}", f"is not that of the episodes of {task.name}", REPEAT)


def read_entry_in_place(folder: Path) -> Submission:
    """Read and check the entry in `folder`, and what it says of others in its results root.

    Raises:
        PeerWattError: the sentence names the file, the field and the mend.
    """
    entry = read_entry(folder)
    root = folder.absolute().parents[ENTRY_LEVEL - 1]
    results = Results(root, [entry], ledger=read_ledger(root))
    target = entry.header.supersedes
    for other in sorted(root.glob(f"*/*/*/{target[:16]}")) if target else ():
        header = read_header(other)
        if header.entry_id == target:
            results.entries.append(Submission(other, header, "only its header was read"))
    _relate(results)
    if results.problems:
        raise PeerWattError(results.problems[0])
    return entry


# --- a whole results root --------------------------------------------------------------------


def read_results(root: Path) -> Results:
    """Read all entries below `root`; what is wrong with one leaves the others alone.

    Raises:
        PeerWattError: `root` itself cannot be read.
    """
    check_no_link(root)
    results = Results(root)
    folders = [root]
    for level in range(ENTRY_LEVEL):
        below: list[Path] = []
        for folder in folders:
            try:
                below += names_in(folder, level)[0]
            except PeerWattError as error:
                if level == 0:
                    raise
                results.problems.append(str(error))
        folders = below
    try:
        results.ledger = read_ledger(root)
    except PeerWattError as error:
        results.problems.append(str(error))
    for folder in folders:
        try:
            results.entries.append(read_entry(folder, folder.absolute()))
        except PeerWattError as error:
            results.problems.append(str(error))
    _relate(results)
    return results


def _relate(results: Results) -> None:
    """Check what entries say of each other; leave out those that say what is not so."""
    by_id = {entry.header.entry_id: entry for entry in results.entries}
    wrong: set[str] = set()
    for entry in results.entries:
        try:
            _check_removed(entry, results.ledger)
            _check_correction(entry, by_id, results)
        except PeerWattError as error:
            results.problems.append(str(error))
            wrong.add(entry.header.entry_id)
    live: dict[tuple[object, ...], Submission] = {}
    for entry in sorted(results.entries, key=lambda entry: entry.header.created_utc):
        if entry.record is None or entry.header.entry_id in wrong | results.superseded.keys():
            continue
        record = entry.record
        key = (record.config_hash, record.algorithm.distribution, record.critic.distribution)
        if key in live:
            other = live[key].folder.relative_to(results.root)
            problem = f"the same configuration is told by {other}"
            mend = "correct that one with --supersedes, or change an option"
            try:
                refuse(entry.folder / ENTRY_FILE, "config_hash", problem, mend)
            except PeerWattError as error:
                results.problems.append(str(error))
                wrong.add(entry.header.entry_id)
        live.setdefault(key, entry)
    results.entries = [e for e in results.entries if e.header.entry_id not in wrong]
    results.superseded = {
        target: by for target, by in results.superseded.items() if by not in wrong
    }


def _check_removed(entry: Submission, ledger: Ledger) -> None:
    if entry.header.entry_id in ledger.removed:
        refuse(entry.folder, "", "is removed, says the ledger", "take it out")


def _check_correction(entry: Submission, by_id: Mapping[str, Submission], results: Results) -> None:
    """Check what an entry says it corrects, and note it."""
    header, file = entry.header, entry.folder / ENTRY_FILE
    target = header.supersedes
    if target is None:
        return
    if target in results.ledger.removed:
        return
    if target not in by_id:
        mend = "name the entry_id of one in the same results, or none"
        refuse(file, "supersedes", f"there is no entry {target[:16]}", mend)
    other = by_id[target].header
    same = (
        ("task", header.task.name, other.task.name),
        ("algorithm", header.algorithm.name, other.algorithm.name),
        ("distribution", header.algorithm.distribution, other.algorithm.distribution),
        ("submitter", header.submitter.name, other.submitter.name),
    )
    for name, here, there in same:
        if here != there:
            problem = f"{target[:16]} is of another {name} ({shown(there)})"
            refuse(file, "supersedes", problem, "correct only your own entries")
    if target in results.superseded:
        problem = f"{target[:16]} is superseded by {results.superseded[target][:16]} already"
        refuse(file, "supersedes", problem, "correct that one")
    seen, step = {header.entry_id}, target
    while step in by_id:
        if step in seen:
            refuse(file, "supersedes", "leads round in a circle", "name an older entry")
        seen.add(step)
        step = by_id[step].header.supersedes or ""
    results.superseded[target] = header.entry_id


def compare_with_base(results: Results, base: Path, maintainer: bool = False) -> list[str]:
    """Return a sentence for whatever `results` changes or lacks of the results in `base`.

    Entries are only ever added. A maintainer may remove one that the ledger tells as removed, add
    lines to the ledger and change the README.

    Raises:
        PeerWattError: `base` cannot be read.
    """
    problems = []
    before, after = _digests(base), _digests(results.root)
    removed = {line.path for line in results.ledger.removed.values()} if maintainer else set()
    told: set[str] = set()
    for name, digest in before.items():
        entry = "/".join(name.split("/")[:ENTRY_LEVEL])
        if after.get(name) == digest or entry in told:
            continue
        if entry in removed and not (results.root / entry).exists():
            continue
        if maintainer and "/" not in name and name in after:
            if name != LEDGER_FILE:
                continue
            if read_bytes(results.root / name).startswith(read_bytes(base / name)):
                continue
        told.add(entry)
        verb = "changes" if name in after else "lacks"
        where = shown(str(results.root / name), 400)
        problems.append(
            f"{where}: {verb} what is published; restore it, and correct an entry by a new one "
            "with --supersedes."
        )
    if not maintainer and LEDGER_FILE in after and LEDGER_FILE not in before:
        where = shown(str(results.root / LEDGER_FILE), 400)
        problems.append(f"{where}: only maintainers write the ledger; take it out.")
    for new in results.entries:
        place = "/".join((*new.header.folder, ENTRY_FILE))
        if new.outdated is not None and place not in before:
            problems.append(
                f"{new.folder / ENTRY_FILE}: is outdated ({new.outdated}); repeat the runs with "
                "today's PeerWatt and pack them again."
            )
    return problems


def _digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a results root by its path; links have none."""
    check_no_link(root)
    if not root.is_dir():
        raise PeerWattError(f"{root}: is no folder of results; name the base branch's one.")
    digests = {}
    folders = [(root, 0)]
    for folder, level in folders:
        try:
            below, files = names_in(folder, level)
        except PeerWattError:  # told already, by `read_results`
            continue
        folders += [(path, level + 1) for path in below]
        for path in files:
            raw = read_bytes(path)
            digests[path.relative_to(root).as_posix()] = hashlib.sha256(raw).hexdigest()
    return digests
