"""Look up what is registered, by its name, and make it from its options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.plugins.discovery import FILES, ONLY, STRICT, normal, registry, told_with_place
from peerwatt.plugins.records import (
    FILE_PREFIX,
    HOOKS,
    PLUGIN_KINDS,
    SPECS,
    Kind,
    Plugin,
    Registered,
    Registry,
    Status,
)

if TYPE_CHECKING:
    from peerwatt.community import Task
    from peerwatt.market import Mechanism

__all__ = [
    "FILES",
    "FILE_PREFIX",
    "HOOKS",
    "ONLY",
    "PLUGIN_KINDS",
    "SPECS",
    "STRICT",
    "Kind",
    "Plugin",
    "Registered",
    "Registry",
    "Status",
    "build",
    "find",
    "load_mechanism",
    "load_task",
    "registry",
]


def find(kind: Kind, name: str) -> Registered:
    """Return the plugin of `kind` called `name`, or "distribution:name".

    Raises:
        PeerWattError: there is none, or several; the sentence offers the nearest name, and tells
            which plugins are broken or disabled.
    """
    found = registry()
    if name in found[kind]:
        return found[kind][name]
    if name in found.qualified[kind]:
        return found.qualified[kind][name]
    if name in found.conflicts[kind]:
        owners = found.conflicts[kind][name]
        distributions = " and ".join(owner.rpartition(":")[0] for owner in owners)
        choice = " or ".join(map(repr, owners))
        raise PeerWattError(f"{distributions} both register the {kind} {name!r}: write {choice}.")
    raise PeerWattError(_absent(found, kind, name))


def _absent(found: Registry, kind: Kind, name: str) -> str:
    """Return the sentence about a name that nobody registers."""
    if name.startswith(FILE_PREFIX):
        file = name.removeprefix(FILE_PREFIX).rpartition(":")[0]
        return f"unknown {kind} {name!r}: add --plugin and the path of {file}."
    broken = [plugin for plugin in found.plugins if plugin.broken]
    meant = []
    for plugin in broken:
        asked = normal(name.partition(":")[0]) in map(
            normal, (plugin.distribution, plugin.entry_point)
        )
        if asked or f"{kind} {name!r}: " in plugin.told:
            meant.append(f"plugin {plugin.title}: {plugin.told}")
    if meant:
        return f"the {kind} {name!r} cannot be had: {' '.join(meant)}"
    sentence = str(unknown_name(kind, name, found.reachable(kind)))
    if broken:
        titles = ", ".join(plugin.distribution for plugin in broken[:5])
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        sentence += f" Broken: {titles}{more}; `peerwatt plugins list` tells why."
    disabled = sorted({plugin.distribution for plugin in found.plugins if plugin.disabled})
    if disabled:
        sentence += f" Disabled: {', '.join(disabled)}."
    return sentence


def build(kind: Kind, plugin: Registered, options: Mapping[str, Any]) -> Any:
    """Make the dataclass that `plugin` provides from `options`, checking names and types.

    Raises:
        PeerWattError: it provides no dataclass, or an option is unknown or out of range.
    """
    import dataclasses

    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    factory = plugin.spec.load()
    if not dataclasses.is_dataclass(factory) or not isinstance(factory, type):
        raise PeerWattError(
            f"{kind} {plugin.spec.name!r}: {plugin.spec.factory} must be a dataclass, whose fields "
            "are the options."
        )
    fields = {item.name for item in dataclasses.fields(factory) if item.init}
    for name in options:
        if name not in fields:
            raise unknown_name(f"option of {kind} {plugin.spec.name!r}", name, fields)
    try:
        return TypeAdapter(factory).validate_python(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"][0].lower() + first["msg"][1:]
        raise PeerWattError(
            f"option {key} of {kind} {plugin.spec.name!r}: {message} (got {first['input']!r})."
        ) from None
    except (PydanticUserError, NameError) as error:
        raise PeerWattError(
            f"{kind} {plugin.spec.name!r}: the types of its options cannot be read: {error}."
        ) from None
    except PeerWattError:
        raise
    except Exception as error:
        raise PeerWattError(
            f"{kind} {plugin.spec.name!r} of {plugin.distribution} cannot be made: "
            f"{told_with_place(error)}."
        ) from error


def load_mechanism(name: str, options: Mapping[str, Any] | None = None) -> Mechanism:
    """Return the registered mechanism called `name`, made with `options`.

    Raises:
        PeerWattError: there is no such mechanism, or an option is wrong.
    """
    mechanism: Mechanism = build("mechanism", find("mechanism", name), options or {})
    return mechanism


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
