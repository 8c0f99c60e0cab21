"""The frame of the conformance suites: laws, the plugin that is held to them, and findings.

Importing this module imports nothing heavy; the laws of a kind load when that kind is examined.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from peerwatt.errors import PeerWattError, told
from peerwatt.plugins.loader import (
    FILE_PREFIX,
    PLUGIN_KINDS,
    Kind,
    Registered,
    build,
    find,
    registry,
)
from peerwatt.plugins.specs import PROJECT

HEAVY = ("torch", "litellm", "numba", "matplotlib", "wandb", "ray", "pandas")
"""What must not be imported only to list a plugin."""

T = TypeVar("T")


class Violation(AssertionError):
    """A law that a plugin breaks, as one sentence that names the mend."""


class NotApplicable(Exception):
    """A law that does not concern the plugin at hand; the text says why."""


@dataclass(frozen=True)
class Check:
    """One law and the function that holds a plugin to it.

    `run` takes the `Subject` and returns nothing; it raises `Violation` if the law is broken, and
    `NotApplicable` if it does not concern this plugin.
    """

    name: str
    """A few words, such as "same-seed": the id of the test."""
    law: str
    """What must hold, as a sentence."""
    run: Callable[[Subject], None]
    needs: tuple[str, ...] = ()
    """Checks of the same suite without which this one cannot tell: skipped if one has failed."""


@dataclass(frozen=True)
class Finding:
    """What came of a check: it passed, or there is a problem, or it was skipped."""

    check: Check
    problem: str | None = None
    """The sentence that says what is wrong, and how to mend it."""
    skipped: str | None = None
    """Why the check was left out."""

    @property
    def passed(self) -> bool:
        """Whether the law was examined and holds."""
        return self.problem is None and self.skipped is None


@dataclass
class Subject:
    """The plugin that is examined, and what its checks share."""

    kind: Kind
    plugin: Registered
    options: Mapping[str, Any] = field(default_factory=dict)
    budget: int | None = None
    """Agent-steps to train an algorithm for on each community; None leaves it to the suite."""
    failed: set[str] = field(default_factory=set)
    """Names of the checks that have failed so far."""
    _kept: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def spec(self) -> Any:
        """The spec that the plugin registered."""
        return self.plugin.spec

    @property
    def title(self) -> str:
        """Kind and name as a sentence names them."""
        return f"{self.kind} {self.spec.name!r}"

    def make(self, **options: Any) -> Any:
        """Return a new instance with the subject's options, overridden by `options`."""
        return build(self.kind, self.plugin, {**self.options, **options})

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when it was first called for `key`."""
        if key not in self._kept:
            self._kept[key] = make()
        value: T = self._kept[key]
        return value

    def require(self, holds: Any, sentence: str) -> None:
        """Raise `Violation`, unless the law `holds`; the sentence is led by kind and name."""
        if not holds:
            raise Violation(f"{self.title}: {sentence}")


def subject(
    kind: Kind,
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    budget: int | None = None,
) -> Subject:
    """Return the registered plugin of `kind` called `name`, ready to be examined.

    Raises:
        PeerWattError: there is no suite for `kind`, or no such plugin.
    """
    _check_kind(kind)
    return Subject(kind, find(kind, name), options or {}, budget)


def _check_kind(kind: Kind) -> None:
    if kind not in PLUGIN_KINDS:
        known = ", ".join(PLUGIN_KINDS)
        raise PeerWattError(f"there is no suite for {kind!r}: expected one of {known}.")


def suite(kind: Kind) -> tuple[Check, ...]:
    """Return the laws of `kind`, those that are common to all kinds first.

    Raises:
        PeerWattError: there is no suite for `kind`, or what it needs is not installed.
    """
    _check_kind(kind)
    try:
        module = importlib.import_module(f"peerwatt.testing.{kind}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == PROJECT:
            raise
        raise PeerWattError(
            f"the {kind} suite needs the module {error.name!r}: pip install 'peerwatt[testing]'."
        ) from None
    checks: tuple[Check, ...] = module.CHECKS
    common = [check for check in COMMON if kind != "task" or check.name != "options"]
    made = ("spec", "options")
    return (*common, *(dataclasses.replace(c, needs=(*made, *c.needs)) for c in checks))


def examine(
    kind: Kind,
    name: str,
    *,
    options: Mapping[str, Any] | None = None,
    budget: int | None = None,
) -> Iterator[Finding]:
    """Hold a plugin to every law of its kind, and yield what was found as it is found.

    Args:
        kind: kind of the plugin.
        name: its name, or "distribution:name".
        options: options other than its defaults.
        budget: agent-steps to train an algorithm for on each community, if its defaults need more
            than the suite gives.

    Raises:
        PeerWattError: there is no such plugin, or no suite for `kind`.
    """
    checks = suite(kind)
    examined = subject(kind, name, options=options, budget=budget)
    for check in checks:
        yield run_check(check, examined)


def run_check(check: Check, examined: Subject) -> Finding:
    """Hold the plugin to one law; a failure of whatever kind becomes a sentence."""
    broken = [name for name in check.needs if name in examined.failed]
    if broken:
        return Finding(check, skipped=f"cannot be told while {broken[0]!r} fails")
    try:
        check.run(examined)
    except NotApplicable as reason:
        return Finding(check, skipped=str(reason))
    except Violation as error:
        sentence = str(error)
    except PeerWattError as error:
        name = re.escape(repr(examined.spec.name))
        said = re.sub(rf"^({examined.kind} )?({name}|{name[1:-1]}): ", "", str(error))
        sentence = f"{examined.title}{_circumstances(error)}: {said}"
    except (Exception, SystemExit) as error:
        sentence = _unexpected(error, examined)
    else:
        return Finding(check)
    examined.failed.add(check.name)
    return Finding(check, problem=sentence)


@contextlib.contextmanager
def during(circumstances: str) -> Iterator[None]:
    """Let the sentence about whatever a plugin raises in this block tell when it happened."""
    try:
        yield
    except (Exception, SystemExit) as error:
        error.add_note(circumstances)
        raise


def _circumstances(error: BaseException) -> str:
    notes = getattr(error, "__notes__", [])
    return f" ({', '.join(notes)})" if notes else ""


def _unexpected(error: BaseException, examined: Subject) -> str:
    """Tell type and message of `error`, and the line of the plugin that it came from."""
    package = examined.spec.factory.partition(":")[0].partition(".")[0]
    place = ""
    trace = error.__traceback__
    while trace is not None:
        code, name = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__"))
        if name.partition(".")[0] == package:
            place = f" at {Path(code.co_filename).name}:{trace.tb_lineno}, in {code.co_name}"
        trace = trace.tb_next
    return f"{examined.title}{_circumstances(error)}: {told(error)}{place}."


def _check_spec(examined: Subject) -> None:
    """What the plugin registered is sound, and its factory is there."""
    problem = examined.spec.problem()
    examined.require(problem is None, f"{problem}.")
    examined.require(examined.spec.summary.strip(), "give its spec a summary: lists show it.")
    factory = examined.spec.load()
    if examined.kind == "task":
        examined.require(
            callable(factory),
            f"{examined.spec.factory} must be a function without arguments that returns the task.",
        )
        return
    examined.require(
        isinstance(factory, type) and dataclasses.is_dataclass(factory),
        f"{examined.spec.factory} must be a dataclass whose fields are the options: decorate the "
        "class with @dataclass(frozen=True).",
    )
    examined.require(
        examined.kind == "sink" or factory.__dataclass_params__.frozen,
        f"{examined.spec.factory} can be changed after it was made, but its options are what the "
        "record of a run states: decorate the class with @dataclass(frozen=True).",
    )


def _not_annotated(factory: type) -> Iterator[tuple[str, Any]]:
    """Yield attributes of a dataclass that look like options, but are none."""
    options = {item.name for item in dataclasses.fields(factory)}
    annotated = {name for cls in factory.__mro__ for name in inspect.get_annotations(cls)}
    for cls in factory.__mro__:
        for name, value in vars(cls).items():
            constant = (
                name.startswith("_") or name.isupper() or name in inspect.get_annotations(cls)
            )
            inherited = name in annotated - options  # a ClassVar
            plain = isinstance(value, int | float | str | tuple | list | dict | Path | None)
            if plain and not constant and not inherited:
                yield name, value


def _check_options(examined: Subject) -> None:
    """Every option has a default, a place in the record and one on the command line."""
    factory = examined.spec.load()
    for name, value in _not_annotated(factory):
        kind = "float | None" if value is None else type(value).__name__
        raise Violation(
            f"{examined.title}: {name!r} of {examined.spec.factory} is no option, for it has no "
            f"annotation: annotate it, {name}: {kind} = {value!r}, or as a ClassVar if it shall be "
            "none."
        )
    for item in dataclasses.fields(factory):
        default = (item.default, item.default_factory)
        examined.require(
            not item.init or default != (dataclasses.MISSING, dataclasses.MISSING),
            f"option {item.name!r} has no default: give it one, so that it runs without options.",
        )
    default = factory()
    if examined.kind != "sink":
        for name, value in dataclasses.asdict(default).items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError) as error:
                raise Violation(
                    f"{examined.title}: option {name!r} cannot stand in the record of a run "
                    f"({error}): use numbers, texts, tuples of them or None."
                ) from None
    import tyro

    arguments = dataclasses.make_dataclass(
        "Arguments", [("options", factory, dataclasses.field(default_factory=factory))]
    )
    try:
        tyro.cli(arguments, args=[], console_outputs=False)
    except (Exception, SystemExit) as error:
        raise Violation(
            f"{examined.title}: no command line can be made from {examined.spec.factory} "
            f"({told(error)}): annotate every field with a type such as "
            "int, float, bool, str or tuple[int, ...]."
        ) from None
    examined.make()


_LISTING = """
import importlib, json, sys
path, module, heavy = json.loads(sys.argv[1])
sys.path[:] = path
importlib.import_module(module)
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def _check_light(examined: Subject) -> None:
    """Every command imports the modules with the hooks, so that must cost nothing."""
    if examined.plugin.distribution.startswith(FILE_PREFIX):
        raise NotApplicable("a single file is loaded only when it is named")
    module = _hook_module(examined)
    arguments = json.dumps([sys.path, module, HEAVY])
    done = subprocess.run(
        [sys.executable, "-c", _LISTING, arguments], capture_output=True, text=True, timeout=120
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    examined.require(
        done.returncode == 0, f"its module {module!r} cannot be imported afresh: {last}."
    )
    heavy = json.loads(done.stdout.splitlines()[-1])
    examined.require(
        not heavy,
        f"the module {module!r}, which every command imports, imports {' and '.join(heavy)}: "
        "import what needs that inside functions, under TYPE_CHECKING, or in another module that "
        "the factory names.",
    )


def _hook_module(examined: Subject) -> str:
    """Return the name of the module that registered the plugin."""
    owner, name = examined.plugin.distribution, examined.spec.name
    entry = next(
        plugin.entry_point
        for plugin in registry().plugins
        if plugin.distribution == owner and name in plugin.names.get(examined.kind, [])
    )
    points = importlib.metadata.entry_points(group=PROJECT, name=entry)
    return next(p.module for p in points if p.dist is not None and p.dist.name == owner)


COMMON = (
    Check("spec", "What is registered is sound, and its factory is there.", _check_spec),
    Check(
        "options",
        "Every option has a default, can stand in the record, and is on the command line.",
        _check_options,
        needs=("spec",),
    ),
    Check("listing", "Listing the plugin imports nothing heavy.", _check_light),
)
"""Laws of every kind, though tasks have no options. A kind's own checks need the first two."""
