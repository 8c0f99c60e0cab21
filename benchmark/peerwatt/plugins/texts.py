"""A plugin and its options as one text: "llm:model=openai/gpt-4o-mini,prompt=summary-v1".

After the name and a colon come options, separated by commas; what holds commas, or more than one
value, is written as JSON: 'ensemble:{"members": ["rule", "random"]}'.
"""

from __future__ import annotations

import json
import re
from typing import Any, get_args, get_origin, get_type_hints

from peerwatt.errors import PeerWattError, shown
from peerwatt.plugins.loader import Kind, Registered, build, find


def parse_text(kind: Kind, text: str) -> tuple[str, dict[str, Any]]:
    """Split `text` into the name of a plugin and its options, whose values may still be texts.

    Raises:
        PeerWattError: it is not of the form above.
    """
    name, colon, rest = text.partition(":")
    # A qualified name has a colon of its own: "distribution:name:option=value".
    while colon and rest and not re.match(r"\s*(\{|[A-Za-z_][\w-]*=)", rest):
        more, colon, rest = rest.partition(":")
        name = f"{name}:{more}"
    where = f"{kind} '{shown(text, 120)}'"
    if not name or (colon and not rest):
        raise PeerWattError(f"{where}: write NAME or NAME:option=value,option=value.")
    if rest.lstrip().startswith("{"):
        try:
            options = json.loads(rest)
        except ValueError as error:
            raise PeerWattError(f"{where}: the options are no JSON object: {error}.") from None
        return name, {key.replace("-", "_"): value for key, value in options.items()}
    options = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise PeerWattError(
                f"{where}: '{shown(part, 60)}' is no option=value; write options that hold commas "
                'as JSON, NAME:{"option": "a,b"}.'
            )
        key = key.strip().replace("-", "_")
        if key in options:
            raise PeerWattError(f"{where}: the option '{shown(key, 60)}' is told twice.")
        options[key] = value
    return name, options


def from_text(kind: Kind, text: str) -> tuple[Registered, Any]:
    """Return the plugin that `text` names, and its instance with the options that follow.

    Raises:
        PeerWattError: the text is malformed, the name unknown or an option wrong.
    """
    name, options = parse_text(kind, text)
    plugin = find(kind, name)
    try:
        types = get_type_hints(plugin.spec.load())
    except (NameError, TypeError):  # `build` tells what is wrong with it
        types = {}
    typed = {key: _of_type(value, types.get(key)) for key, value in options.items()}
    return plugin, build(kind, plugin, typed)


def _of_type(value: Any, wanted: Any) -> Any:
    """Return an option as the command line would read it, but for what pydantic converts itself."""
    if not isinstance(value, str):
        return value
    if value == "None" and type(None) in get_args(wanted):
        return None
    return (value,) if get_origin(wanted) is tuple else value
