"""What a run is: one task, algorithm, critic, mechanism and seed, with every option filled in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from peerwatt.community import Task
from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.fairness import Shaping
from peerwatt.market.clearing import mechanism_code
from peerwatt.plugins.loader import Kind, Registered, find, load_task
from peerwatt.runs.result import METRICS_VERSION, PluginRecord, TaskRecord

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
    shaping: Shaping = dataclasses.field(default_factory=Shaping)
    validations: int = DEFAULT_VALIDATIONS


@dataclass(frozen=True)
class ResolvedRun:
    """A run whose names have been looked up and whose options have been checked."""

    config: RunConfig
    task: Task
    mechanism: str
    algorithm: Any
    algorithm_plugin: Registered
    algorithm_record: PluginRecord
    critic: Any
    critic_record: PluginRecord
    budget: int
    config_hash: str

    @property
    def task_record(self) -> TaskRecord:
        """The task as the result names it."""
        return TaskRecord(
            name=self.task.name,
            content_hash=self.task.content_hash,
            households=self.task.community.size,
            slots=self.task.horizon,
        )

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
    mechanism = config.mechanism or task.card.market.mechanism
    mechanism_code(mechanism)
    algorithm_plugin = find("algorithm", config.algorithm)
    critic_plugin = find("critic", config.critic)
    algorithm = build("algorithm", algorithm_plugin, dict(config.algorithm_options))
    critic = build("critic", critic_plugin, dict(config.critic_options))
    if not 0 <= config.seed <= MAX_SEED:
        raise PeerWattError(f"seed {config.seed} must lie in 0..{MAX_SEED}.")
    if not 0 <= config.validations <= 1000:
        raise PeerWattError(f"--validations {config.validations} must lie in 0..1000.")
    trainable = algorithm_plugin.spec.trainable
    if trainable and config.budget < 1:
        raise PeerWattError(f"budget {config.budget} must be at least 1 agent-step.")
    if not trainable and config.critic != "none":
        raise PeerWattError(
            f"critic {config.critic!r} cannot shape {config.algorithm!r}, which does not learn: "
            "leave out --critic."
        )
    budget = config.budget if trainable else 0
    algorithm_record = _record(algorithm_plugin, algorithm)
    critic_record = _record(critic_plugin, critic)
    content = {
        "task": [task.name, task.content_hash],
        "mechanism": mechanism,
        "algorithm": algorithm_record.model_dump(mode="json"),
        "critic": critic_record.model_dump(mode="json"),
        "shaping": dataclasses.asdict(config.shaping),
        "budget": budget,
        "validations": config.validations,
        "metrics_version": METRICS_VERSION,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return ResolvedRun(
        config=config,
        task=task,
        mechanism=mechanism,
        algorithm=algorithm,
        algorithm_plugin=algorithm_plugin,
        algorithm_record=algorithm_record,
        critic=critic,
        critic_record=critic_record,
        budget=budget,
        config_hash=hashlib.sha256(text.encode()).hexdigest(),
    )


def build(kind: Kind, plugin: Registered, options: dict[str, Any]) -> Any:
    """Make the dataclass that `plugin` provides from `options`, checking names and types."""
    factory = plugin.spec.load()
    fields = {field.name for field in dataclasses.fields(factory) if field.init}
    for name in options:
        if name not in fields:
            raise unknown_name(f"option of {kind} {plugin.spec.name!r}", name, fields)
    try:
        return TypeAdapter(factory).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        raise PeerWattError(
            f"option {key} of {kind} {plugin.spec.name!r}: {message} (got {first['input']!r})."
        ) from None


def _record(plugin: Registered, instance: Any) -> PluginRecord:
    options = json.loads(json.dumps(dataclasses.asdict(instance)))
    return PluginRecord(
        name=plugin.spec.name,
        distribution=plugin.distribution,
        version=plugin.version,
        options=options,
    )


def command_of(run: ResolvedRun) -> str:
    """Return the command line that repeats `run`."""
    config = run.config
    words = ["peerwatt", "run", "--task", config.task, "--algorithm", config.algorithm]
    if config.critic != "none":
        words += ["--critic", config.critic]
    if config.mechanism:
        words += ["--mechanism", config.mechanism]
    words += ["--seeds", "1", "--first-seed", str(config.seed)]
    if run.budget:
        words += ["--budget", str(run.budget)]
    if config.validations != DEFAULT_VALIDATIONS:
        words += ["--validations", str(config.validations)]
    for name, value in config.algorithm_options:
        words += _flag("algorithm", name, value)
    for name, value in config.critic_options:
        words += _flag("critic", name, value)
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
