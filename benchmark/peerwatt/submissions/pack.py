"""Make the folder of an entry from finished runs."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from peerwatt.errors import PeerWattError
from peerwatt.errors import shown as printable
from peerwatt.evaluation.statistics import MIN_RUNS
from peerwatt.plugins.loader import FILE_PREFIX, find
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.entries import Run, read_run
from peerwatt.runs.result import PluginRecord
from peerwatt.runs.store import RESULT_FILE, written_at_once
from peerwatt.submissions.collection import find_entry
from peerwatt.submissions.entry import ENTRY_SCHEMA, Disclosure, EntryRecord, entry_id
from peerwatt.submissions.guards import ENTRY_FILE, shown
from peerwatt.submissions.validate import made_task, modelled, read_entry

RECOMMENDED_SEEDS = 10
SECRETS = {"key", "apikey", "token", "secret", "password", "passwd", "credential", "credentials"}
"""Words in the name of an option that nobody means to publish."""


@dataclasses.dataclass(frozen=True)
class Details:
    """What the submitter says beside the runs."""

    name: str
    contact: str
    code_url: str | None
    licence: str
    disclosure: Disclosure
    supersedes: str | None


@dataclasses.dataclass(frozen=True)
class Packed:
    """The entry that was made, and what its submitter should know."""

    folder: Path
    record: EntryRecord
    warnings: list[str]


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Read the runs in `folders`, each the folder of a seed or one that holds such folders.

    Raises:
        PeerWattError: there is none, one is not valid, or they are not of one entry.
    """
    files: dict[Path, Path] = {}
    for folder in folders:
        here = folder / RESULT_FILE
        found = [here] if here.is_file() else sorted(folder.glob(f"seed-*/{RESULT_FILE}"))
        if not found:
            raise PeerWattError(
                f"{folder}: holds no finished runs; name the folder of an entry, such as "
                "runs/pilot-v1/ippo--none--cda--0123abcd."
            )
        files |= {path.resolve(): path for path in found}
    runs = sorted(map(read_run, files.values()), key=lambda run: run.result.seed)
    for one, other in itertools.pairwise(runs):
        if one.result.config_hash != other.result.config_hash:
            raise PeerWattError(
                f"{other.path}: config_hash: is of another entry than {one.path}; pack the seeds "
                "of one configuration at a time."
            )
        for kind in ("algorithm", "critic", "mechanism"):
            here, there = (getattr(run.result, kind).source for run in (other, one))
            if here != there:
                raise PeerWattError(
                    f"{other.path}: {kind}.source: '{printable(str(here))}', but "
                    f"'{printable(str(there))}' of {one.path}: made by different code; repeat the "
                    "runs with one installation."
                )
        if one.result.seed == other.result.seed:
            raise PeerWattError(
                f"{other.path}: seed: {one.result.seed} is told by {one.path} too; name one of "
                "the two."
            )
    return runs


def pack(runs: Sequence[Run], out: Path, details: Details) -> Packed:
    """Write the entry of `runs` below the results root `out`, complete and valid or not at all.

    Raises:
        PeerWattError: something would not be accepted; the sentence names the mend.
    """
    first = runs[0].result
    for kind in ("algorithm", "critic", "mechanism"):
        plugin: PluginRecord = getattr(first, kind)
        if plugin.distribution.startswith(FILE_PREFIX):
            raise PeerWattError(
                f"{runs[0].path}: {kind}: {plugin.distribution} is a single file, which nobody "
                f"else can install; package it with `peerwatt plugins new {plugin.name} --kind "
                f"{kind}` and repeat the runs."
            )
    for run in runs:
        _check_secrets(run)
        if modelled(run.result) and not details.disclosure.llm_in_training:
            raise PeerWattError(
                f"{run.path}: critic_usage: the critic {first.critic.name!r} asked a model in "
                "training: add --llm-in-training."
            )
    seeds = []
    for run in runs:
        digests = {RESULT_FILE: hashlib.sha256(run.raw).hexdigest()}
        seeds.append({"seed": run.result.seed, "files": digests | _checked_files(run)})
    content: dict[str, Any] = {
        "schema_version": ENTRY_SCHEMA,
        "result_schema": first.schema_version,
        "metrics_version": first.metrics_version,
        "task": _task(runs[0]),
        "algorithm": first.algorithm.model_dump(mode="json"),
        "critic": first.critic.model_dump(mode="json"),
        "mechanism": first.mechanism.model_dump(mode="json"),
        "budget": first.budget,
        "config_hash": first.config_hash,
        "runs": seeds,
        "submitter": {"name": details.name, "contact": details.contact},
        "code_url": details.code_url,
        "licence": details.licence,
        "disclosure": details.disclosure.model_dump(),
        "supersedes": details.supersedes and find_entry(out, details.supersedes)[1].entry_id,
        # The time of the last run, so that the same runs make the same entry.
        "created_utc": max((run.result.created_utc for run in runs), key=datetime.fromisoformat),
    }
    content["entry_id"] = entry_id(content)
    record = _record(content)
    folder = out / first.task.name / first.algorithm.name / first.algorithm.version
    folder = folder / record.entry_id[:16]
    with written_at_once(folder, "--out") as draft:
        for run in runs:
            seed = draft / f"seed-{run.result.seed:03d}"
            seed.mkdir()
            (seed / RESULT_FILE).write_bytes(run.raw)
            for name in run.result.files:
                shutil.copyfile(run.path.parent / name, seed / name)
        text = record.model_dump_json(indent=1) + "\n"
        (draft / ENTRY_FILE).write_text(text, encoding="utf-8")
        try:
            read_entry(draft, folder.absolute())
        except PeerWattError as error:
            raise PeerWattError(str(error).replace(str(draft), str(folder))) from None
    return Packed(folder, record, list(_warnings(runs)))


def _checked_files(run: Run) -> dict[str, str]:
    """Return the hashes of the files beside a result, which must be those that it tells."""
    for name, digest in run.result.files.items():
        file = run.path.parent / name
        try:
            actual = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            raise PeerWattError(
                f"{file}: cannot be read ({error.strerror}); repeat the run."
            ) from None
        if actual != digest:
            raise PeerWattError(f"{file}: was changed since the run; repeat it with --again.")
    return dict(run.result.files)


def _task(run: Run) -> dict[str, str]:
    """Return the task as the entry names it; it must be a registered one, as it is today."""
    told = run.result.task
    try:
        plugin = find("task", told.name)
    except PeerWattError as error:
        raise PeerWattError(
            f"{run.path}: task: {error} An entry needs a task that others can install: package it "
            "with `peerwatt plugins new NAME --kind task`."
        ) from None
    if made_task(plugin).content_hash != told.content_hash:
        raise PeerWattError(
            f"{run.path}: task.content_hash: is not that of today's {told.name}; repeat the runs."
        )
    return {
        "name": told.name,
        "content_hash": told.content_hash,
        "distribution": plugin.distribution,
        "version": plugin.version,
    }


def _record(content: dict[str, Any]) -> EntryRecord:
    flags = {
        "submitter.name": "--name must be 1 to 80 letters, digits, spaces or .,'&()-",
        "submitter.contact": "--contact must be a mail address, a handle or a web address",
        "code_url": "--code-url must be an address such as https://example.org/code",
        "licence": "--licence must be the SPDX name of a licence, such as MIT",
    }
    try:
        return EntryRecord.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        told = flags.get(field, printable(f"{field}: {problem['msg']}"))
        raise PeerWattError(f"{told} (got '{shown(str(problem['input']))}').") from None


def _check_secrets(run: Run) -> None:
    """Refuse options, in the record or in the command, by whose name they are secret."""
    result = run.result
    told = [
        *_items(result.algorithm.options),
        *_items(result.critic.options),
        *_items(result.mechanism.options),
        *_flags(result.command),
    ]
    for name, value in told:
        words = set(re.split(r"[^a-z]+", name.lower()))
        if words & SECRETS and value not in (None, "", [], {}, False):
            raise PeerWattError(
                f"{run.path}: the option '{shown(name)}' looks secret and would be published; "
                "hand it over in an environment variable and repeat the runs."
            )


def _items(options: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all options with their values, those inside others too."""
    if isinstance(options, dict):
        for key, value in options.items():
            yield from _items(value, key)
    elif isinstance(options, list):
        for value in options:
            yield from _items(value, name)
    else:
        yield name, options


def _flags(command: str) -> Iterator[tuple[str, str]]:
    """Yield the flags of a command line with the words behind them."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            yield name, value if equals else following.removeprefix("--")


def _warnings(runs: Sequence[Run]) -> Iterator[str]:
    if len(runs) < MIN_RUNS:
        yield f"fewer than {MIN_RUNS} seeds get no rank, and {RECOMMENDED_SEEDS} are usual"
    elif len(runs) < RECOMMENDED_SEEDS:
        yield f"{RECOMMENDED_SEEDS} seeds are usual, and give truer intervals than {len(runs)}"
    if any(run.result.environment.git_dirty for run in runs):
        yield "the working tree had uncommitted changes, which the page will say"
    plugin = runs[0].result.algorithm
    if plugin.distribution != PROJECT and (plugin.source or "").startswith("local folder"):
        yield "the algorithm was installed from a local folder, which others cannot"


def published(packed: Packed) -> list[str]:
    """Return lines that tell what merging the entry makes public."""
    record = packed.record
    files = sorted(path for path in packed.folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    options = {**record.algorithm.options, **record.critic.options, **record.mechanism.options}
    result = read_run(packed.folder / f"seed-{record.runs[0].seed:03d}" / RESULT_FILE).result
    disclosed = [name for name, value in record.disclosure if value]
    number = len(record.runs)
    seeds = "1 seed with its policy" if number == 1 else f"{number} seeds with their policies"
    lines = [
        f"submitter: {record.submitter.name}, {record.submitter.contact}",
        f"code: {record.code_url or 'no address'}; licence of records and policies: "
        f"{record.licence}",
        f"disclosed: {', '.join(disclosed).replace('_', ' ') or 'nothing'}",
        f"options: {options}",
        f"command: {result.command}",
        f"machine: {result.environment.processor}, {result.environment.platform}",
        f"{len(files)} files, {size:,} bytes, {seeds}",
    ]
    return [printable(line, 10_000) for line in lines]
