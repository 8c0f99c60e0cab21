"""Options of plugins on the command line: `--algorithm.NAME`, `--track.NAME`, and so on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import tyro

from peerwatt.errors import PeerWattError
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import PLUGIN_KINDS, Kind, Registered, build, find, load_task
from peerwatt.runs.config import DEFAULT_BUDGET, DEFAULT_VALIDATIONS, RunConfig

ROLES = tuple(kind for kind in PLUGIN_KINDS if kind != "task")


def flag_of(kind: Kind) -> str:
    """Return the flag that names a plugin of `kind`, without its dashes."""
    return "track" if kind == "sink" else kind


@dataclasses.dataclass(frozen=True)
class Basics:
    """Options of a run that do not depend on plugins."""

    task: str
    """Name of a task, or path of a card (.toml); `peerwatt list` shows all names."""
    algorithm: str
    """Name of an algorithm."""
    critic: str = "none"
    """Name of the critic that shapes the reward in training; it never scores the entry."""
    mechanism: str | None = None
    """Market mechanism instead of the task's own."""
    track: str | None = None
    """Where the numbers of a run go as well: wandb, tensorboard, csv or another sink. result.json
    and metrics.jsonl are always written. A sink that fails or hangs never stops or slows a run."""
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


def parse(
    kind: type[Any],
    arguments: list[str],
    prog: str,
    description: str,
    roles: Sequence[Kind] = ROLES,
) -> tuple[Any, Any]:
    """Parse `arguments` into `kind` (a dataclass) plus the options of the plugins they name.

    The plugins are of the kinds `roles`. Returns the instance of `kind`, and an object with the
    attributes `algorithm_options`, `critic_options`, `mechanism_options`, `sink_options` (dataclass
    instances, absent where the plugin has none) and, where critics are among the roles, `shaping`.
    """
    groups: list[tuple[str, Any, Any]] = []  # name, type, field if there is a default
    for role in roles:
        flag = flag_of(role)
        name = peek(arguments, flag, "none" if role == "critic" else "")
        known: dict[str, Any] = {}
        if role == "mechanism" and any(word.startswith("--mechanism") for word in arguments):
            name, known = _mechanism_of(peek(arguments, "task", ""), name)
        if name and not name.startswith("-"):
            plugin = find(role, name)
            _check_defaults(role, plugin)
            usual = build(role, plugin, known)
            if any(f.init and not f.kw_only for f in dataclasses.fields(usual)):
                hidden = tyro.conf.arg(name=flag)
                hint: Any = Annotated[type(usual), hidden]
                # Of an instance, tyro would offer the fields that are no options, too.
                made = dataclasses.field(default_factory=partial(_same, usual)) if known else None
                groups.append((f"{role}_options", hint, made))
    if "critic" in roles:
        groups.append(("shaping", Shaping, dataclasses.field(default_factory=Shaping)))
    fields: list[Any] = [
        ("basics", Annotated[kind, tyro.conf.OmitArgPrefixes, tyro.conf.arg(name="run")]),
        *((name, hint) if made is None else (name, hint, made) for name, hint, made in groups),
    ]
    combined = dataclasses.make_dataclass("Arguments", fields, frozen=True, kw_only=True)
    parsed: Any = tyro.cli(combined, prog=prog, description=description, args=arguments)
    return parsed.basics, parsed


def _same(instance: Any) -> Any:
    return instance


def _mechanism_of(task: str, name: str) -> tuple[str, dict[str, Any]]:
    """Return the mechanism `name`, or that of the card of `task`, and the card's options for it."""
    if not task or task.startswith("-"):
        return name, {}
    own, options = load_task(task).card.market.mechanism_choice
    return (own, options) if name in ("", own) else (name, {})


def _check_defaults(role: Kind, plugin: Registered) -> None:
    """Refuse a plugin of which nobody could leave an option out."""
    factory = plugin.spec.load()
    for field in dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ():
        if field.init and field.default is field.default_factory is dataclasses.MISSING:
            raise PeerWattError(
                f"option {field.name} of {role} {plugin.spec.name!r} has no default: its author "
                "must give it one."
            )


def options_of(instance: Any, *, all_of_them: bool = False) -> tuple[tuple[str, Any], ...]:
    """Return the options of a plugin's dataclass that differ from its defaults, or all of them."""
    if instance is None:
        return ()
    usual = type(instance)()
    return tuple(
        (field.name, value)
        for field in dataclasses.fields(instance)
        if field.init
        and ((value := getattr(instance, field.name)) != getattr(usual, field.name) or all_of_them)
    )


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
        # All of them: a card may state others than the defaults.
        mechanism_options=options_of(getattr(parsed, "mechanism_options", None), all_of_them=True),
        sink=basics.track,
        sink_options=options_of(getattr(parsed, "sink_options", None)),
        shaping=parsed.shaping,
        validations=basics.validations,
    )
