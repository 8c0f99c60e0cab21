"""What entries are called, in tables and in plans: shortly, and each unlike the others."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peerwatt.errors import shown
from peerwatt.plugins.specs import PROJECT
from peerwatt.runs.result import PluginRecord, RunResult

MOST = 40
"""Characters of a label that tells options; where they do not fit, it has a hash instead."""
VALUE = 20
"""Characters of a value in a label."""


@dataclass(frozen=True)
class Asked:
    """What was asked for in an entry: all that tells it from others of its task and mechanism."""

    algorithm: PluginRecord
    critic: PluginRecord
    shaping: Mapping[str, Any]
    budget: int
    validations: int
    config_hash: str

    @classmethod
    def of(cls, result: RunResult) -> Asked:
        """Return what was asked for in the run of `result`."""
        return cls(
            algorithm=result.algorithm,
            critic=result.critic,
            shaping=result.shaping,
            budget=result.budget,
            validations=result.validations,
            config_hash=result.config_hash,
        )

    @property
    def name(self) -> str:
        """The algorithm, and the critic if there is one."""
        critic = "" if self.critic.name == "none" else f" + {self.critic.name}"
        return f"{self.algorithm.name}{critic}"

    @property
    def options(self) -> dict[str, str]:
        """Everything beside names and budget, as text."""
        told = {"validations": self.validations, "critic.version": self.critic.version}
        told |= {f"shaping.{key}": value for key, value in self.shaping.items()}
        told |= {f"{key}.sha256": digest[:8] for key, digest in self.critic.contents.items()}
        told |= {**self.critic.options, **self.algorithm.options}
        return {shown(key, MOST): _text(value) for key, value in told.items()}


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    return shown(text, 200) or '""'


def labels_of(entries: Sequence[Asked]) -> list[str]:
    """Name each entry: as short as possible, and unlike all others.

    What a label says beyond the names is what differs among the entries of these names: whose they
    are, the budget, the version, options, in this order and only as far as needed. An option is
    not told of an entry that has it as most of them have. A hash is the last resort.
    """
    labels = [entry.name for entry in entries]
    refinements: list[Callable[[Asked], str]] = [
        lambda e: _owner(e.algorithm.distribution, e.critic.distribution),
        lambda e: short_count(e.budget),
        lambda e: e.algorithm.version,
    ]
    for refine in refinements:
        labels = refined(labels, [refine(entry) for entry in entries])
    labels = refined(labels, _options(labels, entries))
    labels = refined(labels, [_hash(entry) for entry in entries])
    unique: dict[str, None] = {}
    for label in labels:  # equal to six digits of the hash: count them
        names = itertools.chain([label], (f"{label} ({n})" for n in itertools.count(2)))
        unique[next(name for name in names if name not in unique)] = None
    return list(unique)


def refined(labels: Sequence[str], hints: Sequence[str]) -> list[str]:
    """Append the hints to labels that several share, unless they have the hint in common too."""
    members: dict[str, set[str]] = defaultdict(set)
    for label, hint in zip(labels, hints, strict=True):
        members[label].add(hint)
    return [
        f"{label} {hint}".strip() if len(members[label]) > 1 else label
        for label, hint in zip(labels, hints, strict=True)
    ]


def _options(labels: Sequence[str], entries: Sequence[Asked]) -> list[str]:
    """Return for each entry in which options it is unlike most of those of its label."""
    hints = [""] * len(entries)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        groups[label].append(index)
    for label, places in groups.items():
        found = differing([entries[place] for place in places])
        counts = [Counter(options[key] for options in found) for key in found[0]]
        usual = [
            {value for value, count in values.items() if 2 * count > len(places)}
            for values in counts
        ]
        for place, options in zip(places, found, strict=True):
            hint = " ".join(
                f"{key}={shown(value, VALUE)}"
                for (key, value), known in zip(options.items(), usual, strict=True)
                if value not in known
            )
            fits = len(f"{label} {hint}") <= MOST
            hints[place] = hint if fits or not hint else _hash(entries[place])
    return hints


def differing(entries: Sequence[Asked]) -> list[dict[str, str]]:
    """Return of each entry the options in which they are not all alike, the same for each."""
    found = [entry.options for entry in entries]
    keys = sorted({key for options in found for key in options})
    told = [{key: options.get(key, "unset") for key in keys} for options in found]
    kept = [key for key in keys if len({options[key] for options in told}) > 1]
    return [{key: options[key] for key in kept} for options in told]


def _hash(entry: Asked) -> str:
    return f"#{entry.config_hash[:6]}"


def _owner(*distributions: str) -> str:
    """Name the strangers among the distributions, or PeerWatt."""
    return " ".join(dict.fromkeys(d for d in distributions if d != PROJECT)) or PROJECT


def short_count(count: float) -> str:
    """Write a count of agent-steps shortly: 4000000 as "4M"."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= unit:
            return f"{count / unit:.3g}{name}"
    return f"{count:.3g}"
