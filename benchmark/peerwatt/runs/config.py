"""What a run is: one task, algorithm, critic, mechanism and seed, with every option filled in."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from peerwatt.community import Task
from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness import Shaping
from peerwatt.market import CompiledMechanism, compile_mechanism
from peerwatt.plugins.loader import FILES, Registered, build, find, load_task
from peerwatt.plugins.options import recorded_options
from peerwatt.runs.provenance import source_of
from peerwatt.runs.result import Contents, PluginRecord, TaskRecord, configuration_hash

DEFAULT_BUDGET = 2_000_000
DEFAULT_VALIDATIONS = 10
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class RunConfig:
    """A run as it was asked for; picklable, so that it can be sent to another process."""

    task: str  # registered name, or path of a card
    algorithm: str
    critic: str = "none"
    seed: int = 0
    budget: int = DEFAULT_BUDGET
    mechanism: str | None = None
    algorithm_options: tuple[tuple[str, Any], ...] = ()
    critic_options: tuple[tuple[str, Any], ...] = ()
    mechanism_options: tuple[tuple[str, Any], ...] = ()
    sink: str | None = None
    sink_options: tuple[tuple[str, Any], ...] = ()
    shaping: Shaping = dataclasses.field(default_factory=Shaping)
    validations: int = DEFAULT_VALIDATIONS


@dataclass(frozen=True, eq=False)
class ResolvedRun:
    """A run whose names have been looked up and whose options have been checked."""

    config: RunConfig
    task: Task
    task_record: TaskRecord
    mechanism: CompiledMechanism
    mechanism_record: PluginRecord
    algorithm: Any
    algorithm_plugin: Registered
    algorithm_record: PluginRecord
    critic: Any
    critic_record: PluginRecord
    sink: Any  # None, or what the sink's plugin provides; it is no part of the configuration
    budget: int
    config_hash: str

    @property
    def label(self) -> str:
        """Short name for progress and messages."""
        critic = "" if self.critic_record.name == "none" else f" + {self.critic_record.name}"
        return f"{self.task.name} {self.algorithm_record.name}{critic} seed {self.config.seed}"


def resolve(config: RunConfig) -> ResolvedRun:
    """Look up all names of `config` and check all its options.

    Raises:
        PeerWattError: a name is unknown or an option out of range.
    """
    task = load_task(config.task)
    mechanism_record, mechanism = _mechanism(config, task)
    algorithm_plugin = find("algorithm", config.algorithm)
    critic_plugin = find("critic", config.critic)
    algorithm = build("algorithm", algorithm_plugin, dict(config.algorithm_options))
    critic = build("critic", critic_plugin, dict(config.critic_options))
    sink = None
    if config.sink is not None:
        sink = build("sink", find("sink", config.sink), dict(config.sink_options))
    if not 0 <= config.seed <= MAX_SEED:
        raise PeerWattError(f"seed {config.seed} must lie in 0..{MAX_SEED}.")
    if not 0 <= config.validations <= 1000:
        raise PeerWattError(f"--validations {config.validations} must lie in 0..1000.")
    trainable = algorithm_plugin.spec.trainable
    if trainable and config.budget < 1:
        raise PeerWattError(f"budget {config.budget} must be at least 1 agent-step.")
    if trainable and callable(check := getattr(algorithm, "check_budget", None)):
        check(task, config.budget)
    if not trainable and config.critic != "none":
        raise PeerWattError(
            f"critic {config.critic!r} cannot shape {config.algorithm!r}, which does not learn: "
            "leave out --critic."
        )
    budget = config.budget if trainable else 0
    algorithm_record = plugin_record(algorithm_plugin, algorithm)
    critic_record = plugin_record(critic_plugin, critic, plugin_contents(critic_plugin, critic))
    task_record = TaskRecord(
        name=task.name,
        content_hash=task.content_hash,
        households=task.community.size,
        slots=task.horizon,
    )
    return ResolvedRun(
        config=config,
        task=task,
        mechanism=mechanism,
        mechanism_record=mechanism_record,
        algorithm=algorithm,
        algorithm_plugin=algorithm_plugin,
        algorithm_record=algorithm_record,
        critic=critic,
        critic_record=critic_record,
        sink=sink,
        budget=budget,
        task_record=task_record,
        config_hash=configuration_hash(
            task=task_record,
            mechanism=mechanism_record,
            algorithm=algorithm_record,
            critic=critic_record,
            shaping=dataclasses.asdict(config.shaping),
            budget=budget,
            validations=config.validations,
        ),
    )


def _mechanism(config: RunConfig, task: Task) -> tuple[PluginRecord, CompiledMechanism]:
    """Return the mechanism that `config` names, or else the card of `task`.

    Options that the card states for that mechanism hold unless `config` gives others.
    """
    name, options = task.card.market.mechanism_choice
    if config.mechanism not in (None, name):
        name, options = str(config.mechanism), {}
    options = {**options, **dict(config.mechanism_options)}
    plugin = find("mechanism", name)
    instance = build("mechanism", plugin, options)
    return plugin_record(plugin, instance), compile_mechanism(instance, plugin.spec.name)


def plugin_contents(plugin: Registered, critic: Any) -> dict[str, str]:
    """Return option -> SHA-256 of the file that it names, if the critic has a method that tells.

    Raises:
        PeerWattError: it tells something else, or a file cannot be read.
    """
    if not callable(tell := getattr(critic, "contents", None)):
        return {}
    contents = tell()
    try:
        return TypeAdapter(Contents).validate_python(contents)
    except ValidationError:
        raise PeerWattError(
            f"critic {plugin.spec.name!r} of {plugin.distribution}: contents returns "
            f"{shown(repr(contents), 80)}, expected a dict from the names of options to the "
            "SHA-256 of the files that they name."
        ) from None


def check_critic(run: ResolvedRun) -> None:
    """Have the critic of `run` look for what would fail it, if it has a method `check`.

    Neither its making nor `contents` may do so: entries of others are read without their keys,
    and what is finished needs none.

    Raises:
        PeerWattError: there is something, such as a missing key.
    """
    if callable(check := getattr(run.critic, "check", None)):
        check()


def plugin_record(
    plugin: Registered, instance: Any, contents: dict[str, str] | None = None
) -> PluginRecord:
    """Return what a result tells of `plugin`, made as `instance`.

    Raises:
        PeerWattError: an option cannot stand in a record.
    """
    try:
        options = json.loads(json.dumps(recorded_options(instance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PeerWattError(
            f"the options of {plugin.spec.name!r} of {plugin.distribution} must be numbers, texts, "
            f"lists or None, for the record: {error}."
        ) from None
    return PluginRecord(
        name=plugin.spec.name,
        distribution=plugin.distribution,
        version=plugin.version,
        options=options,
        source=source_of(plugin.distribution, type(instance).__module__),
        contents=contents or {},
    )


def command_of(run: ResolvedRun) -> str:
    """Return the command line that repeats `run`, without what changes no result.

    Left out are sinks and operational options.
    """
    config = run.config
    words = ["peerwatt", "run"]
    for file in filter(None, os.environ.get(FILES, "").split(os.pathsep)):
        words += ["--plugin", Path(file).name]
    words += ["--task", config.task, "--algorithm", config.algorithm]
    if config.critic != "none":
        words += ["--critic", config.critic]
    if config.mechanism:
        words += ["--mechanism", config.mechanism]
    words += ["--seeds", "1", "--first-seed", str(config.seed)]
    if run.budget:
        words += ["--budget", str(run.budget)]
    if config.validations != DEFAULT_VALIDATIONS:
        words += ["--validations", str(config.validations)]
    plugins: tuple[tuple[str, Any, tuple[tuple[str, Any], ...]], ...] = (
        ("algorithm", run.algorithm, config.algorithm_options),
        ("critic", run.critic, config.critic_options),
        ("mechanism", run.mechanism.mechanism, config.mechanism_options),
    )
    for group, plugin, options in plugins:
        recorded = recorded_options(plugin)
        for name, _ in options:
            if name in recorded:
                words += _flag(group, name, recorded[name])
    default = Shaping()
    for field in dataclasses.fields(Shaping):
        value = getattr(config.shaping, field.name)
        if value != getattr(default, field.name):
            words += _flag("shaping", field.name, value)
    return shlex.join(words)


def _flag(group: str, name: str, value: Any) -> list[str]:
    key = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{group}.{'' if value else 'no-'}{key}"]
    values = value if isinstance(value, list | tuple) else [value]
    return [f"--{group}.{key}", *map(str, values)]
