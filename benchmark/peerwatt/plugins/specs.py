"""What a plugin registers: typed, frozen records that cost nothing to list.

A factory is the text "package.module:attribute"; it is imported when the plugin is used, never to
list it, so `peerwatt list` loads no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pluggy

from peerwatt.errors import PeerWattError

PROJECT = "peerwatt"
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

    def load(self) -> Any:
        """Import and return what `factory` names; see `resolve`."""
        return self.resolve(self.factory)

    def resolve(self, path: str) -> Any:
        """Import and return what the text "package.module:attribute" names.

        Raises:
            PeerWattError: a module that the plugin needs is not installed.
        """
        module, _, attribute = path.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            mend = f": pip install '{self.requires}'" if self.requires else ""
            raise PeerWattError(
                f"{self.name!r} needs the module {error.name!r}, which is not installed{mend}."
            ) from error


@dataclass(frozen=True, kw_only=True)
class AlgorithmSpec(PluginSpec):
    """An algorithm: `factory` names a dataclass of hyper-parameters with a `train` method."""

    policy: str
    """Lazy "package.module:Class" whose `load(folder)` reads the policy that `train` returns."""
    trainable: bool = True
    """False for scripted traders, which use no budget."""

    def load_policy(self) -> Any:
        """Import and return the policy class."""
        return self.resolve(self.policy)


@dataclass(frozen=True, kw_only=True)
class CriticSpec(PluginSpec):
    """A critic: `factory` names a dataclass of options with a `score` method."""


@dataclass(frozen=True, kw_only=True)
class TaskSpec(PluginSpec):
    """A task: `factory` names a function without arguments that returns a loaded `Task`."""


@dataclass(frozen=True, kw_only=True)
class CommandSpec(PluginSpec):
    """A command below `peerwatt`: `factory` names a typed function that tyro turns into it."""


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
    def peerwatt_commands(self) -> Iterable[CommandSpec]:  # type: ignore[empty-body]
        """Return commands that a plugin adds to the command line."""
