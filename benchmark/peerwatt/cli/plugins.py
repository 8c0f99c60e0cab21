"""`peerwatt plugins`: what is installed and how it does, the doctor, and new packages."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.plugins.loader import (
    HOOKS,
    PLUGIN_KINDS,
    Kind,
    Plugin,
    Registered,
    Status,
    build,
    registry,
)
from peerwatt.plugins.specs import API_VERSION

if TYPE_CHECKING:
    from rich.console import Console

PIPED_WIDTH = 100
"""Columns of a table that goes to a file or another command."""
STYLES: dict[Status, str] = {
    "ok": "green",
    "warning": "yellow",
    "failed": "red",
    "disabled": "dim",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise PeerWattError(f"{self.prog}: {message}; {self.prog} --help explains.")


def run(arguments: list[str]) -> None:
    """Parse the command line and do what it says."""
    parser = _Parser("peerwatt plugins", description="List, check and create plugins.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    listing = commands.add_parser(
        "list",
        help="show what is installed, who brought it, and what is wrong with it",
        description="Show every plugin: distribution, version, hooks, names and status. Below the "
        "table stands what is wrong, and how to mend it. Nothing heavy is imported.",
    )
    listing.add_argument("--kind", choices=HOOKS.values(), help="plugins of this kind only")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument(
        "--check",
        action="store_true",
        help="import everything that the plugins provide, too; exit code 1 if anything is broken",
    )
    doctor = commands.add_parser(
        "doctor",
        help="hold a plugin to the laws of its kind",
        description="Run the conformance suite on a plugin and say in a sentence what to mend. "
        "Options of the plugin are given as in `peerwatt run`, after its name: --algorithm.gamma "
        "0.9. Exit code 1 if a law is broken.",
    )
    doctor.add_argument(
        "name", help='name of a plugin, "distribution:name", or a distribution for all it provides'
    )
    doctor.add_argument("--kind", choices=PLUGIN_KINDS, help="where several kinds have the name")
    doctor.add_argument("--budget", help="agent-steps of each training of an algorithm, as in 50k")
    new = commands.add_parser(
        "new",
        help="write the package of a new plugin",
        description="Write a small, complete, tested package to start from.",
    )
    new.add_argument("name", help="name of the package and of the plugin, such as my-trader")
    new.add_argument("--kind", choices=PLUGIN_KINDS, required=True, help="what it provides")
    new.add_argument("--folder", type=Path, default=Path(), help="folder to write the package into")

    options, rest = parser.parse_known_args(arguments)
    if options.command == "doctor":
        _doctor(options.name, options.kind, options.budget, _words_of_kinds(rest))
    elif rest:
        parser.error(f"unknown {rest[0]!r}")
    elif options.command == "new":
        _new(options.name, options.kind, options.folder)
    else:
        _list(options.kind, options.json, options.check)


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(width=width, highlight=False)


def _list(kind: Kind | None, as_json: bool, check: bool) -> None:
    """Print all plugins, or those of `kind` and the broken ones, as a table or as JSON."""
    plugins = [
        plugin
        for plugin in registry().plugins
        if kind is None or kind in plugin.names or not plugin.names
    ]
    missing: list[str] = []
    if check:
        checked = []
        for plugin in plugins:
            problems = list(plugin.problems)
            for problem, broken in _unusable(plugin, kind):
                (problems if broken else missing).append(problem)
            checked.append(dataclasses.replace(plugin, problems=problems))
        plugins = checked
    if as_json:
        content = {
            "api": API_VERSION,
            "plugins": [_row(plugin) for plugin in plugins],
            "missing": missing,
        }
        json.dump(content, sys.stdout, indent=2)
        print()
    else:
        _print_table(plugins, missing)
    if check and any(plugin.problems for plugin in plugins):
        sys.exit(1)


def _row(plugin: Plugin) -> dict[str, Any]:
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.entry_point,
        "status": plugin.status,
        "hooks": plugin.hooks,
        "names": plugin.names,
        "problems": plugin.problems,
    }


def _unusable(plugin: Plugin, kind: Kind | None) -> Iterator[tuple[str, bool]]:
    """Import all that `plugin` provides; yield what fails, and whether the plugin is to blame.

    It is not to blame for an optional dependency that it declares and that is not installed.
    """
    for found, names in plugin.names.items():
        if kind not in (None, found):
            continue
        for name in names:
            registered = registry().qualified[found][f"{plugin.distribution}:{name}"]
            try:
                if found in ("task", "command"):
                    registered.spec.load()
                else:
                    build(found, registered, {})
                if found == "algorithm":
                    registered.spec.load_policy()
            except PeerWattError as error:
                absent = isinstance(error.__cause__, ModuleNotFoundError)
                sentence = str(error).rstrip(".")
                if sentence.startswith(repr(name)):
                    sentence = f"the {found} {sentence}"
                yield sentence, not (absent and registered.spec.requires)


def _print_table(plugins: list[Plugin], missing: list[str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("distribution", overflow="fold", max_width=28)
    table.add_column("version", overflow="fold", max_width=12)
    table.add_column("hook", no_wrap=True)
    table.add_column("names", overflow="fold")
    table.add_column("status", no_wrap=True)
    above = ""
    for plugin in plugins:
        hooks = [(hook, plugin.names.get(HOOKS[hook], [])) for hook in plugin.hooks] or [("–", [])]
        for place, (hook, names) in enumerate(hooks):
            again = plugin.distribution == above
            table.add_row(
                Text("" if again else plugin.distribution),
                Text("" if again else plugin.version),
                Text(hook),
                Text(", ".join(names) or "–"),
                Text("" if place else plugin.status, STYLES[plugin.status]),
            )
            above = plugin.distribution
    console = _console()
    console.print(table)
    for plugin in plugins:
        for problem in plugin.problems:
            _print_problem(console, plugin, problem)
    for sentence in missing:
        console.print(Text(f"Not installed: {sentence}."), soft_wrap=not console.is_terminal)


def _print_problem(console: Console, plugin: Plugin, problem: str) -> None:
    """Print a sentence; in a file or a pipe it stays one line, to be searched for."""
    from rich.text import Text

    end = "" if problem.endswith(("?", ".")) else "."
    sentence = Text.assemble((plugin.title, "bold"), f": {problem}{end}")
    console.print(sentence, soft_wrap=not console.is_terminal)


def _words_of_kinds(words: list[str]) -> dict[str, list[str]]:
    """Return the words by kind that --algorithm.hidden 8 8 and the like state.

    Raises:
        PeerWattError: a word belongs to no option of a plugin.
    """
    from peerwatt.cli.options import flag_of

    kinds = {flag_of(kind): kind for kind in PLUGIN_KINDS}
    found: dict[str, list[str]] = {}
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag, dot, _ = word.removeprefix("--").partition(".")
            flag = flag if dot else ""
        if flag not in kinds:
            raise PeerWattError(f"peerwatt plugins doctor does not know {word!r}.")
        found.setdefault(kinds[flag], []).append(word)
    return found


@dataclass(frozen=True)
class _Patient:
    kind: Kind
    registered: Registered

    @property
    def full_name(self) -> str:
        return f"{self.registered.distribution}:{self.registered.spec.name}"


def _patients(name: str, kind: Kind | None) -> tuple[list[_Patient], list[Plugin]]:
    """Return what `name` stands for, and the plugins that it comes from, broken ones included.

    Raises:
        PeerWattError: it stands for nothing.
    """
    patients = [
        _Patient(found, registered)
        for found in PLUGIN_KINDS
        if kind in (None, found)
        for full, registered in registry().qualified[found].items()
        if name in (full, registered.spec.name, registered.distribution)
    ]
    owners = {name, *(patient.registered.distribution for patient in patients)}
    plugins = [plugin for plugin in registry().plugins if plugin.distribution in owners]
    if not patients and not plugins:
        known = {item for found in PLUGIN_KINDS for item in registry()[found]}
        known |= {plugin.distribution for plugin in registry().plugins}
        unknown = unknown_name(kind or "plugin", name, known)
        module = name.replace("-", "_")
        for file in (Path(f"{module}.py"), Path(name) / f"{module}.py"):
            if file.is_file():
                raise PeerWattError(
                    f"{unknown} Or is it the single file {file}? Add --plugin ./{file}."
                )
        raise unknown
    return patients, plugins


def _options(patient: _Patient, words: list[str]) -> dict[str, Any]:
    """Return the options that `words` state, as `peerwatt run` reads them."""
    if not words:
        return {}
    from peerwatt.cli.options import flag_of, options_of, parse

    kind = patient.kind
    flag = flag_of(kind)
    named = dataclasses.make_dataclass("Named", [(flag, str)], frozen=True)
    line = [f"--{flag}", patient.full_name, *words]
    _, parsed = parse(named, line, "peerwatt plugins doctor", "Options of the plugin.")
    return dict(options_of(getattr(parsed, f"{kind}_options", None)))


def _doctor(name: str, kind: Kind | None, budget: str | None, words: dict[str, list[str]]) -> None:
    """Examine all that `name` stands for, law by law; exit code 1 if one is broken."""
    patients, plugins = _patients(name, kind)
    examined = {patient.kind for patient in patients}
    for other in words:
        if other not in examined or other == "task":
            problem = "a task has no options" if other == "task" else f"{name!r} is no {other}"
            raise PeerWattError(f"{words[other][0]}: {problem}.")
    options = [_options(patient, words.get(patient.kind, [])) for patient in patients]
    steps = None
    if budget is not None:
        from peerwatt.cli.options import agent_steps

        steps = agent_steps(budget)
    console = _console()
    well = True
    for plugin in plugins:
        named = not patients or plugin.distribution == name
        for problem in plugin.problems:
            well = False
            _print_problem(console, plugin, problem)
        if plugin.disabled and named:
            raise PeerWattError(
                f"the plugin {plugin.title} is disabled, so nothing is known of it."
            )
    if well and not patients:
        console.print(f"{name} provides nothing that has laws to obey.", markup=False)
    for patient, given in zip(patients, options, strict=True):
        well &= _examine(patient, steps, given, console)
    if not well:
        sys.exit(1)


def _examine(
    patient: _Patient, budget: int | None, options: dict[str, Any], console: Console
) -> bool:
    """Hold one plugin to the laws of its kind, print each as it is told; True if all hold."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from peerwatt.testing.frame import examine, suite

    registered = patient.registered
    title = f"{patient.kind} {registered.spec.name}"
    owner = f" of {registered.distribution} {registered.version}"
    console.print(Text.assemble((title, "bold"), owner))
    checks = suite(patient.kind)
    width = max(len(check.name) for check in checks)
    counts = {"ok": 0, "broken": 0, "skipped": 0}
    styles = {"ok": "green", "broken": "bold red", "skipped": "dim"}
    began = time.perf_counter()
    with Console(stderr=True).status("") as status:
        findings = examine(patient.kind, patient.full_name, options=options, budget=budget)
        for check in checks:
            status.update(f"{check.name}: {check.law}")
            finding = next(findings)
            verdict = "ok" if finding.passed else "broken" if finding.problem else "skipped"
            counts[verdict] += 1
            line = Table.grid(padding=(0, 1))
            line.add_column(width=len("skipped"))
            line.add_column(width=width)
            line.add_column()
            line.add_row(
                Text(verdict, styles[verdict]),
                Text(check.name),
                Text(finding.problem or check.law, "red" if finding.problem else ""),
            )
            if finding.skipped is not None:
                line.add_row("", "", Text(f"({finding.skipped})", "dim"))
            console.print(line)
    seconds = time.perf_counter() - began
    console.print(
        f"{counts['ok']} of {sum(counts.values())} laws hold, {counts['broken']} broken, "
        f"{counts['skipped']} skipped, in {seconds:.1f} s"
    )
    return counts["broken"] == 0


def _new(name: str, kind: Any, folder: Path) -> None:
    """Write the package of a new plugin, and say what to do next."""
    from peerwatt.plugins.template import write_plugin

    written = write_plugin(name, kind, folder)
    print(f"Written to {written.folder}: {', '.join(written.files)}.")
    print("Next:")
    for command in written.commands:
        print(f"  {command}")
