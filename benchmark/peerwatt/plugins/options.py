"""Options of a plugin as the record of a run states them."""

from __future__ import annotations

import dataclasses
from typing import Any


def operational(field: dataclasses.Field[Any]) -> bool:
    """Return whether an option says how a run is carried out, not what comes out of it.

    Its field has `metadata={"operational": True}`. It stands in no record and no hash, as the name
    of an environment variable or the path of a cache.
    """
    return bool(field.metadata.get("operational"))


def recorded_options(instance: Any) -> dict[str, Any]:
    """Return all options of `instance`, a dataclass, but the operational ones."""
    left_out = {field.name for field in dataclasses.fields(instance) if operational(field)}
    options = dataclasses.asdict(instance)
    return {name: value for name, value in options.items() if name not in left_out}
