"""Find what is installed: entry points of the group `peerwatt`, and the specs they register.

A broken plugin is told and left out; it never takes the others, or the command, down. None can
take a name that PeerWatt itself registers.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
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
    MechanismSpec,
    PluginSpec,
    SinkSpec,
    TaskSpec,
)

if TYPE_CHECKING:
    from peerwatt.community import Task
    from peerwatt.market import Mechanism

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
HOOKS: dict[str, Kind] = {f"{PROJECT}_{kind}s": kind for kind in SPECS}

ONLY = "PEERWATT_PLUGINS"
"""Environment variable: the only distributions to load plugins of, by commas; empty for none."""
WITHOUT = "PEERWATT_DISABLE_PLUGINS"
"""Environment variable: distributions whose plugins are not loaded, by commas."""
STRICT = "PEERWATT_STRICT_PLUGINS"
"""Environment variable: 1 makes a broken plugin an error instead of a warning."""
FILES = "PEERWATT_PLUGIN_FILES"
"""Environment variable: plugins that are single files, separated as in PATH."""


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
    def told(self) -> str:
        """The problems as they end a sentence."""
        text = "; ".join(self.problems)
        return text if text.endswith(("?", ".")) else f"{text}."

    @property
    def title(self) -> str:
        """Distribution, version and entry point as a sentence names them."""
        place = "" if self.distribution.startswith("file:") else f" ({self.entry_point})"
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
        return [f"plugin {p.title}: {p.told}" for p in self.plugins if p.problems]


@lru_cache(maxsize=1)
def registry() -> Registry:
    """Load all plugins and return what they registered; broken ones are told in it.

    Raises:
        PeerWattError: plugins are wanted strictly and one is broken, or a file that was named is.
    """
    found = Registry()
    owners: dict[int, Plugin] = {}
    for plugin, module in _modules():
        found.plugins.append(plugin)
        owner = owners.setdefault(id(module), plugin) if module is not None else plugin
        if owner is not plugin:
            mend = "--plugin" if plugin.distribution.startswith("file:") else "one entry point"
            plugin.problems.append(f"it is installed already, as {owner.title}: leave out {mend}")
        elif module is not None:
            _register(plugin, module, found)
        if plugin.problems and plugin.distribution.startswith("file:"):
            raise PeerWattError(found.problems[-1])
    if os.environ.get(STRICT, "") not in ("", "0") and found.problems:
        raise PeerWattError(" ".join(found.problems))
    return found


def _modules() -> Iterator[tuple[Plugin, object | None]]:
    """Import the module of every plugin, those of PeerWatt first; None where it failed."""
    points = importlib.metadata.entry_points(group=PROJECT)
    owned = [(point.dist.name if point.dist else "unknown", point) for point in points]
    for owner, point in sorted(owned, key=lambda p: (p[0] != PROJECT, p[0], p[1].name)):
        plugin = Plugin(owner, point.dist.version if point.dist else "0", point.name)
        module = None
        if _wanted(plugin):
            try:
                module = point.load()
            except (Exception, SystemExit) as error:
                plugin.problems.append(f"it cannot be imported: {_told(error)}")
        yield plugin, module
    for text in filter(None, os.environ.get(FILES, "").split(os.pathsep)):
        yield _load_file(Path(text))


def _wanted(plugin: Plugin) -> bool:
    """Return whether the environment lets `plugin` load; those of PeerWatt always may."""
    only, without = (
        {_normal(name) for name in text.split(",") if name.strip()} if text is not None else None
        for text in (os.environ.get(ONLY), os.environ.get(WITHOUT))
    )
    name = _normal(plugin.distribution)
    plugin.disabled = not plugin.in_tree and (
        (only is not None and name not in only) or (without is not None and name in without)
    )
    return not plugin.disabled


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _load_file(path: Path) -> tuple[Plugin, object | None]:
    """Import the single-file plugin at `path` under its own name."""
    name = path.stem
    plugin = Plugin(f"file:{path.name}", "0", name)
    try:
        source = path.read_bytes()
    except OSError as error:
        plugin.problems.append(f"{path} cannot be read ({error.strerror})")
        return plugin, None
    plugin.version = hashlib.sha256(source).hexdigest()[:12]
    if path.suffix != ".py" or not re.fullmatch(r"[A-Za-z_]\w{0,63}", name):
        plugin.problems.append(f"{path} must be named like a module, such as my_trader.py")
        return plugin, None
    try:
        other = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        other = None
    if other is not None and Path(other.origin or "").resolve() != path.resolve():
        where = other.origin or "another place"
        plugin.problems.append(
            f"a module {name!r} is there already ({where}): rename {path.name}, or leave out "
            "--plugin if that is the same plugin, installed"
        )
        return plugin, None
    try:
        if name in sys.modules:
            return plugin, sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # the factories "my_trader:MyTrader" are found there
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        plugin.problems.append(f"it cannot be imported: {_told(error)}")
        return plugin, None
    return plugin, module


def _register(plugin: Plugin, module: object, found: Registry) -> None:
    """Take the specs of `module` into `found`.

    Each plugin has a manager of its own, so that no plugin can see, or disturb, another.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    try:
        manager.register(module)
    except (Exception, SystemExit) as error:
        plugin.problems.append(f"it cannot be registered: {_told(error)}")
        return
    known = [caller for caller in manager.get_hookcallers(module) or [] if caller.name in HOOKS]
    unknown = {c.name for c in manager.get_hookcallers(module) or []} - set(HOOKS)
    for name in sorted(unknown):
        near = get_close_matches(name, HOOKS, n=1)
        hint = f": did you mean {near[0]!r}?" if near else f"; there are {', '.join(HOOKS)}"
        plugin.problems.append(f"there is no hook {name!r}{hint}")
    if not known and not unknown:
        plugin.problems.append(
            f"it implements no hook ({', '.join(HOOKS)}): decorate one with "
            "@peerwatt.plugins.hookimpl"
        )
    if unknown:
        return
    for caller in known:
        plugin.hooks.append(caller.name)
        kind = HOOKS[caller.name]
        try:
            for implementation in caller.get_hookimpls():
                if implementation.wrapper or implementation.hookwrapper:
                    plugin.problems.append(
                        f"its hook {caller.name} must not be a wrapper: leave out wrapper=True"
                    )
                    continue
                specs = implementation.function()
                if not isinstance(specs, Iterable):
                    plugin.problems.append(
                        f"its hook {caller.name} returns {specs!r}, expected a list of "
                        f"{SPECS[kind].__name__}"
                    )
                    continue
                for spec in list(specs):
                    _take(plugin, kind, spec, found)
        except (Exception, SystemExit) as error:
            plugin.problems.append(f"its hook {caller.name} fails: {_told(error)}")


def _take(plugin: Plugin, kind: Kind, spec: object, found: Registry) -> None:
    """Register one spec of `plugin`, or say why not."""
    expected = SPECS[kind]
    if not isinstance(spec, expected):
        plugin.problems.append(f"{PROJECT}_{kind}s returns {spec!r}, expected {expected.__name__}")
        return
    problem = spec.problem()
    if problem is not None:
        plugin.problems.append(f"{kind} {spec.name!r}: {problem}")
        return
    full = f"{plugin.distribution}:{spec.name}"
    if full in found.qualified[kind]:
        plugin.problems.append(f"it registers the {kind} {spec.name!r} twice")
        return
    registered = Registered(spec, plugin.distribution, spec.version or plugin.version)
    found.qualified[kind][full] = registered
    plugin.names.setdefault(kind, []).append(spec.name)
    names, conflicts = found.names[kind], found.conflicts[kind]
    if spec.name in conflicts:
        others = conflicts[spec.name]
    elif spec.name in names:
        others = [f"{names[spec.name].distribution}:{spec.name}"]
    else:
        names[spec.name] = registered
        return
    owners = " and ".join(other.rpartition(":")[0] for other in others)
    if spec.name in names and names[spec.name].distribution == PROJECT:
        plugin.problems.append(
            f"the {kind} {spec.name!r} is PeerWatt's own, so this one is to be had as {full!r} only"
        )
        return
    names.pop(spec.name, None)
    conflicts[spec.name] = [*others, full]
    plugin.problems.append(
        f"{owners} registers the {kind} {spec.name!r} too: write {others[0]!r} or {full!r}"
    )


def _told(error: BaseException) -> str:
    """Return the type and message of `error` in one line, and where it was raised."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "importlib" not in file and "pluggy" not in file and file != __file__:
            place = f" ({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


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
    error = str(unknown_name(kind, name, found[kind]))
    absent = [plugin for plugin in found.plugins if plugin.status in ("failed", "warning")]
    hints = [f"The plugin {p.title} is broken: {p.told}" for p in absent]
    disabled = sorted({plugin.distribution for plugin in found.plugins if plugin.disabled})
    if disabled:
        hints.append(f"Disabled: {', '.join(disabled)}.")
    raise PeerWattError(" ".join([error, *hints]))


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
