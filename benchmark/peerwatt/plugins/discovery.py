"""Find what is installed: entry points of the group `peerwatt`, and the specs they register.

A broken plugin is told and left out; it never takes the others, or the command, down. None can
take a name that PeerWatt itself registers.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import pluggy

from peerwatt.errors import PeerWattError, shown, told
from peerwatt.plugins.records import FILE_PREFIX, HOOKS, SPECS, Kind, Plugin, Registered, Registry
from peerwatt.plugins.specs import PROJECT, VERSION, Hooks

ONLY = "PEERWATT_PLUGINS"
"""Environment variable: the only distributions to load plugins of, by commas; empty for none."""
WITHOUT = "PEERWATT_DISABLE_PLUGINS"
"""Environment variable: distributions whose plugins are not loaded, by commas."""
STRICT = "PEERWATT_STRICT_PLUGINS"
"""Environment variable: 1 makes a broken plugin an error instead of a warning."""
FILES = "PEERWATT_PLUGIN_FILES"
"""Environment variable: plugins that are single files, separated as in PATH."""


@lru_cache(maxsize=1)
def registry() -> Registry:
    """Load all plugins and return what they registered; broken ones are told in it.

    Raises:
        PeerWattError: plugins are wanted strictly and one is broken, or a file that was named is.
    """
    global _loading
    if _loading:
        raise PeerWattError(
            "a plugin looks plugins up, or loads a task, while it is being imported: do that in "
            "the function that its spec names."
        )
    _loading = True
    try:
        return _load()
    finally:
        _loading = False


_loading = False


def _load() -> Registry:
    """Do what `registry` says."""
    found = Registry()
    owners: dict[int, Plugin] = {}
    wishes = _wishes()  # before any plugin could change them
    strict = os.environ.get(STRICT, "").strip().lower() not in ("", "0", "false", "no", "off")
    files = [Path(text) for text in os.environ.get(FILES, "").split(os.pathsep) if text]
    for plugin, module in _modules(wishes, files):
        found.plugins.append(plugin)
        owner = owners.setdefault(id(module), plugin) if module is not None else plugin
        if owner is not plugin:
            mend = "--plugin" if plugin.is_file else "one entry point"
            plugin.problems.append(f"it is installed already, as {owner.title}: leave out {mend}")
        elif module is not None:
            _register(plugin, module, found)
        if plugin.broken and plugin.is_file:
            raise PeerWattError(f"plugin {plugin.title}: {plugin.told}")
    installed = {normal(plugin.distribution) for plugin in found.plugins}
    for variable, names in wishes.items():
        found.absent += [
            f"{variable} names {name!r}, which has no plugin of PeerWatt."
            for name in sorted((names or set()) - installed)
        ]
    if strict and found.problems:
        raise PeerWattError(" ".join(found.problems))
    return found


def _wishes() -> dict[str, set[str] | None]:
    """Return which distributions the environment lets load, and which not; None if it is silent."""
    texts = {variable: os.environ.get(variable) for variable in (ONLY, WITHOUT)}
    return {
        variable: None if text is None else {normal(n) for n in text.split(",") if n.strip()}
        for variable, text in texts.items()
    }


def _modules(
    wishes: dict[str, set[str] | None], files: list[Path]
) -> Iterator[tuple[Plugin, object | None]]:
    """Import the module of every plugin, those of PeerWatt first; None where it failed."""
    for plugin, point in sorted(
        _points(), key=lambda p: (not p[0].in_tree, p[0].distribution, p[0].entry_point)
    ):
        only, without = wishes[ONLY], wishes[WITHOUT]
        name = normal(plugin.distribution)
        plugin.disabled = not plugin.in_tree and (
            (only is not None and name not in only) or (without is not None and name in without)
        )
        module = None
        if not plugin.disabled and not plugin.problems and point is not None:
            with _guarded(plugin, "it cannot be imported"):
                module = point.load()
        yield plugin, module
    for path in files:
        yield _load_file(path)


def _points() -> list[tuple[Plugin, importlib.metadata.EntryPoint | None]]:
    """Find all entry points; None where a distribution's metadata cannot be read."""
    try:
        points = list(importlib.metadata.entry_points(group=PROJECT))
        return [(_plugin_of(point), point) for point in points]
    except Exception:  # one broken distribution: look at each by itself
        found: list[tuple[Plugin, importlib.metadata.EntryPoint | None]] = []
        for distribution in importlib.metadata.distributions():
            try:
                points = [p for p in distribution.entry_points if p.group == PROJECT]
                found += [(_plugin_of(point), point) for point in points]
            except Exception as error:
                place = shown(str(getattr(distribution, "_path", "a distribution")), 100)
                plugin = Plugin(Path(place).name, "0", "?")
                plugin.problems.append(f"its metadata cannot be read: {told(error)}")
                found.append((plugin, None))
        return found


def _plugin_of(point: importlib.metadata.EntryPoint) -> Plugin:
    name = point.dist.metadata["Name"] if point.dist else None
    version = point.dist.metadata["Version"] if point.dist else None
    plugin = Plugin(shown(name or "unknown"), shown(version or "0"), shown(point.name))
    if name is None or version is None:
        plugin.problems.append("its metadata state no name or no version: install it again")
    elif not re.fullmatch(VERSION, plugin.version):
        plugin.problems.append(f"its version {plugin.version!r} is none such as 1.2.0")
    return plugin


@contextlib.contextmanager
def _guarded(plugin: Plugin, what: str) -> Iterator[None]:
    """Record what the code of `plugin` raises; what it prints goes to standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        plugin.problems.append(f"{what}: {told_with_place(error)}")


def normal(name: str) -> str:
    """Return the name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _load_file(path: Path) -> tuple[Plugin, object | None]:
    """Import the single-file plugin at `path` under its own name."""
    name = path.stem
    plugin = Plugin(f"{FILE_PREFIX}{path.name}", "0", name)
    if path.is_dir():
        inside = path / f"{path.name.replace('-', '_')}.py"
        hint = f": name the file in it, {inside}" if inside.is_file() else ""
        plugin.problems.append(f"{path} is a folder{hint}")
        return plugin, None
    try:
        source = path.read_bytes()
    except OSError as error:
        plugin.problems.append(f"{path} cannot be read ({error.strerror})")
        return plugin, None
    plugin.version = hashlib.sha256(source).hexdigest()[:12]
    if path.suffix != ".py" or not re.fullmatch(r"[A-Za-z_]\w{0,63}", name, re.ASCII):
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
    if name in sys.modules:
        return plugin, sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # the factories "my_trader:MyTrader" are found there
    with _guarded(plugin, "it cannot be imported"):
        spec.loader.exec_module(module)
    if plugin.problems:
        del sys.modules[name]
        return plugin, None
    return plugin, module


def _register(plugin: Plugin, module: object, found: Registry) -> None:
    """Take the specs of `module` into `found`.

    Each plugin has a manager of its own, so that no plugin can see, or disturb, another.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hooks)
    with _guarded(plugin, "it cannot be registered"):
        manager.register(module)
    if plugin.problems:
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
        for implementation in caller.get_hookimpls():
            with _guarded(plugin, f"its hook {caller.name} fails"):
                for spec in _specs_of(plugin, caller.name, implementation):
                    _take(plugin, HOOKS[caller.name], spec, found)
    if not plugin.problems and not any(plugin.names.values()):
        plugin.problems.append("it registers nothing: its hooks return empty lists")


def _specs_of(plugin: Plugin, hook: str, implementation: pluggy.HookImpl) -> list[object]:
    """Call a hook and return what it lists; nothing if that is no list."""
    if implementation.wrapper or implementation.hookwrapper:
        plugin.problems.append(f"its hook {hook} must not be a wrapper: leave out wrapper=True")
        return []
    specs: object = implementation.function()
    if not isinstance(specs, Iterable):
        expected = SPECS[HOOKS[hook]].__name__
        text = shown(repr(specs), 60)
        plugin.problems.append(f"its hook {hook} returns {text}, expected a list of {expected}")
        return []
    return list(specs)


def _take(plugin: Plugin, kind: Kind, spec: Any, found: Registry) -> None:
    """Register one spec of `plugin`, or say why not."""
    expected: Any = SPECS[kind]
    if type(spec) is not expected:
        plugin.problems.append(
            f"{PROJECT}_{kind}s returns {shown(repr(spec), 60)}, expected {expected.__name__}"
        )
        return
    problem = spec.problem()
    if problem is not None:
        plugin.problems.append(f"{kind} {shown(repr(spec.name), 80)}: {problem}")
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
    if spec.name in names and names[spec.name].distribution == PROJECT:
        _contest(
            plugin,
            f"the {kind} {spec.name!r} is PeerWatt's own",
            f"so this one is to be had as {full!r} only",
        )
        return
    names.pop(spec.name, None)
    conflicts[spec.name] = [*others, full]
    for other in found.plugins:
        mine = f"{other.distribution}:{spec.name}"
        rivals = [rival.rpartition(":")[0] for rival in conflicts[spec.name] if rival != mine]
        if mine in conflicts[spec.name] and spec.name in other.names.get(kind, []):
            owners = " and ".join(rivals)
            _contest(
                other,
                f"the {kind} {spec.name!r} is not its own",
                f"{owners} has one: write {mine!r}",
            )


def _contest(plugin: Plugin, what: str, more: str) -> None:
    """Note that a name of `plugin` is others' too, in the place of an earlier note."""
    for notes in (plugin.problems, plugin.conflicts):
        notes[:] = [note for note in notes if not note.startswith(what)] + [f"{what}, {more}"]


def told_with_place(error: BaseException) -> str:
    """Return `error` in one line, and where in the plugin it was raised."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        ours = {"importlib", "pluggy", "<frozen importlib._bootstrap>"} & set(file.parts)
        if not ours and file.is_file() and file.parent not in _OURS:
            place = f" ({file.name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return told(error) + place


_OURS = (Path(os.__file__).parent, Path(__file__).parent)
"""Folders in which no line of a plugin stands."""
