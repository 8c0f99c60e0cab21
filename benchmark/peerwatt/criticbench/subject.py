"""The critic that is examined, and how records name it: without paths of the machine."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from peerwatt.criticbench.record import LIMITS
from peerwatt.plugins.texts import from_text
from peerwatt.runs.config import plugin_contents, plugin_record
from peerwatt.runs.result import PluginRecord

PATH = re.compile(r"""(?<![^\s"'=,:\[])(?:~|\.{1,2})?/(?!/)(?:[^/\s"',\]]+/)*(?=[^/\s"',\]])""")
"""The folders of a path of the machine, inside a text; addresses and models have none."""
MAX_LABEL = 300


@dataclass(frozen=True, eq=False)
class Examined:
    """A critic with its options."""

    critic: Any
    options: tuple[tuple[str, Any], ...]
    """Those that are not the defaults, operational ones included, as a run takes them."""
    record: PluginRecord
    text: str
    """Name and options as on the command line, without paths and operational options."""

    @property
    def opens(self) -> bool:
        """Whether it lives through a run; one that does not is given numbers alone."""
        return callable(getattr(self.critic, "open", None))

    label: str
    """The text with model and prompt, without where it is served and the limits of its calls; cut
    to what a table can hold."""


def examined(text: str) -> Examined:
    """Look up and make the critic that `text` names, such as "llm:model=openai/gpt-4o-mini".

    Raises:
        PeerWattError: there is no such critic, or an option is wrong.
    """
    plugin, critic = from_text("critic", text)
    record = plugin_record(plugin, critic, plugin_contents(plugin, critic))
    record = record.model_copy(update={"options": without_paths(record.options)})
    options = {
        field.name: value
        for field in dataclasses.fields(critic)
        if field.init and (value := getattr(critic, field.name)) != _default(field)
    }
    shown = {name: record.options[name] for name in options if name in record.options}
    # What a model is asked is part of its name; where it is served and how long it may take is not.
    named = {name: x for name in ("model", "prompt") if (x := record.options.get(name))}
    named |= {name: x for name, x in shown.items() if name not in {"api_base", *LIMITS}}
    label = _text(record.name, named)
    return Examined(
        critic=critic,
        options=tuple((name, _hashable(value)) for name, value in options.items()),
        record=record,
        text=_text(record.name, shown),
        label=label if len(label) <= MAX_LABEL else f"{label[:MAX_LABEL]}…",
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def without_paths(value: Any) -> Any:
    """Return `value`, or what it holds, with files instead of their paths."""
    if isinstance(value, dict):
        return {name: without_paths(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(part) for part in value]
    if not isinstance(value, str):
        return value
    if re.match(r"(~|\.{1,2})?/(?!/)|[A-Za-z]:\\", value):
        return PurePath(value.replace("\\", "/")).name
    return PATH.sub("", value)


def _text(name: str, options: dict[str, Any]) -> str:
    if not options:
        return name
    plain = all(
        isinstance(value, bool | int | float)
        or (isinstance(value, str) and not re.search(r"[,{}\[\]\s]", value))
        for value in options.values()
    )
    if plain:
        return f"{name}:{','.join(f'{key}={value}' for key, value in options.items())}"
    return f"{name}:{json.dumps(options)}"
