"""MkDocs hook: pages and tables of the reference, made from what is registered in PeerWatt.

`PAGES` are whole pages. `TABLES` take the place of the comment `<!-- table: NAME -->` in any page.
Only what comes with PeerWatt is listed, whatever else is installed where the site is built.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

os.environ["PEERWATT_PLUGINS"] = ""
os.environ |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "88"}

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from peerwatt.community.card import TaskCard
from peerwatt.criticbench.record import CriticRecord
from peerwatt.env import BATTERY_ACTIONS, OBSERVATION_NAMES
from peerwatt.evaluation import METRICS
from peerwatt.fairness.session import CriticUsage
from peerwatt.market.mechanism import IMPLIED, PROPERTIES
from peerwatt.plugins.loader import Kind, Registered, registry
from peerwatt.runs.result import PluginRecord, RunResult
from peerwatt.runs.suites import Suite
from peerwatt.runs.summary import MEASURES
from peerwatt.submissions.entry import EntryRecord
from peerwatt.submissions.ledger import Removed, Verified

Rows = Iterable[Iterable[object]]


def _table(head: Iterable[str], rows: Rows) -> str:
    def line(cells: Iterable[object]) -> str:
        texts = (" ".join(str(cell).split()).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(texts)} |"

    head = list(head)
    return "\n".join([line(head), line("---" for _ in head), *map(line, rows)])


def _code(value: object) -> str:
    return f"`{value}`"


def _named(kind: Kind) -> list[tuple[str, Registered]]:
    return sorted(registry()[kind].items())


def field_docs(cls: type) -> dict[str, tuple[str, str]]:
    """Return annotation and docstring (the text below it) of each field of a class."""
    found: dict[str, tuple[str, str]] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError):
            continue
        assert isinstance(body, ast.ClassDef)
        for node, after in zip(body.body, [*body.body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                text = ""
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    text = inspect.cleandoc(str(after.value.value))
                found[node.target.id] = (ast.unparse(node.annotation), text)
    return found


def _options(factory: type, role: str) -> str:
    """Return the table of the options of a plugin's dataclass."""
    docs = field_docs(factory)
    rows = []
    for field in dataclasses.fields(factory):
        if not field.init or field.kw_only:
            continue
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "required" if default is dataclasses.MISSING else _code(default)
        annotation, text = docs[field.name]
        flag = f"--{role}.{field.name.replace('_', '-')}"
        rows.append((_code(flag), _code(annotation.replace(" | ", " or ")), shown, text))
    return _table(("option", "type", "default", "meaning"), rows) if rows else "No options."


def _prose(docstring: str | None) -> str:
    return inspect.cleandoc(docstring or "")


def _plugin(name: str, plugin: Registered, role: str, facts: str = "") -> str:
    factory = plugin.spec.load()
    module = sys.modules[factory.__module__]
    needs = f" Needs `pip install '{plugin.spec.requires}'`." if plugin.spec.requires else ""
    parts = [
        f"## {name} {{ #{name} }}",
        f"{_sentence(plugin.spec.summary)}{needs} Code: `{factory.__module__}.{factory.__name__}`.",
        facts,
        _options(factory, role),
        _prose(module.__doc__),
    ]
    return "\n\n".join(part for part in parts if part)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def tasks() -> str:
    """Return the page of all tasks."""
    parts = [
        "# Tasks",
        "A task is an immutable card: a published one never changes, a correction is a new version "
        "of it. The content hash covers the card and every value of its data; results whose hashes "
        "differ are never ranked together. Bring your own: [Your task](../your-task.md).",
    ]
    for name, plugin in _named("task"):
        task = plugin.spec.load()()
        card = task.card
        community = task.community
        groups = (
            f"{community.groups.count(g.group)} × {g.group}"
            + (f" ({g.battery.capacity_kwh:g} kWh, {g.battery.power_kw:g} kW)" if g.battery else "")
            for g in card.households
        )
        prices = community.retail * card.tariff.tick
        retail = f"{prices.min():.4g} to {prices.max():.4g}, changing over time"
        if prices.min() == prices.max():
            retail = f"{prices.max():.4g}, flat"
        mechanism, options = card.market.mechanism_choice
        episodes = ", ".join(
            f"{split} {len(task.evaluation_starts(split))}" for split in ("validation", "test")
        )
        currency = card.tariff.currency
        rows = (
            ("homes", f"{community.size}: {', '.join(groups)}"),
            (
                "episode",
                f"{card.episode.days} days, {task.horizon} slots of "
                f"{card.episode.slot_minutes} minutes",
            ),
            ("retail price", f"{retail} ({currency} per kWh)"),
            ("feed-in tariff", f"{card.tariff.feed_in:g} ({currency} per kWh)"),
            ("mechanism", f"[{mechanism}](mechanisms.md#{mechanism}) {options or ''}"),
            (
                "actions",
                f"{card.market.price_levels} price levels, {card.market.quantity_levels} "
                f"quantities, {len(BATTERY_ACTIONS) if community.has_storage else 1} battery",
            ),
            (
                "weeks",
                ", ".join(f"{s} {len(task.weeks(s))}" for s in ("train", "validation", "test")),
            ),
            (
                "evaluation",
                f"{card.evaluation.episodes} episodes, of separate windows: {episodes}",
            ),
            (
                "noise",
                f"household noise {card.profiles.train_noise:g} in training, "
                f"{card.profiles.evaluation_noise:g} in evaluation (relative standard deviation)",
            ),
            ("content hash", _code(task.content_hash)),
        )
        parts += [
            f"## {name} {{ #{name} }}",
            f"**{card.title}.** {' '.join(card.description.split())}",
            _table(("", _code(name)), rows),
        ]
    return "\n\n".join(parts)


def algorithms() -> str:
    """Return the page of all algorithms."""
    parts = [
        "# Algorithms",
        "Learners are ranked beside scripted traders, which use no budget and show what the market "
        "and the batteries alone are worth. Options are given as `--algorithm.NAME VALUE`. Bring "
        "your own: [Your algorithm](../your-algorithm.md).",
    ]
    for name, plugin in _named("algorithm"):
        kind = "It learns." if plugin.spec.trainable else "Scripted: it does not learn."
        parts.append(_plugin(name, plugin, "algorithm", kind))
    return "\n\n".join(parts)


def critics() -> str:
    """Return the page of all critics."""
    parts = [
        "# Critics",
        "A critic scores each cleared slot for fairness, and its scores are added to the reward in "
        "training. It never scores the entry: see [How we score](../scoring.md). Options are given "
        "as `--critic.NAME VALUE`. Bring your own: [Your critic](../your-critic.md).",
    ]
    for name, plugin in _named("critic"):
        fixed = "Deterministic." if plugin.spec.deterministic else "Not deterministic."
        silent = " May abstain where a score is defined." if plugin.spec.abstains else ""
        parts.append(_plugin(name, plugin, "critic", fixed + silent))
    from peerwatt.fairness import Shaping

    parts += [
        "## Shaping { #shaping }",
        _prose(Shaping.__doc__),
        _options(Shaping, "shaping"),
    ]
    return "\n\n".join(parts)


def mechanisms() -> str:
    """Return the page of all mechanisms."""
    promised: dict[str, set[str]] = {}
    for name, plugin in _named("mechanism"):
        stated = set(plugin.spec.load().properties)
        promised[name] = stated | {IMPLIED[p] for p in stated if p in IMPLIED}
    rows = [
        (f"[{name}](#{name})", *("✓" if p in has else "" for p in PROPERTIES))
        for name, has in promised.items()
    ]
    meanings = ((f"**{name}**", _sentence(text)) for name, text in PROPERTIES.items())
    parts = [
        "# Mechanisms",
        "A mechanism clears the orders of a community in each slot. A task names one; "
        "`--mechanism NAME` plays it with another, and rankings are kept apart by mechanism and "
        "its options, which are given as `--mechanism.NAME VALUE`. Bring your own: "
        "[Your mechanism](../your-mechanism.md).",
        "What each promises, and conformance tests hold it to:",
        _table(("", *PROPERTIES), rows),
        _table(("property", "meaning"), meanings),
        "These speak of one slot, given the orders. In particular *efficient* and *truthful* speak "
        "of price levels only, not of quantities, batteries or later slots.",
    ]
    parts += [_plugin(name, plugin, "mechanism") for name, plugin in _named("mechanism")]
    return "\n\n".join(parts)


def sinks() -> str:
    """Return the page of all sinks."""
    parts = [
        "# Sinks",
        "A sink gets the numbers of a run as they come. `result.json` and `metrics.jsonl` are "
        "always written, with or without one. Options are given as `--track.NAME VALUE`. Bring "
        "your own: [Your sink](../your-sink.md).",
    ]
    parts += [_plugin(name, plugin, "track") for name, plugin in _named("sink")]
    return "\n\n".join(parts)


def metrics() -> str:
    """Return the page of recorded metrics and published measures."""
    better = {"high": "higher", "low": "lower", "neither": "–"}
    unit = {"scale": "", "score": "0 to 1", "percent": "%"}
    return "\n\n".join(
        [
            "# Metrics",
            "The formulas are in [How we score](../scoring.md).",
            "## Published, per run",
            "Computed per seed from the sums over all test episodes, then aggregated over the "
            "seeds. These are the columns of the table and of the leaderboard page.",
            _table(
                ("measure", "key", "unit", "better", "meaning"),
                (
                    (m.title, _code(m.key), unit[m.unit], better[m.better], m.meaning)
                    for m in MEASURES
                ),
            ),
            "## Recorded, per episode",
            "One value per episode in `test.metrics` of `result.json`; `null` where undefined.",
            _table(
                ("key", "meaning"), ((_code(k), _sentence(text)) for k, text in METRICS.items())
            ),
        ]
    )


def laws() -> str:
    """Return the page of the conformance suites."""
    from peerwatt.plugins.loader import PLUGIN_KINDS
    from peerwatt.testing.frame import suite

    parts = [
        "# Laws",
        "What `peerwatt plugins doctor` and the pytest plugin hold a plugin to, by kind. A failure "
        "says what is wrong and how to mend it.",
    ]
    for kind in PLUGIN_KINDS:
        rows = ((_code(check.name), check.law) for check in suite(kind))
        parts += [f"## {kind.capitalize()} {{ #{kind} }}", _table(("law", "what must hold"), rows)]
    return "\n\n".join(parts)


def _help(*words: str) -> str:
    from peerwatt.cli.main import dispatch

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        dispatch([*words, "--help"])
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).strip()
    if not text:
        raise PluginError(f"`peerwatt {' '.join(words)} --help` prints nothing")
    lines = (textwrap.fill(line, 88) if len(line) > 90 else line for line in text.splitlines())
    return "\n".join(["```text", *lines, "```"])


SUBCOMMANDS = {
    "plugins": ("list", "doctor", "new"),
    "submit": ("pack", "validate", "verify", "remove"),
}


def command_line() -> str:
    """Return the page of the help of every command."""
    from peerwatt.cli.main import _commands

    parts = [
        "# Command line",
        "Bad input ends with one sentence and exit code 2, an interruption with 130.",
        _help(),
        "`peerwatt run` takes the options of the plugins that it names: "
        "`peerwatt run --algorithm ippo --help` shows those of `ippo` too. "
        "`python -m peerwatt_algorithms.ippo --help` does one run of one algorithm.",
    ]
    for name in _commands():
        words = name.split()
        parts += [f"## peerwatt {name} {{ #{name.replace(' ', '-')} }}", _help(*words)]
        for below in SUBCOMMANDS.get(name, ()):
            parts += [f"### peerwatt {name} {below} {{ #{name}-{below} }}", _help(name, below)]
    return "\n\n".join(parts)


def _type(schema: dict[str, Any]) -> str:
    """Say in a few words what a JSON schema allows."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[table](#{_anchor(name)})"
    if "const" in schema:
        return _code(schema["const"])
    if "enum" in schema:
        return " or ".join(_code(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_type, schema["anyOf"])))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"table of {_type(values)}" if isinstance(values, dict) and values else "table"
    names = {"string": "text", "integer": "integer", "boolean": "true or false", "null": "null"}
    text = names.get(str(kind), "number" if kind == "number" else "any value")
    for key, sign in (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    ):
        if key in schema and abs(schema[key]) < 1e9:
            text += f"{',' * (text[-1].isdigit())} {sign} {schema[key]:g}"
    if "pattern" in schema and len(schema["pattern"]) < 50:
        text += f" like `{schema['pattern']}`"
    return text


def _models(*roots: type, toml: bool = False, known: Iterable[type] = ()) -> str:
    """Return one table per pydantic model: key, type, default (in TOML), meaning.

    Args:
        roots: the models, told with all that they consist of.
        toml: whether a person writes them, so that defaults matter.
        known: models that have a table elsewhere on the page.
    """
    head = ("key", "type", "default", "meaning") if toml else ("key", "type", "meaning")
    parts = []
    for root in roots:
        schema = root.model_json_schema()  # type: ignore[attr-defined]
        tables = {name: _model(name, root) for name in schema.get("$defs", ())}
        places = {root.__name__: ""} | _places(schema, schema, toml)
        for name, place in places.items():
            model = tables.get(name, root)
            if model in known:
                continue
            part = schema["$defs"][name] if place else schema
            docs = field_docs(model)
            rows = []
            for key, item in part.get("properties", {}).items():
                meaning = docs.get(key, ("", ""))[1] or item.get("description", "")
                inner = next((tables[name] for name in _references(item)), None)
                if not meaning and inner is not None:
                    meaning = _prose(inner.__doc__)
                meaning = meaning.replace("][", "]\\[")  # no link
                default = "required"
                if key not in part.get("required", ()):
                    value = item.get("default")
                    default = (
                        "" if isinstance(value, dict) or value is None else _code(_toml(value))
                    )
                kind = _type(item).removesuffix(" or null") if toml else _type(item)
                rows.append((_code(key), kind, *((default,) if toml else ()), meaning))
            if place:
                parts.append(f"#### `{place}` {{ #{_anchor(name)} }}")
            elif len(roots) > 1:
                parts.append(f"#### {name} {{ #{_anchor(name)} }}")
            parts += [_prose(model.__doc__), _table(head, rows)]
    return "\n\n".join(parts)


def _model(name: str, root: type) -> type:
    """Return the class called `name` that `root` consists of, wherever it is defined."""
    modules = (root.__module__, RunResult.__module__, CriticUsage.__module__)
    return next(found for m in modules if (found := getattr(sys.modules[m], name, None)))


def _anchor(model: str) -> str:
    return f"{model.lower()}-keys"


def _references(item: dict[str, Any]) -> list[str]:
    """Return the names of the models that a value may consist of."""
    return re.findall(r"'#/\$defs/(\w+)'", str(item))


def _places(
    part: dict[str, Any], schema: dict[str, Any], toml: bool, path: str = ""
) -> dict[str, str]:
    """Return model -> where it stands, as in `[[households]]` or `curve[]`, outermost first."""
    found: dict[str, str] = {}
    for key, item in part.get("properties", {}).items():
        for name in _references(item):
            many = "array" in (item.get("type"), *(o.get("type") for o in item.get("anyOf", ())))
            here = f"{path}.{key}".strip(".")
            if toml:
                found[name] = f"[[{here}]]" if many else f"[{here}]"
            else:
                found[name] = f"{here}[]" if many else here
            found |= _places(schema["$defs"][name], schema, toml, here)
    return found


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).replace("'", '"')


def _observations() -> str:
    return _table(("", "feature"), ((i, _code(n)) for i, n in enumerate(OBSERVATION_NAMES)))


def _battery_actions() -> str:
    return _table(("", "battery level"), ((i, _code(n)) for i, n in enumerate(BATTERY_ACTIONS)))


PAGES: dict[str, Callable[[], str]] = {
    "reference/tasks.md": tasks,
    "reference/algorithms.md": algorithms,
    "reference/critics.md": critics,
    "reference/mechanisms.md": mechanisms,
    "reference/sinks.md": sinks,
    "reference/metrics.md": metrics,
    "reference/laws.md": laws,
    "reference/command-line.md": command_line,
}

TABLES: dict[str, Callable[[], str]] = {
    "task card": lambda: _models(TaskCard, toml=True),
    "suite": lambda: _models(Suite, toml=True),
    "result": lambda: _models(RunResult),
    "critic record": lambda: _models(CriticRecord, known=[PluginRecord]),
    "entry": lambda: _models(EntryRecord, known=[PluginRecord]),
    "ledger": lambda: _models(Removed, Verified),
    "observations": _observations,
    "battery actions": _battery_actions,
}


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page() + "\n"))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the tables that the page asks for."""

    def table(match: re.Match[str]) -> str:
        if match[1] not in TABLES:
            raise PluginError(f"{page.file.src_path}: no table {match[1]!r} in docs/hooks")
        return TABLES[match[1]]()

    return re.sub(r"^<!-- table: (.+?) -->$", table, markdown, flags=re.MULTILINE)
