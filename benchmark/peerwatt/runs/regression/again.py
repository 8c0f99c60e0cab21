"""What makes the runs of a record again, told by what is checked in it.

The text `command` of a record is the word of whoever wrote it, and may name any file as a plugin:
nothing here reads it.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import FILE_PREFIX, Kind, find, registry
from peerwatt.plugins.options import MOST_LEVELS, operational
from peerwatt.plugins.specs import PROJECT
from peerwatt.plugins.texts import parse_text
from peerwatt.runs.config import DEFAULT_VALIDATIONS, RunConfig, resolve
from peerwatt.runs.result import RunResult, full_name

ROLES: tuple[Kind, ...] = ("algorithm", "critic", "mechanism")
Fields = tuple[dataclasses.Field[Any], ...]
_NUMBER = r"-[0-9][0-9.e+-]*"


def words_of(result: RunResult, first: int, seeds: int, *, brief: bool = False) -> list[str]:
    """Return the arguments of `peerwatt` that make such runs.

    Args:
        result: a run of the entry.
        first: the first seed.
        seeds: how many there are.
        brief: leave out what the code here takes by default; another installation may take others.

    Raises:
        PeerWattError: the task is no registered one, a plugin is of a single file, or an option
            cannot stand on a command line.
    """
    if result.task.name not in registry()["task"]:
        raise _by_hand(result, f"the task {result.task.name} is none that is registered here")
    words = ["run", "--task", result.task.name]
    for role in ROLES:
        plugin = getattr(result, role)
        if plugin.distribution.startswith(FILE_PREFIX):
            raise _by_hand(result, f"the {role} {full_name(plugin)} is of a single file")
        if full_name(plugin) != f"{PROJECT}:none":
            words += [f"--{role}", full_name(plugin)]
    words += ["--seeds", str(seeds), "--first-seed", str(first)]
    if result.budget:
        words += ["--budget", str(result.budget)]
    if not brief or result.validations != DEFAULT_VALIDATIONS:
        words += ["--validations", str(result.validations)]
    groups: list[tuple[str, dict[str, Any], Fields]]
    groups = [(role, getattr(result, role).options, _fields_here(result, role)) for role in ROLES]
    groups.append(("shaping", result.shaping, dataclasses.fields(Shaping)))
    for group, options, fields in groups:
        known = {field.name: field for field in fields}
        for name, value in options.items():
            field = known.get(name)
            usual = field is not None and value == _default(field)
            if field and (not field.init or (usual and (brief or field.kw_only))):
                continue
            words += _flag(result, group, name, value)
    return words


def _fields_here(result: RunResult, role: Kind) -> Fields:
    """Return the options of a plugin as it is installed here; none where it is not."""
    try:
        return _fields(role, full_name(getattr(result, role)))
    except PeerWattError:
        return ()


def _default(field: dataclasses.Field[Any]) -> object:
    """Return the default of an option as a record states it."""
    factory = field.default_factory
    value = field.default if factory is dataclasses.MISSING else factory()
    return list(value) if isinstance(value, tuple) else value


def _flag(result: RunResult, group: str, name: str, value: Any) -> Iterator[str]:
    """Yield the words of one option; no value may be taken for another option."""
    told = f"{group}.{shown(name, 60)}"
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise _by_hand(result, f"{told} is no name of an option")
    key = name.replace("_", "-")
    if isinstance(value, bool):
        yield f"--{group}.{'' if value else 'no-'}{key}"
        return
    yield f"--{group}.{key}"
    for item in value if isinstance(value, list) else [value]:
        text = str(item)
        option = text.startswith("-") and not re.fullmatch(_NUMBER, text)
        if isinstance(item, dict | list) or option or not text.isprintable():
            raise _by_hand(result, f"{told} is {shown(text, 60)}, which cannot be told to another")
        yield text


def command_for(result: RunResult, seeds: list[int], results: Path) -> str:
    """Return "`peerwatt run …`", which makes the runs of `result` with all of `seeds`, ascending.

    Where that cannot be told, what to do instead.
    """
    try:
        words = words_of(result, seeds[0], seeds[-1] - seeds[0] + 1, brief=True)
    except PeerWattError:
        return "the command that you made the others with"
    line = shlex.join(["peerwatt", *words, "--results", str(results)])
    return f"`{shown(line, 2_000)}`"


def check_addable(result: RunResult) -> None:
    """Refuse what a record must not set off: requests, and options that are in no record.

    Raises:
        PeerWattError: the critic, or one within it, asks a model over the network, whose address
            and price the record decides; or an operational option stands in the record.
    """
    critic = result.critic
    if _asks(full_name(critic), critic.options):
        raise _by_hand(
            result,
            f"the critic {full_name(critic)} asks a model that the record names, or plays it",
        )
    for role in ROLES:
        plugin = getattr(result, role)
        for field in _fields(role, full_name(plugin)):
            if operational(field) and field.name in plugin.options:
                raise _by_hand(result, f"{role}.{field.name} has no place in a record")


def _fields(role: Kind, name: str) -> Fields:
    factory = find(role, name).spec.load()
    return dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ()


def _asks(name: str, options: dict[str, Any], level: int = 0) -> bool:
    """Return whether a critic, or one that its options name, asks over the network."""
    if level > MOST_LEVELS or cast(Any, find("critic", name).spec).asks:
        return True
    for field in _fields("critic", name):
        if field.metadata.get("critic") and (value := options.get(field.name)):
            texts = value if isinstance(value, list | tuple) else [value]
            if any(_asks(*parse_text("critic", str(text)), level + 1) for text in texts):
                return True
    return False


def config_of(result: RunResult) -> RunConfig:
    """Return the configuration that makes such runs again.

    Raises:
        PeerWattError: the installed code makes others.
    """
    if result.task.name not in registry()["task"]:
        raise _by_hand(result, f"the task {result.task.name} is none that is registered here")

    def options(record: dict[str, object]) -> tuple[tuple[str, object], ...]:
        return tuple((key, _hashable(value)) for key, value in record.items())

    unknown = result.shaping.keys() - {field.name for field in dataclasses.fields(Shaping)}
    if unknown:
        raise _by_hand(result, f"shaping.{shown(min(unknown), 60)} is not known here")
    config = RunConfig(
        task=result.task.name,
        algorithm=full_name(result.algorithm),
        critic="none"
        if full_name(result.critic) == f"{PROJECT}:none"
        else full_name(result.critic),
        seed=result.seed,
        budget=max(1, result.budget),
        mechanism=full_name(result.mechanism),
        algorithm_options=options(result.algorithm.options),
        critic_options=options(result.critic.options),
        mechanism_options=options(result.mechanism.options),
        shaping=Shaping(**result.shaping),
        validations=result.validations,
    )
    if resolve(config).config_hash != result.config_hash:
        raise PeerWattError(
            f"{result.task.name} {result.algorithm.name}: the installed code does not make the "
            f"runs of NEW ({full_name(result.algorithm)} {result.algorithm.version}, task "
            f"{result.task.content_hash[:8]}): install what made them, or run NEW anew with it."
        )
    return config


def _hashable(value: object) -> object:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _by_hand(result: RunResult, why: str) -> PeerWattError:
    return PeerWattError(
        f"{result.task.name} {result.algorithm.name}: {why}, so that --until-decided cannot add "
        "seeds to it: add them by hand with `peerwatt run`, or compare without --until-decided."
    )
