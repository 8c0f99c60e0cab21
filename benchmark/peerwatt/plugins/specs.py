"""What a plugin registers: typed, frozen records that cost nothing to list.

A factory is the text "package.module:attribute"; it is imported when the plugin is used, never to
list it, so `peerwatt list` loads no torch.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pluggy

from peerwatt.errors import PeerWattError, told

PROJECT = "peerwatt"
API_VERSION = 1
"""Raised when a contract with plugins changes so that old plugins break."""
VERSION = r"[A-Za-z0-9][A-Za-z0-9.+_!-]{0,63}"
"""What versions look like, that of Python packages included."""
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """Name, one-line summary and lazy factory of something that a plugin provides."""

    name: str
    factory: str
    summary: str
    requires: str = ""
    """What to install for it beyond the core, as pip would be told: "peerwatt[train]"."""
    version: str = ""
    """Raised when its behaviour changes; by default the version of its distribution."""
    api: str = f">={API_VERSION},<{API_VERSION + 1}"
    """Versions of PeerWatt's plugin contracts that it was written for, as in a requirement."""

    def problem(self) -> str | None:
        """Return what is wrong with this spec as one clause, or None; imports nothing heavy."""
        pattern, meaning = self._name_rule
        if not isinstance(self.name, str) or not re.fullmatch(pattern, self.name):
            return f"its name must be {meaning}"
        if not _is_factory(self.factory):
            return f'its factory {self.factory!r} must be a text such as "my_module:MyClass"'
        if not isinstance(self.version, str) or not re.fullmatch(rf"|{VERSION}", self.version):
            return f'its version {self.version!r} must be a text such as "1.2"'
        for key in ("summary", "requires"):
            value = getattr(self, key)
            if not isinstance(value, str) or not value.isprintable():
                return f"its {key} must be one printable line"
        return _api_problem(self.api)

    @property
    def _name_rule(self) -> tuple[str, str]:
        return (
            r"[a-z0-9][a-z0-9_-]{0,63}",
            "lower-case letters, digits, - and _, at most 64 of them, such as my-trader",
        )

    def load(self) -> Any:
        """Import and return what `factory` names; see `resolve`."""
        return self.resolve(self.factory)

    def resolve(self, path: str) -> Any:
        """Import and return what the text "package.module:attribute" names.

        Raises:
            PeerWattError: a module that the plugin needs is not installed, or it is broken.
        """
        module, _, attribute = path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name == module.partition(".")[0]:
                text = f"{self.name!r}: {path!r} names a module that is not there"
            else:
                text = f"{self.name!r} needs the module {error.name!r}, which is not installed"
            mend = f": pip install '{self.requires}'" if self.requires else ""
            raise PeerWattError(f"{text}{mend}.") from error
        except AttributeError as error:
            raise PeerWattError(
                f"{self.name!r}: {path!r} does not exist: {told(error)}."
            ) from error
        except (Exception, SystemExit) as error:
            raise PeerWattError(
                f"{self.name!r}: the module {module!r} cannot be imported: {told(error)}."
            ) from error


def _is_factory(text: object) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text))


def _api_problem(text: str) -> str | None:
    if text == PluginSpec.api:
        return None
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        fits = SpecifierSet(text).contains(str(API_VERSION))
    except (InvalidSpecifier, TypeError, AttributeError):
        return f"api {text!r} is no version range such as {PluginSpec.api!r}"
    if fits:
        return None
    return (
        f"it was written for plugin api {text}, and this PeerWatt has api {API_VERSION}: install a "
        "version of the plugin, or of PeerWatt, that fits"
    )


@dataclass(frozen=True, kw_only=True)
class AlgorithmSpec(PluginSpec):
    """An algorithm: `factory` names a dataclass of hyper-parameters with a `train` method."""

    policy: str
    """Lazy "package.module:Class" whose `load(folder)` reads the policy that `train` returns."""
    trainable: bool = True
    """False for scripted traders, which use no budget."""

    def problem(self) -> str | None:
        """Return what is wrong with this spec, or None."""
        if not _is_factory(self.policy):
            return f'its policy {self.policy!r} must be a text such as "my_module:MyPolicy"'
        return super().problem()

    def load_policy(self) -> Any:
        """Import and return the policy class."""
        return self.resolve(self.policy)


@dataclass(frozen=True, kw_only=True)
class CriticSpec(PluginSpec):
    """A critic: `factory` names a dataclass of options with a method `score` or `open`."""

    deterministic: bool = True
    """False if the same slots may be scored differently another time."""
    abstains: bool = False
    """True if it may return NaN where a score is defined."""
    asks: bool = False
    """True if it asks a model over the network: then it cannot be examined without options."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec(PluginSpec):
    """A task: `factory` names a function without arguments that returns a loaded `Task`."""

    @property
    def _name_rule(self) -> tuple[str, str]:
        return (
            r"[a-z][a-z0-9-]{0,48}-v[1-9][0-9]*",
            "lower-case letters, digits and -, ending in a version, such as my-street-v1",
        )


@dataclass(frozen=True, kw_only=True)
class MechanismSpec(PluginSpec):
    """A market mechanism: `factory` names a dataclass of options, a `peerwatt.market.Mechanism`."""


@dataclass(frozen=True, kw_only=True)
class SinkSpec(PluginSpec):
    """A sink of events: `factory` names a dataclass of options, a `peerwatt.runs.sinks.Sink`."""


@dataclass(frozen=True, kw_only=True)
class CommandSpec(PluginSpec):
    """A command below `peerwatt`: `factory` names a typed function that tyro turns into it."""

    @property
    def _name_rule(self) -> tuple[str, str]:
        return (
            r"[a-z][a-z0-9-]{0,31}( [a-z][a-z0-9-]{0,31})?",
            "one or two words of lower-case letters, digits and -",
        )


class Hooks:
    """Hooks of the entry-point group `peerwatt`."""

    @hookspec
    def peerwatt_algorithms(self) -> Iterable[AlgorithmSpec]:  # type: ignore[empty-body]
        """Return the algorithms of a plugin."""

    @hookspec
    def peerwatt_critics(self) -> Iterable[CriticSpec]:  # type: ignore[empty-body]
        """Return the critics of a plugin."""

    @hookspec
    def peerwatt_tasks(self) -> Iterable[TaskSpec]:  # type: ignore[empty-body]
        """Return the tasks of a plugin."""

    @hookspec
    def peerwatt_mechanisms(self) -> Iterable[MechanismSpec]:  # type: ignore[empty-body]
        """Return the market mechanisms of a plugin."""

    @hookspec
    def peerwatt_sinks(self) -> Iterable[SinkSpec]:  # type: ignore[empty-body]
        """Return the sinks of a plugin."""

    @hookspec
    def peerwatt_commands(self) -> Iterable[CommandSpec]:  # type: ignore[empty-body]
        """Return commands that a plugin adds to the command line."""
