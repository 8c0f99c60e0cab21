"""Suites: lists of entries that are run together."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from peerwatt.errors import PeerWattError, shown, unknown_name
from peerwatt.fairness import Shaping
from peerwatt.plugins.loader import load_task
from peerwatt.plugins.texts import from_text, parse_text
from peerwatt.runs.config import DEFAULT_VALIDATIONS, RunConfig, resolve

MOST_TOLD = 5
"""Mistakes of a file that are told at once."""
Options = tuple[tuple[str, Any], ...]
Texts = Annotated[list[Annotated[str, Field(min_length=1, max_length=10_000)]], Field(min_length=1)]
Seeds = Annotated[int, Field(ge=1, le=1000)]
Budget = Annotated[int, Field(ge=1, lt=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SuiteEntry(_Part):
    """All combinations of tasks, algorithms, critics and mechanisms."""

    tasks: Texts
    """Names of tasks, or paths of cards, which count from the folder of the suite's file."""
    algorithms: Texts
    """Names, with options as in `"ippo:learning_rate=0.03,num_envs=16"`; so are the next two."""
    critics: Texts = ["none"]
    """What shapes the reward in training."""
    mechanisms: Texts | None = None
    """Instead of the mechanism of each task's card."""
    seeds: Seeds | None = None
    """Instead of the suite's."""
    budget: Budget | None = None
    """Instead of the suite's."""


class Suite(_Part):
    """Entries that are run together, with the same seeds and budget unless they tell their own."""

    summary: Annotated[str, Field(max_length=300)] = ""
    """What it is for, in a line."""
    seeds: Seeds
    """How many, from 0 on."""
    budget: Budget
    """Agent-steps of each training; scripted traders use none."""
    validations: Annotated[int, Field(ge=0, le=1000)] = DEFAULT_VALIDATIONS
    """Evaluations on the validation split along the way."""
    shaping: dict[str, Any] = {}
    """How critics shape the reward: ftg, fbs, fpp, ftb, warm, ramp, role_aware."""
    entry: Annotated[list[SuiteEntry], Field(min_length=1)]

    def configs(
        self,
        seeds: int | None = None,
        budget: int | None = None,
        *,
        first_seed: int = 0,
        name: str = "",
        folder: Path | None = None,
    ) -> list[RunConfig]:
        """Return the runs of the suite, entry by entry, each once.

        Args:
            seeds: number of seeds instead of the suite's.
            budget: agent-steps instead of the suite's.
            first_seed: first of the seeds.
            name: names the suite in errors.
            folder: from where the paths of cards count.

        Raises:
            PeerWattError: a name or an option is wrong; the sentence names suite, key and value.
        """
        reader = _Reader(name, folder)
        shaping = reader.shaping(self.shaping)
        found: dict[RunConfig, None] = {}
        for number, entry in enumerate(self.entry):
            place = f"entry[{number}]"
            tasks = reader.tasks(place, entry.tasks)
            algorithms = reader.plugins("algorithm", place, entry.algorithms)
            critics = reader.plugins("critic", place, entry.critics)
            mechanisms: list[tuple[str | None, Options]] = [(None, ())]
            if entry.mechanisms is not None:
                mechanisms = [*reader.plugins("mechanism", place, entry.mechanisms)]
            for task in tasks:
                for algorithm in algorithms:
                    for critic in critics:
                        for mechanism in mechanisms:
                            config = RunConfig(
                                task=task,
                                algorithm=algorithm[0],
                                algorithm_options=algorithm[1],
                                critic=critic[0],
                                critic_options=critic[1],
                                mechanism=mechanism[0],
                                mechanism_options=mechanism[1],
                                seed=first_seed,
                                budget=budget or entry.budget or self.budget,
                                validations=self.validations,
                                shaping=shaping,
                            )
                            with reader.told(place):
                                resolve(config)
                            for seed in range(seeds or entry.seeds or self.seeds):
                                one = dataclasses.replace(config, seed=first_seed + seed)
                                found[one] = None
        return list(found)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads the texts of a suite; an error says where in which suite."""

    name: str
    folder: Path | None

    @contextlib.contextmanager
    def told(self, place: str) -> Iterator[None]:
        """Put suite and place before the sentence of any error within."""
        try:
            yield
        except PeerWattError as error:
            suite = f"suite {shown(self.name, 200)}: " if self.name else ""
            raise PeerWattError(f"{suite}{place}: {error}") from None

    def shaping(self, values: dict[str, Any]) -> Shaping:
        """Return the shaping that the suite tells."""
        known = {field.name: field.type for field in dataclasses.fields(Shaping)}
        with self.told("shaping"):
            for key, value in values.items():
                if key not in known:
                    raise unknown_name("key", key, known)
                told, wanted = isinstance(value, bool), key == "role_aware"
                if told != wanted or not isinstance(value, int | float):
                    text = str(value).lower() if told else shown(repr(value), 80)
                    kind = "true or false" if wanted else "a number"
                    raise PeerWattError(f"{key} = {text} must be {kind}.")
            return Shaping(**values)

    def tasks(self, place: str, names: list[str]) -> list[str]:
        """Return the tasks, cards by a path that counts from here."""
        found = []
        for name in names:
            if name.endswith(".toml") and self.folder is not None:
                name = str(self.folder / name)
            with self.told(f"{place}.tasks"):
                load_task(name)
            found.append(name)
        return found

    def plugins(
        self, kind: Literal["algorithm", "critic", "mechanism"], place: str, texts: list[str]
    ) -> list[tuple[str, Options]]:
        """Return names and options of plugins."""
        found = []
        for text in texts:
            with self.told(f"{place}.{kind}s"):
                name, told = parse_text(kind, text)
                _, instance = from_text(kind, text)
                options = tuple((key, hashable(getattr(instance, key))) for key in told)
                for key, value in options:
                    if isinstance(value, dict):
                        raise PeerWattError(f"option {key} = {shown(repr(value), 60)} is a table.")
                found.append((name, options))
        return found


def hashable(value: Any) -> Any:
    """Return the value of an option with tuples for lists, as configurations hold them."""
    return tuple(map(hashable, value)) if isinstance(value, list | tuple) else value


def suite_names() -> list[str]:
    """Return the names of the suites that come with PeerWatt."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def load_suite(name: str) -> Suite:
    """Return the suite called `name`, or the one in the TOML file at that path.

    Raises:
        PeerWattError: there is no such suite, or the file is malformed.
    """
    own = name.endswith(".toml")
    if not own and name not in suite_names():
        raise PeerWattError(
            f"{str(unknown_name('suite', name, suite_names())).removesuffix('.')}; a suite of your "
            "own is named by its file, as in --suite my.toml."
        )
    where = f"suite {shown(name, 200)}"
    try:
        file = Path(name) if own else resources.files(__name__) / f"{name}.toml"
        return Suite.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise PeerWattError(f"cannot read {where}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PeerWattError(f"{where} is not valid TOML: {error}.") from None
    except ValidationError as error:
        # An unknown key first: it is what is missing, misspelt.
        problems = sorted(error.errors(include_url=False), key=lambda p: p["type"] == "missing")
        told = "; ".join(map(_problem, problems[:MOST_TOLD]))
        raise PeerWattError(f"{where}: {told.removesuffix('.')}.") from None


def _problem(problem: ErrorDetails) -> str:
    """Return key, value and mend of what is wrong."""
    *above, key = problem["loc"]
    place = re.sub(r"\.(\d+)", r"[\1]", ".".join(map(str, problem["loc"])))
    if problem["type"] == "extra_forbidden":
        model = SuiteEntry if above else Suite
        return f"{shown(place)}: {unknown_name('key', shown(str(key)), model.model_fields)}"
    if problem["type"] == "missing":
        examples = {"seeds": "seeds = 10", "budget": "budget = 2_000_000", "entry": "[[entry]]"}
        example = examples.get(str(key), f'{key} = ["NAME"]')
        return f"{shown(place)} is missing: add {example}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{shown(place)} = {shown(repr(problem['input']), 80)}: {message}"


def suite_configs(
    name: str, seeds: int | None = None, budget: int | None = None, first_seed: int = 0
) -> list[RunConfig]:
    """Return the runs of the suite called `name`, or in the file at that path; see `Suite.configs`.

    Raises:
        PeerWattError: there is no such suite, or something in it is wrong.
    """
    folder = Path(name).parent if name.endswith(".toml") else None
    suite = load_suite(name)
    return suite.configs(seeds, budget, first_seed=first_seed, name=name, folder=folder)
