"""Records of what is registered, by whom, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from peerwatt.plugins.specs import (
    PROJECT,
    AlgorithmSpec,
    CommandSpec,
    CriticSpec,
    MechanismSpec,
    PluginSpec,
    SinkSpec,
    TaskSpec,
)

Kind = Literal["task", "algorithm", "critic", "mechanism", "sink", "command"]
Status = Literal["ok", "warning", "failed", "disabled"]

SPECS: dict[Kind, type[PluginSpec]] = {
    "task": TaskSpec,
    "algorithm": AlgorithmSpec,
    "critic": CriticSpec,
    "mechanism": MechanismSpec,
    "sink": SinkSpec,
    "command": CommandSpec,
}
PLUGIN_KINDS: tuple[Kind, ...] = tuple(kind for kind in SPECS if kind != "command")
"""What a plugin may bring that takes part in a run."""
HOOKS: dict[str, Kind] = {f"{PROJECT}_{kind}s": kind for kind in SPECS}

FILE_PREFIX = "file:"
"""What the distribution of a plugin that is a single file is called: "file:my_trader.py"."""


@dataclass(frozen=True)
class Registered:
    """A spec and the distribution that registered it."""

    spec: Any
    distribution: str
    version: str


@dataclass
class Plugin:
    """One entry point of the group `peerwatt`, or one file, and what became of it."""

    distribution: str
    version: str
    entry_point: str
    hooks: list[str] = field(default_factory=list)
    names: dict[Kind, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """What is wrong, as clauses, with those of `conflicts`."""
    conflicts: list[str] = field(default_factory=list)
    """Names of its own that others have too: no fault of the plugin alone."""
    disabled: bool = False

    @property
    def status(self) -> Status:
        """`warning` if only a part of it can be used."""
        if self.disabled:
            return "disabled"
        if not self.problems:
            return "ok"
        return "warning" if any(self.names.values()) else "failed"

    @property
    def in_tree(self) -> bool:
        """Whether it comes with PeerWatt."""
        return self.distribution == PROJECT

    @property
    def is_file(self) -> bool:
        """Whether it is a single file, named by `--plugin`."""
        return self.distribution.startswith(FILE_PREFIX)

    @property
    def broken(self) -> bool:
        """Whether anything is wrong with it but its names."""
        return any(problem not in self.conflicts for problem in self.problems)

    @property
    def told(self) -> str:
        """The problems as they end a sentence."""
        text = "; ".join(self.problems)
        return text if text.endswith(("?", ".")) else f"{text}."

    @property
    def title(self) -> str:
        """Distribution, version and entry point as a sentence names them."""
        place = "" if self.is_file else f" ({self.entry_point})"
        return f"{self.distribution} {self.version}{place}"


@dataclass
class Registry:
    """Everything that is registered. `registry["algorithm"]["ippo"]` is one plugin's spec."""

    plugins: list[Plugin] = field(default_factory=list)
    names: dict[Kind, dict[str, Registered]] = field(
        default_factory=lambda: {kind: {} for kind in SPECS}
    )
    qualified: dict[Kind, dict[str, Registered]] = field(
        default_factory=lambda: {kind: {} for kind in SPECS}
    )
    """The same as "distribution:name", which is never ambiguous."""
    conflicts: dict[Kind, dict[str, list[str]]] = field(
        default_factory=lambda: {kind: {} for kind in SPECS}
    )
    """Names that several distributions register, and their full names."""
    absent: list[str] = field(default_factory=list)
    """A sentence for each distribution that is named in the environment, but not installed."""

    def __getitem__(self, kind: Kind) -> dict[str, Registered]:
        """Return what can be had by its bare name."""
        return self.names[kind]

    def reachable(self, kind: Kind) -> dict[str, Registered]:
        """Return all of `kind` by the shortest name that finds it."""
        names = self.names[kind]
        full = {n: p for n, p in self.qualified[kind].items() if p not in names.values()}
        return {**names, **full}

    @property
    def problems(self) -> list[str]:
        """One sentence for each plugin that is not as it should be."""
        plugins = [plugin for plugin in self.plugins if plugin.problems]
        return [f"plugin {plugin.title}: {plugin.told}" for plugin in plugins] + self.absent
