"""Find what is installed: entry points of the group `peerwatt`, and the specs they register."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.plugins.specs import (
    PROJECT,
    AlgorithmSpec,
    CommandSpec,
    CriticSpec,
    Hooks,
    PluginSpec,
    TaskSpec,
)

if TYPE_CHECKING:
    from peerwatt.community import Task

Kind = Literal["algorithm", "critic", "task", "command"]

_SPECS: dict[Kind, type[PluginSpec]] = {
    "algorithm": AlgorithmSpec,
    "critic": CriticSpec,
    "task": TaskSpec,
    "command": CommandSpec,
}


@dataclass(frozen=True)
class Registered:
    """A spec and the distribution that registered it."""

    spec: Any
    distribution: str
    version: str


@lru_cache(maxsize=1)
def registry() -> dict[Kind, dict[str, Registered]]:
    """Load all plugins and return what they registered, by kind and name.

    Raises:
        PeerWattError: a plugin cannot be imported, registers something that is no spec, or two
            register the same name; the sentence names the distributions.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    found: dict[Kind, dict[str, Registered]] = {kind: {} for kind in _SPECS}
    points = importlib.metadata.entry_points(group=PROJECT)
    for point in sorted(points, key=lambda p: (p.dist.name if p.dist else "", p.name)):
        owner = point.dist.name if point.dist else "unknown"
        version = point.dist.version if point.dist else "0"
        try:
            plugin = point.load()
            manager.register(plugin, name=f"{owner}:{point.name}")
            manager.check_pending()
        except Exception as error:
            raise PeerWattError(
                f"plugin {point.name!r} of {owner} {version} does not load: {error!r}; mend it or "
                f"uninstall {owner}."
            ) from error
        for kind, expected in _SPECS.items():
            for hook in getattr(manager.hook, f"{PROJECT}_{_plural(kind)}").get_hookimpls():
                if hook.plugin is plugin:
                    _take(found[kind], expected, hook.function(), owner, version)
    return found


def _plural(kind: Kind) -> str:
    return f"{kind}s"


def _take(
    names: dict[str, Registered],
    expected: type[PluginSpec],
    specs: Iterable[object],
    owner: str,
    version: str,
) -> None:
    for spec in specs:
        if not isinstance(spec, expected):
            raise PeerWattError(f"{owner} registers {spec!r}, expected {expected.__name__}.")
        if spec.name in names:
            other = names[spec.name].distribution
            raise PeerWattError(f"{other} and {owner} both register {spec.name!r}: rename one.")
        names[spec.name] = Registered(spec, owner, version)


def find(kind: Kind, name: str) -> Registered:
    """Return the plugin of `kind` called `name`.

    Raises:
        PeerWattError: there is none; the sentence offers the nearest name.
    """
    known = registry()[kind]
    if name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def load_task(name: str | Path) -> Task:
    """Return the registered task called `name`, or the task of the card at a path ending in .toml.

    Raises:
        PeerWattError: no such task, or its card is wrong.
    """
    if str(name).endswith(".toml"):
        from peerwatt.community import load_card

        return load_card(name)
    task: Task = find("task", str(name)).spec.load()()
    return task
