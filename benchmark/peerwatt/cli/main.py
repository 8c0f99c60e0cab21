"""`peerwatt`: the entry point, which finds the command and turns bad input into one sentence."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from peerwatt.errors import PeerWattError, shown, unknown_name

MOST = 4_000
"""Characters of a sentence that are printed: some quote a stranger."""


def _commands() -> dict[str, tuple[str, Callable[[], Any]]]:
    """Return all commands: name -> (summary, loader of a function of the remaining arguments)."""
    from peerwatt.cli import listing

    def lazy(module: str, attribute: str) -> Callable[[], Any]:
        def load() -> Any:
            import importlib

            return getattr(importlib.import_module(module), attribute)

        return load

    commands: dict[str, tuple[str, Callable[[], Any]]] = {
        "list": ("Show the tasks, algorithms, critics, mechanisms and sinks.", lambda: listing.run),
        "run": (
            "Train and evaluate one entry over seeds, or a suite of entries.",
            lazy("peerwatt.cli.run", "run"),
        ),
        "status": (
            "Show how far the runs of a results folder are.",
            lazy("peerwatt.cli.status", "run"),
        ),
        "resume": (
            "Run what a results folder still lacks: interrupted, killed, failed and new runs.",
            lazy("peerwatt.cli.resume", "run"),
        ),
        "evaluate": (
            "Play a finished run's policy again and compare with its record.",
            lazy("peerwatt.cli.evaluate", "run"),
        ),
        "compare": (
            "Compare two entries of a task, with intervals.",
            lazy("peerwatt.cli.compare", "run"),
        ),
        "regress": (
            "Tell whether new results are a regression of others: a verdict for CI.",
            lazy("peerwatt.cli.regress", "run"),
        ),
        "golden": (
            "Write what the deterministic layers come to, for exact comparison.",
            lazy("peerwatt.cli.golden", "run"),
        ),
        "speed": (
            "Compare the speed of two installations of PeerWatt.",
            lazy("peerwatt.cli.speed", "run"),
        ),
        "export": (
            "Write results as Parquet, CSV, JSON or for marl-eval.",
            lazy("peerwatt.cli.export", "run"),
        ),
        "sync": (
            "Hand finished runs to W&B, TensorBoard or another sink.",
            lazy("peerwatt.cli.sync", "run"),
        ),
        "critics bench": (
            "Measure how valid, reliable, robust and dear critics are.",
            lazy("peerwatt.cli.critics", "bench"),
        ),
        "plugins": (
            "List, check and create plugins.",
            lazy("peerwatt.cli.plugins", "run"),
        ),
        "submit": (
            "Pack, validate and verify entries of the leaderboard.",
            lazy("peerwatt.cli.submit", "run"),
        ),
        "schema": ("Print the JSON Schema of result.json.", lazy("peerwatt.cli.schema", "run")),
    }
    from peerwatt.plugins.loader import registry
    from peerwatt.plugins.specs import PROJECT

    found = sorted(registry()["command"].items(), key=lambda item: item[1].distribution != PROJECT)
    taken = {name.split()[0] for name in commands}
    for name, plugin in found:
        if plugin.distribution != PROJECT and name.split()[0] in taken:
            _warn(f"plugin {plugin.distribution} cannot take the command {name!r}, which is there.")
            continue
        commands[name] = (plugin.spec.summary, partial(_typed, plugin.spec))
        if plugin.distribution == PROJECT:
            taken.add(name.split()[0])
    return commands


def _warn(sentence: str) -> None:
    print(f"peerwatt: warning: {sentence}", file=sys.stderr)


def take_plugin_flags(arguments: list[str]) -> list[str]:
    """Return `arguments` without the flags that say which plugins to load, and follow these.

    They become environment variables, so that worker processes load the same plugins.

    Raises:
        PeerWattError: `--plugin` without a file.
    """
    from peerwatt.plugins.loader import FILES, ONLY, STRICT, registry

    rest: list[str] = []
    words = iter(arguments)
    files: list[str] = []
    for word in words:
        if word == "--no-plugins":
            os.environ[ONLY] = ""
            os.environ.pop(FILES, None)
        elif word == "--strict-plugins":
            os.environ[STRICT] = "1"
        elif word == "--plugin" or word.startswith("--plugin="):
            file = word.partition("=")[2] if "=" in word else next(words, "")
            if not file:
                raise PeerWattError("--plugin needs a file, as in --plugin ./my_trader.py.")
            files.append(os.path.abspath(file))
        else:
            rest.append(word)
    if files:
        os.environ[FILES] = os.pathsep.join(files)
    runs_code = rest[1:2] == ["verify"] and {"--run-code", "--run_code"} & set(rest)
    if rest[:1] == ["submit"] and rest[1:2] != ["pack"] and not runs_code:
        # A stranger's entry is data: none of the code that may have come with it is imported.
        # `pack` takes the user's own runs, and looks their plugins up.
        os.environ[ONLY] = ""
        os.environ.pop(FILES, None)
    if rest != arguments or rest[:1] == ["submit"]:
        registry.cache_clear()
    return rest


def _warn_of_plugins(arguments: list[str]) -> None:
    """Tell in a line each which plugins are broken; `peerwatt plugins` tells it anyway."""
    from peerwatt.plugins.loader import registry

    if arguments[:1] != ["plugins"]:
        for problem in registry().problems:
            _warn(f"{problem} (`peerwatt plugins list` tells more)")


def _typed(spec: Any) -> Callable[[list[str]], None]:
    """Wrap a plugin's typed function: tyro makes its command line."""

    def run(arguments: list[str]) -> None:
        import tyro

        tyro.cli(spec.load(), prog=f"peerwatt {spec.name}", args=arguments)

    return run


def _help(commands: dict[str, tuple[str, Callable[[], Any]]]) -> str:
    width = max(len(name) for name in commands)
    lines = [f"  {name:<{width}}  {summary}" for name, (summary, _) in commands.items()]
    return "\n".join(
        [
            "usage: peerwatt COMMAND [OPTIONS]",
            "",
            "Benchmark for multi-agent reinforcement learning in peer-to-peer electricity markets.",
            "",
            "commands:",
            *lines,
            "",
            "plugins, with any command:",
            "  --plugin FILE      load a plugin that is a single file, such as ./my_trader.py",
            "  --no-plugins       load only what comes with PeerWatt",
            "  --strict-plugins   stop if a plugin is broken, instead of warning",
            "",
            "`peerwatt COMMAND --help` explains a command; `peerwatt --version` tells the version.",
        ]
    )


def dispatch(arguments: list[str]) -> None:
    """Run the command that `arguments` name."""
    arguments = take_plugin_flags(arguments)
    if arguments[:1] in (["--version"], ["-V"]):
        from importlib.metadata import version

        print(f"peerwatt {version('peerwatt')}")
        return
    commands = _commands()
    _warn_of_plugins(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help(commands))
        return
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if name in commands:
            commands[name][1]()(arguments[length:])
            return
    below = {name: entry for name, entry in commands.items() if name.startswith(arguments[0] + " ")}
    if below and arguments[1:] in ([], ["-h"], ["--help"]):
        print(_help(below))
        return
    raise unknown_name("command", " ".join(arguments[:2]).split(" -")[0], commands)


def guarded(command: Callable[[], None]) -> None:
    """Run `command`; bad input ends with one sentence and exit code 2, Ctrl-C with 130."""
    # Whoever ends the process politely gets the same clean end as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except PeerWattError as error:
        print(f"peerwatt: {shown(str(error), MOST)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stop:
        usual = "finished runs and given answers are kept, and the same command goes on"
        print(f"peerwatt: interrupted; {shown(str(stop), MOST) or usual}.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)


def main() -> None:
    """Run the command line."""
    guarded(lambda: dispatch(sys.argv[1:]))
