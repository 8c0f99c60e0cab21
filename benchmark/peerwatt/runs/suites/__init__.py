"""Suites: lists of entries that are run together."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peerwatt.errors import PeerWattError, unknown_name
from peerwatt.runs.config import RunConfig


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SuiteEntry(_Part):
    """All combinations of tasks, algorithms, critics and mechanisms."""

    tasks: Annotated[list[str], Field(min_length=1)]
    algorithms: Annotated[list[str], Field(min_length=1)]
    critics: Annotated[list[str], Field(min_length=1)] = ["none"]
    mechanisms: Annotated[list[str], Field(min_length=1)] | None = None
    """Instead of the mechanism of each task's card."""


class Suite(_Part):
    """Entries that are run together, with the same seeds and budget."""

    summary: str
    seeds: Annotated[int, Field(ge=1, le=1000)]
    budget: Annotated[int, Field(ge=1)]
    entry: Annotated[list[SuiteEntry], Field(min_length=1)]

    def configs(self, seeds: int | None = None, budget: int | None = None) -> list[RunConfig]:
        """Return the runs of the suite, seed by seed, optionally with other seeds and budget."""
        return [
            RunConfig(
                task=task,
                algorithm=algorithm,
                critic=critic,
                mechanism=mechanism,
                seed=seed,
                budget=self.budget if budget is None else budget,
            )
            for entry in self.entry
            for task in entry.tasks
            for algorithm in entry.algorithms
            for critic in entry.critics
            for mechanism in entry.mechanisms or (None,)
            for seed in range(self.seeds if seeds is None else seeds)
        ]


def suite_names() -> list[str]:
    """Return the names of the suites that come with PeerWatt."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """Return the suite called `name`, or the one in the TOML file at that path.

    Raises:
        PeerWattError: there is no such suite, or the file is malformed.
    """
    if not name.endswith(".toml") and name not in suite_names():
        raise unknown_name("suite", name, suite_names())
    inside = resources.files(__name__) / f"{name}.toml"
    try:
        file = Path(name) if name.endswith(".toml") else inside
        return Suite.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise PeerWattError(f"cannot read suite {name}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PeerWattError(f"suite {name} is not valid TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PeerWattError(f"suite {name}: {key}: {first['msg'].lower()}.") from None
