"""Options of a plugin as the record of a run states them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from peerwatt.errors import PeerWattError, shown
from peerwatt.plugins.loader import registry
from peerwatt.plugins.specs import PROJECT
from peerwatt.plugins.texts import from_text, parse_text

MOST_LEVELS = 4
"""Critics within critics at most: with each, the text that names them all doubles its quotes."""


def operational(field: dataclasses.Field[Any]) -> bool:
    """Return whether an option says how a run is carried out, not what comes out of it.

    Its field has `metadata={"operational": True}`. It stands in no record and no hash, as the name
    of an environment variable or the path of a cache.
    """
    return bool(field.metadata.get("operational"))


def recorded_options(instance: Any, own_only: bool = False, level: int = 0) -> dict[str, Any]:
    """Return all options of `instance`, a dataclass, but the operational ones.

    An option whose field has `metadata={"critic": True}` is the text of a critic, or several such
    texts. Each is told as name and JSON, without operational options and without those that have
    their default: so however it was written, it is one configuration.

    Args:
        instance: the plugin with its options.
        own_only: leave texts of critics that are not PeerWatt's own as they are: nobody makes a
            stranger's plugin with options that a stranger recorded.
        level: how many critics this one is within.

    Raises:
        PeerWattError: the text of a critic is malformed, the name unknown or an option wrong.
    """
    options = dataclasses.asdict(instance)
    for field in dataclasses.fields(instance):
        if operational(field):
            del options[field.name]
        elif field.metadata.get("critic"):
            value = options[field.name]
            texts = [value] if isinstance(value, str) else value
            told = tuple(_recorded_text(text, own_only, level + 1) for text in texts)
            options[field.name] = told[0] if isinstance(value, str) else told
    return options


def _recorded_text(text: str, own_only: bool, level: int) -> str:
    if level > MOST_LEVELS:
        raise PeerWattError(
            f"critic '{shown(text, 80)}' is within more than {MOST_LEVELS} others; leave some out."
        )
    try:
        if own_only and not _own(text):
            return text
        plugin, critic = from_text("critic", text)
        recorded = recorded_options(critic, own_only, level)
    except RecursionError:  # of JSON within JSON
        raise PeerWattError(f"critic '{shown(text, 80)}' has options nested too deep.") from None
    # A stranger's plugin by its full name, by which it is found wherever it is installed.
    own = plugin.distribution == PROJECT
    name = plugin.spec.name if own else f"{plugin.distribution}:{plugin.spec.name}"
    defaults = {
        field.name: (
            field.default
            if field.default_factory is dataclasses.MISSING
            else field.default_factory()
        )
        for field in dataclasses.fields(critic)
    }
    told = {key: x for key, x in recorded.items() if getattr(critic, key) != defaults[key]}
    return f"{name}:{json.dumps(told, sort_keys=True)}" if told else name


def _own(text: str) -> bool:
    name, _ = parse_text("critic", text)
    found = registry()
    plugin = found["critic"].get(name) or found.qualified["critic"].get(name)
    return plugin is not None and plugin.distribution == PROJECT
