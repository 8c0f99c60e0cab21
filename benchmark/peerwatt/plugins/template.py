"""Write the package of a new plugin: one module, one test, a README, ready to run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from peerwatt.errors import PeerWattError
from peerwatt.plugins.loader import Kind, registry

TEMPLATES = Path(__file__).parent / "templates"
MAX_NAME = 40

_RUN: dict[Kind, str] = {
    "algorithm": "--task pilot-v1 --algorithm {item} --budget 500k",
    "critic": "--task pilot-v1 --algorithm ippo --critic {item} --budget 500k",
    "task": "--task {item} --algorithm self-consumption",
    "mechanism": "--task pilot-v1 --algorithm zi-c --mechanism {item}",
    "sink": "--task pilot-v1 --algorithm zi-c --track {item}",
}

_FIRST: dict[Kind, str] = {"critic": "pip install 'peerwatt[train]'  # torch, which ippo needs"}
"""What the run needs beyond PeerWatt alone."""
_VERSION = """\
Raise `version` in `pyproject.toml` whenever the plugin behaves differently: results of two
versions are two entries."""
_RESULTS = """\
Results to be shown want ten seeds:

```console
{run}
```

The folder that holds the runs becomes an entry of the leaderboard. Whoever reviews it plays the
policies again, and you can do that first:

```console
peerwatt submit pack runs/... --name 'Your name' --contact you@example.org --out entry
peerwatt submit verify entry/... --run-code
```

"""
_CHANGES: dict[Kind, str] = {
    "algorithm": _VERSION,
    "critic": _VERSION,
    "mechanism": _VERSION,
    "task": """\
Card and data lie in `{data}/`, and the module only loads them. A task never changes once results
are published: a correction is a task of its own, such as `{next}`.""",
    "sink": """\
A sink observes, and changes no result: there is nothing to submit. Raise `version` in
`pyproject.toml` whenever it writes something else, for the record of a run names it.""",
}


@dataclass(frozen=True)
class Written:
    """The package of a new plugin."""

    folder: Path
    files: tuple[str, ...]
    commands: tuple[str, ...]
    """What to try next, in the folder that `folder` lies in."""


def write_plugin(name: str, kind: Kind, parent: Path) -> Written:
    """Write the package `name` with a plugin of `kind` into a new folder in `parent`.

    A task gets the version 1 appended to its name, unless it has one.

    Raises:
        PeerWattError: the name cannot be one, is taken, or the folder is there or cannot be made.
    """
    _check_name(name)
    item = name if kind != "task" or re.search(r"-v[1-9][0-9]*$", name) else f"{name}-v1"
    _check_free(name, item, kind)
    module = name.replace("-", "_")
    text = (TEMPLATES / f"{kind}.py.tmpl").read_text(encoding="utf-8")
    cls = "".join(word.capitalize() for word in name.split("-"))
    if re.search(rf"\b{cls}\b", text):  # it would hide something that the module uses
        cls += kind.capitalize()
    data = f"{module}_data"
    run = f"peerwatt run {_RUN[kind].format(item=item)}"
    first = (_FIRST[kind],) if kind in _FIRST else ()
    words = {
        "name": name,
        "item": item,
        "kind": kind,
        "module": module,
        "cls": cls,
        "title": f"{kind.capitalize()} {item}",
        "a_title": f"A{'n' if kind == 'algorithm' else ''} {kind}",
        "run_file": "\n".join((*first, run.replace("run", f"run --plugin ./{module}.py", 1))),
        "results": "" if kind == "sink" else _RESULTS.format(run=f"{run} --seeds 10"),
        "changes": _CHANGES[kind].format(data=data, next=_next_version(item)),
        "files": ", ".join(f'"{file}"' for file in (f"{module}.py", data)[: 1 + (kind == "task")]),
    }
    contents = {
        "pyproject.toml": "pyproject.toml.tmpl",
        f"{module}.py": f"{kind}.py.tmpl",
        f"test_{module}.py": "test.py.tmpl",
        "README.md": "README.md.tmpl",
    }
    if kind == "task":
        contents[f"{data}/card.toml"] = "card.toml.tmpl"
    folder = parent / name
    try:
        folder.mkdir()
        for file, template in contents.items():
            path = folder / file
            path.parent.mkdir(exist_ok=True)
            source = Template((TEMPLATES / template).read_text(encoding="utf-8"))
            path.write_text(source.substitute(words), encoding="utf-8")
        if kind == "task":
            _write_profiles(folder / data)
    except FileExistsError:
        raise PeerWattError(
            f"{folder} is there already: choose another name or --folder."
        ) from None
    except OSError as error:
        raise PeerWattError(f"cannot write {folder}: {error.strerror or error}.") from None
    place = folder if folder.is_absolute() else f"./{folder}"
    return Written(
        folder,
        tuple(str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()),
        (
            *first,
            run.replace("run", f"run --plugin {place}/{module}.py", 1),
            f"pip install -e '{place}[test]'",
            f"peerwatt plugins doctor {item}",
        ),
    )


def _next_version(item: str) -> str:
    """Return the name of the task that follows `item`; empty where it is no task."""
    stem, _, number = item.rpartition("-v")
    return f"{stem}-v{int(number) + 1}" if stem and number.isdigit() else ""


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > MAX_NAME:
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
        better = re.sub(r"[^a-z0-9]+", "-", words).strip("-0123456789")[:MAX_NAME].strip("-")
        hint = f": did you mean {better!r}?" if better and better != name else "."
        raise PeerWattError(
            f"the name {name!r} must start with a letter and be lower-case words of letters and "
            f"digits with hyphens between them, at most {MAX_NAME} characters, such as "
            f"'my-trader'{hint}"
        )


def _check_free(name: str, item: str, kind: Kind) -> None:
    """Refuse names that Python, an installed package or PeerWatt has already."""
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        raise PeerWattError(f"{name!r} is a word of Python's own: choose another name.")
    owner = registry()[kind].get(item)
    if owner is not None:
        raise PeerWattError(
            f"the {kind} {item!r} is there already, from {owner.distribution}: choose another name."
        )
    # Not the folder that the command runs in: a package made there earlier is no other module.
    found = importlib.util.find_spec(module) if module not in sys.modules else None
    try:
        importlib.metadata.distribution(name)
        distribution = True
    except importlib.metadata.PackageNotFoundError:
        distribution = False
    if module in sys.modules or found is not None or distribution:
        raise PeerWattError(
            f"{name!r} would hide the installed {'package' if distribution else 'module'} "
            f"{(name if distribution else module)!r}: choose another name, such as 'my-{name}'."
        )


def _write_profiles(folder: Path) -> None:
    """Write load.csv and pv.csv of six simulated homes over sixteen weeks into `folder`."""
    import numpy as np

    from peerwatt.community.simulate import SimulatedCommunity, simulate
    from peerwatt.market.units import QUANTA_PER_KWH

    year = simulate(SimulatedCommunity(seed=6, households=6, daily_load_kwh=(8.0, 16.0)))
    weeks = slice(16 * 7 * 24, 32 * 7 * 24)
    for name in ("load", "pv"):
        header = ",".join(map(str, year["homes"]))
        kwh = year[name][weeks] / QUANTA_PER_KWH
        np.savetxt(folder / f"{name}.csv", kwh, "%.3f", ",", header=header, comments="")
