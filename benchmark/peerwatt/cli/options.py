"""Options of plugins on the command line: `--algorithm.NAME`, `--critic.NAME`, and so on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from peerwatt.errors import PeerWattError
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import Kind, build, find
from peerwatt.runs.config import DEFAULT_BUDGET, DEFAULT_VALIDATIONS, RunConfig

ROLES: tuple[Kind, ...] = ("algorithm", "critic", "mechanism", "sink")


@dataclasses.dataclass(frozen=True)
class Basics:
    """Options of a run that do not depend on plugins."""

    task: str
    """Name of a task, or path of a card (.toml)."""
    algorithm: str
    """Name of an algorithm."""
    critic: str = "none"
    """Name of the critic that shapes the reward in training; it never scores the entry."""
    mechanism: str | None = None
    """Market mechanism instead of the task's own; `peerwatt list` shows them."""
    sink: str | None = None
    """Where the numbers of a run go as well, such as csv; result.json and metrics.jsonl are always
    written. A sink that fails never fails the run."""
    budget: str = str(DEFAULT_BUDGET)
    """Agent-steps to train for; k, M and G are understood, as in 2M."""
    validations: int = DEFAULT_VALIDATIONS
    """Evaluations on the validation split along the way, for the learning curve."""


def peek(arguments: Sequence[str], name: str, default: str) -> str:
    """Return the value of option `--name` in `arguments` before they are parsed."""
    value = default
    for here, after in zip(arguments, [*arguments[1:], ""], strict=False):
        if here == f"--{name}":
            value = after
        elif here.startswith(f"--{name}="):
            value = here.partition("=")[2]
    return value


def parse(kind: type[Any], arguments: list[str], prog: str, description: str) -> tuple[Any, Any]:
    """Parse `arguments` into `kind` (a dataclass) plus the options of the plugins they name.

    Returns the instance of `kind`, and an object with the attributes `algorithm_options`,
    `critic_options`, `mechanism_options`, `sink_options` (dataclass instances, absent where the
    plugin has none) and `shaping`.
    """
    groups: list[tuple[str, Any, Any]] = []
    for role in ROLES:
        name = peek(arguments, role, "none" if role == "critic" else "")
        if name and not name.startswith("-"):
            plugin = find(role, name)
            factory = plugin.spec.load()
            build(role, plugin, {})
            if any(f.init and not f.kw_only for f in dataclasses.fields(factory)):
                hidden = tyro.conf.arg(name=role)
                groups.append((f"{role}_options", Annotated[factory, hidden], factory))
    groups.append(("shaping", Shaping, Shaping))
    fields: list[Any] = [
        ("basics", Annotated[kind, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")]),
        *((name, hint, dataclasses.field(default_factory=maker)) for name, hint, maker in groups),
    ]
    combined = dataclasses.make_dataclass("Arguments", fields, frozen=True)
    parsed: Any = tyro.cli(combined, prog=prog, description=description, args=arguments)
    return parsed.basics, parsed


def options_of(instance: Any) -> tuple[tuple[str, Any], ...]:
    """Return the options of a plugin's dataclass that differ from their defaults."""
    if instance is None:
        return ()
    changed = []
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        default = (
            field.default_factory()
            if field.default_factory is not dataclasses.MISSING
            else field.default
        )
        if field.init and value != default:
            changed.append((field.name, value))
    return tuple(changed)


def check_seeds(seeds: int) -> None:
    """Refuse a number of seeds that makes no sense."""
    if not 1 <= seeds <= 10_000:
        raise PeerWattError(f"--seeds {seeds} must lie in 1..10000.")


def agent_steps(text: str) -> int:
    """Read a number of agent-steps such as 2000000, 2M or 500k.

    Raises:
        PeerWattError: it is no whole positive number.
    """
    units = {"k": 10**3, "m": 10**6, "g": 10**9}
    digits, factor = text.replace("_", ""), 1
    if digits and digits[-1].lower() in units:
        digits, factor = digits[:-1], units[digits[-1].lower()]
    try:
        steps = float(digits) * factor
    except ValueError:
        steps = -1.0
    if not 1 <= steps < 2**53 or steps != int(steps):
        raise PeerWattError(f"--budget {text!r} is no number of agent-steps; write 2000000 or 2M.")
    return int(steps)


def run_config(basics: Basics, parsed: Any, seed: int) -> RunConfig:
    """Put together the configuration of one run."""
    return RunConfig(
        task=basics.task,
        algorithm=basics.algorithm,
        critic=basics.critic,
        seed=seed,
        budget=agent_steps(basics.budget),
        mechanism=basics.mechanism,
        algorithm_options=options_of(getattr(parsed, "algorithm_options", None)),
        critic_options=options_of(getattr(parsed, "critic_options", None)),
        mechanism_options=options_of(getattr(parsed, "mechanism_options", None)),
        sink=basics.sink,
        sink_options=options_of(getattr(parsed, "sink_options", None)),
        shaping=parsed.shaping,
        validations=basics.validations,
    )
