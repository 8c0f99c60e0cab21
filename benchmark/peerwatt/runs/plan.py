"""Plans: which runs a results folder is to hold, so that `resume` can go on with them."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_jsonable_python

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import FILES
from peerwatt.runs.config import MAX_SEED, ResolvedRun, RunConfig, resolve
from peerwatt.runs.files import write_whole
from peerwatt.runs.labels import Asked, refined
from peerwatt.runs.labels import labels_of as entry_labels
from peerwatt.runs.suites import hashable
from peerwatt.runs.untrusted import read_small

PLANS = ".plans"
"""Folder of the plans, in the results folder."""
MOST_BYTES = 50_000_000
MOST_RUNS = 50_000
"""Runs of one plan."""
_Name = Annotated[str, Field(min_length=1, max_length=4096)]
_Scalar = str | bool | int | float | None
_Options = dict[
    Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,99}$")], _Scalar | list[_Scalar | list[_Scalar]]
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Entry(_Part):
    """A configuration with its seeds."""

    task: _Name
    algorithm: _Name
    algorithm_options: _Options = {}
    critic: _Name = "none"
    critic_options: _Options = {}
    mechanism: _Name | None = None
    mechanism_options: _Options = {}
    sink: _Name | None = None
    sink_options: _Options = {}
    shaping: dict[str, bool | float | int] = {}
    budget: Annotated[int, Field(ge=0, lt=2**53)]
    validations: Annotated[int, Field(ge=0, le=1000)]
    seeds: Annotated[
        list[Annotated[int, Field(ge=0, le=MAX_SEED)]], Field(min_length=1, max_length=10_000)
    ]


def _few(entries: list[_Entry]) -> list[_Entry]:
    runs = sum(len(entry.seeds) for entry in entries)
    if runs > MOST_RUNS:
        raise ValueError(f"{runs:,} runs are more than the {MOST_RUNS:,} that a plan may have")
    return entries


class _File(_Part):
    kind: Literal["peerwatt-plan"]
    schema_version: Literal[1]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    created_utc: Annotated[str, Field(max_length=40)]
    folder: Annotated[str, Field(max_length=4096)]
    plugins: list[_Name] = []
    entries: Annotated[list[_Entry], Field(min_length=1), AfterValidator(_few)]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Runs under a name."""

    name: str
    configs: tuple[RunConfig, ...]
    folder: str = ""
    """From where relative paths in options count: the working directory it was made in."""
    plugins: tuple[str, ...] = ()
    """Paths of plugins that are single files."""

    def save(self, results: Path) -> Path:
        """Write the plan into `results`, once: the same plan has the same file.

        Raises:
            PeerWattError: the disk refuses, or there are too many runs.
        """
        if len(self.configs) > MOST_RUNS:
            raise PeerWattError(
                f"{len(self.configs):,} runs are more than the {MOST_RUNS:,} that a plan may have: "
                "take several results folders, or fewer seeds."
            )
        entries = [entry.model_dump(mode="json") for entry in _entries(self.configs)]
        digest = hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:12]
        slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(self.name).stem).strip("-")[:60] or "plan"
        file = results / PLANS / f"{slug}-{digest}.json"
        if file.exists():
            return file
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        files = [name for name in os.environ.get(FILES, "").split(os.pathsep) if name]
        content = {
            "kind": "peerwatt-plan",
            "schema_version": 1,
            "name": self.name,
            "created_utc": now,
            "folder": os.getcwd(),
            "plugins": files,
            "entries": entries,
        }
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise PeerWattError(
                f"cannot write the plan {file}: {error.strerror}; name another folder with "
                "--results."
            ) from None
        return file


def _entries(configs: Iterable[RunConfig]) -> list[_Entry]:
    """Return configurations with their seeds; cards by their whole path."""
    seeds: dict[RunConfig, list[int]] = defaultdict(list)
    for config in configs:
        seeds[dataclasses.replace(config, seed=0)].append(config.seed)
    found = []
    for config, numbers in seeds.items():
        content = {
            field.name: getattr(config, field.name)
            for field in dataclasses.fields(config)
            if field.name not in ("seed", "shaping")
        }
        content["task"] = (
            os.path.abspath(config.task) if config.task.endswith(".toml") else config.task
        )
        for role in ("algorithm", "critic", "mechanism", "sink"):
            options = content[f"{role}_options"]
            content[f"{role}_options"] = to_jsonable_python(dict(options))
        shaping = dataclasses.asdict(config.shaping)
        found.append(_Entry(**content, shaping=shaping, seeds=numbers))
    return found


def read_plans(results: Path) -> list[Plan]:
    """Return the plans of a results folder; see `readable_plans`.

    Raises:
        PeerWattError: there is no such folder, or a plan is not what PeerWatt writes.
    """
    plans, problems = readable_plans(results)
    if problems:
        raise PeerWattError(problems[0])
    return plans


def readable_plans(results: Path) -> tuple[list[Plan], list[str]]:
    """Return the plans of a results folder, the oldest first, and what is wrong with others.

    They are data that may come from elsewhere: nothing in them is executed here.

    Raises:
        PeerWattError: there is no such folder.
    """
    if not results.is_dir():
        raise PeerWattError(f"{results}: no such folder; name the folder of the results.")
    found, problems = [], []
    for file in sorted(results.joinpath(PLANS).glob("[!.]*.json")):
        try:
            content = _read(file)
            configs = dict.fromkeys(c for entry in content.entries for c in _configs(entry, file))
        except PeerWattError as error:
            problems.append(str(error))
            continue
        plan = Plan(content.name, tuple(configs), content.folder, tuple(content.plugins))
        found.append((content.created_utc, file.name, plan))
    return [plan for *_, plan in sorted(found, key=lambda item: item[:2])], problems


def _read(file: Path) -> _File:
    try:
        return _File.model_validate_json(read_small(file, MOST_BYTES))
    except PeerWattError as error:
        raise PeerWattError(f"{str(error).removesuffix('.')}; remove it.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = shown(".".join(map(str, first["loc"])), 200)
        raise PeerWattError(
            f"{file}: {key}{': ' if key else ''}{shown(first['msg'])}; remove it and repeat the "
            "command that wrote it."
        ) from None


def _configs(entry: _Entry, file: Path) -> list[RunConfig]:
    content = {name: getattr(entry, name) for name in type(entry).model_fields if name != "seeds"}
    for role in ("algorithm", "critic", "mechanism", "sink"):
        options = content[f"{role}_options"].items()
        content[f"{role}_options"] = tuple((key, hashable(value)) for key, value in options)
    try:
        content["shaping"] = Shaping(**content["shaping"])
    except (TypeError, PeerWattError) as error:
        raise PeerWattError(f"{file}: shaping: {shown(str(error))}; remove it.") from None
    return [RunConfig(**content, seed=seed) for seed in entry.seeds]


def resolve_all(configs: Sequence[RunConfig]) -> list[ResolvedRun]:
    """Resolve `configs`, those that differ by their seed together.

    Raises:
        PeerWattError: a name is unknown or an option out of range.
    """
    known: dict[RunConfig, ResolvedRun] = {}
    found = []
    for config in configs:
        key = dataclasses.replace(config, seed=0)
        if key not in known:
            known[key] = resolve(key)
        if not 0 <= config.seed <= MAX_SEED:
            raise PeerWattError(f"seed {config.seed} must lie in 0..{MAX_SEED}.")
        found.append(dataclasses.replace(known[key], config=config))
    return found


def labels_of(runs: Sequence[ResolvedRun]) -> list[str]:
    """Name each run by task, entry and seed; the entries as a table of their results names them."""
    firsts = {run.config_hash: run for run in runs}
    boards: dict[str, list[ResolvedRun]] = defaultdict(list)
    for run in firsts.values():
        boards[run.task_record.model_dump_json() + run.mechanism_record.model_dump_json()].append(
            run
        )
    names: dict[str, str] = {}
    for of_board in boards.values():
        labels = entry_labels([_asked(run) for run in of_board])
        for run, label in zip(of_board, labels, strict=True):
            names[run.config_hash] = f"{run.task.name} {label}"
    told: list[str] = list(names.values())
    told = refined(told, [firsts[digest].mechanism_record.name for digest in names])
    told = refined(told, [f"#{digest[:6]}" for digest in names])
    names = dict(zip(names, told, strict=True))
    return [f"{names[run.config_hash]} seed {run.config.seed}" for run in runs]


def _asked(run: ResolvedRun) -> Asked:
    return Asked(
        algorithm=run.algorithm_record,
        critic=run.critic_record,
        shaping=dataclasses.asdict(run.config.shaping),
        budget=run.budget,
        validations=run.config.validations,
        config_hash=run.config_hash,
    )
