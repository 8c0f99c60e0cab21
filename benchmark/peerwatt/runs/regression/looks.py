"""Adding seeds until it is decided: the looks are planned beforehand and share the error rate.

With L looks each is tested at alpha / L (Bonferroni), so that all looks together raise a false
alarm with a chance of at most alpha. The plan and the seeds of each look are kept beside the
results of NEW, in `.regress/`: a later call goes on with that plan, lest every call be a first
look. A call without a plan counts as a look as well, and with other seeds as a further one. But the
first of these was tested at the whole of alpha, before it was known that others would follow, so
that with a look before the plan the chance is above alpha; only a plan from the start keeps it.
"""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness import Shaping
from peerwatt.runs.config import RunConfig, resolve
from peerwatt.runs.regression.findings import Report
from peerwatt.runs.regression.golden import write_text
from peerwatt.runs.regression.learners import Settings
from peerwatt.runs.regression.pairing import Pair, set_flag
from peerwatt.runs.regression.scripted import same_in
from peerwatt.runs.result import RunResult, full_name
from peerwatt.runs.runner import run_all

FOLDER = ".regress"
MOST_SEEDS = 1_000


class Record(BaseModel):
    """Which seeds of NEW were looked at, and at how many it is planned to look."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alpha: float | None = None
    """Of the plan, if there is one."""
    margins: dict[str, float] = {}
    """Margin of each metric, of the plan."""
    looks: Annotated[tuple[int, ...], Field(max_length=20)] = ()
    """Number of seeds at each planned look; empty without a plan."""
    plain: dict[str, list[list[int]]] = {}
    """Key of a pair -> the seeds of each look without a plan."""
    seen: dict[str, list[list[int]]] = {}
    """Key of a pair -> the seeds of each planned look that was made."""
    verdicts: list[str] = []
    """What each call under the plan said."""


def plan_looks(seeds: int, most: int) -> tuple[int, ...]:
    """Return the looks: at `seeds`, then at twice as many, up to `most`."""
    looks = [seeds]
    while looks[-1] < most:
        looks.append(min(2 * looks[-1], most))
    return tuple(looks)


class Looks:
    """What was looked at in a folder NEW, and the file that keeps it."""

    def __init__(self, new: Path, settings: Settings) -> None:
        self.file = new / FOLDER / "looks.json"
        self.settings = settings
        self.record = self._read() if self.file.exists() else Record()

    def _read(self) -> Record:
        mend = f"remove {self.file} to begin a new comparison, with seeds that nobody has looked at"
        try:
            record = Record.model_validate_json(self.file.read_bytes())
        except (OSError, ValidationError) as error:
            raise PeerWattError(f"{self.file}: {shown(str(error), 200)}; {mend}.") from None
        wanted = _margins(self.settings)
        if record.looks and (record.alpha, record.margins) != (self.settings.alpha, wanted):
            raise PeerWattError(
                f"{self.file}: seeds were added by a plan with --alpha {record.alpha:g} and the "
                f"margins {_told(record.margins)}, and this call says {self.settings.alpha:g} and "
                f"{_told(wanted)}; say the same, or {mend}."
            )
        return record

    @property
    def planned(self) -> tuple[int, ...]:
        """Number of seeds at each planned look; empty without a plan."""
        return self.record.looks

    def begin(self, seeds: int, most: int) -> None:
        """Make the plan of a folder that has none."""
        if not self.planned:
            self._update(
                alpha=self.settings.alpha,
                margins=_margins(self.settings),
                looks=plan_looks(seeds, most),
            )

    def look(self, pairs: Sequence[Pair]) -> list[str]:
        """Remember the looks that the seeds of each pair now allow; return warnings.

        Raises:
            PeerWattError: the disk refuses to keep a planned look.
        """
        kind = "seen" if self.planned else "plain"
        record: dict[str, list[list[int]]] = getattr(self.record, kind)
        looked = dict(record)
        for pair in pairs:
            made = looked.get(pair.key, [])
            if self.planned:
                looked[pair.key] = self._planned(made, pair.seeds)
            elif pair.seeds not in made and not same_in(pair, pair.seeds):
                looked[pair.key] = [*made, pair.seeds]
        if looked != record:
            try:
                self._update(**{kind: looked})
            except PeerWattError as error:
                if self.planned:
                    raise
                return [f"this look is not counted by later calls: {error}"]
        return []

    def _planned(self, made: list[list[int]], seeds: list[int]) -> list[list[int]]:
        """Return the looks made, with those for which there are enough `seeds` now."""
        made = list(made)
        for size in self.planned[len(made) :]:
            before = made[-1] if made else []
            fresh = [seed for seed in seeds if seed not in before]
            if len(before) + len(fresh) < size or not set(before) <= set(seeds):
                break
            made.append([*before, *fresh[: size - len(before)]])
        return made

    def of(self, pair: Pair) -> list[list[int]]:
        """Return the seeds of each look at a pair, the last one last, of those still there.

        Under a plan there is none before the first planned look.
        """
        plain, seen = self.record.plain.get(pair.key, []), self.record.seen.get(pair.key, [])
        if self.planned:
            looks = [*plain, *seen] if seen and set(seen[-1]) <= set(pair.seeds) else []
        else:
            looks = [*(look for look in plain if look != pair.seeds), pair.seeds]
        return [look for look in looks if set(look) <= set(pair.seeds)]

    def count(self, pairs: Sequence[Pair]) -> int:
        """Return by how many looks the chance of a false alarm is shared."""
        plain = max((len(self.record.plain.get(pair.key, [])) for pair in pairs), default=0)
        return max(1, plain + len(self.planned))

    def asked(self, pair: Pair) -> list[int] | None:
        """Return the seeds that the plan has asked for so far; None without a plan."""
        made = self.record.seen.get(pair.key, [])
        return (made[-1] if made else []) if self.planned else None

    def next_size(self, pair: Pair) -> int | None:
        """Return the number of seeds of the next planned look; None if the last one was made."""
        made = len(self.record.seen.get(pair.key, []))
        return self.planned[made] if made < len(self.planned) else None

    def note(self, report: Report) -> None:
        """Remember what a call under the plan said."""
        if self.planned:
            self._update(verdicts=[*self.record.verdicts, report.outcome])

    def _update(self, **changes: Any) -> None:
        self.record = self.record.model_copy(update=changes)
        write_text(self.file, self.record.model_dump_json(indent=1) + "\n")


def _margins(settings: Settings) -> dict[str, float]:
    return {name: settings.margin_of(name) for name in settings.metrics}


def _told(margins: dict[str, float]) -> str:
    return ", ".join(f"{shown(name, 40)} {margin:g}" for name, margin in margins.items())


def seeds_for(pair: Pair, size: int, growing: bool) -> list[int]:
    """Return the seeds that NEW and BASE should have for a look at `size` common ones.

    First what both have, then what BASE has; if BASE is `growing`, then the seeds after the last.
    """
    base = pair.runs("base").keys()
    wanted = [*pair.seeds, *sorted(base - set(pair.seeds))]
    if growing:
        after = max(base | pair.runs("new").keys()) + 1
        wanted += range(after, after + max(0, size - len(wanted)))
    return wanted[:size]


def add_to_new(pairs: Sequence[tuple[Pair, list[int]]], results: Path, console: Console) -> None:
    """Run the seeds that NEW lacks with the installed code.

    Raises:
        PeerWattError: the installed code does not make the runs of NEW, or a run fails.
    """
    configs = []
    for pair, seeds in pairs:
        have = pair.runs("new")
        config = config_of(pair.new.first)
        configs += [dataclasses.replace(config, seed=s) for s in seeds if s not in have]
    done = run_all(configs, results, console=console)
    if done.failures:
        label, failure = next(iter(done.failures.items()))
        last = failure.text.strip().splitlines()[-1]
        raise PeerWattError(f"NEW: {label}: {shown(last, 500)}")


def config_of(result: RunResult) -> RunConfig:
    """Return the configuration that makes such runs again.

    Raises:
        PeerWattError: the installed code makes others.
    """
    words = shlex.split(result.command)
    at = words.index("--task") + 1 if "--task" in words else 0
    task = words[at] if at and words[at].endswith(".toml") else result.task.name

    def options(record: dict[str, object]) -> tuple[tuple[str, object], ...]:
        return tuple((key, _hashable(value)) for key, value in record.items())

    config = RunConfig(
        task=task,
        algorithm=full_name(result.algorithm),
        critic=full_name(result.critic) if result.critic.name != "none" else "none",
        seed=result.seed,
        budget=max(1, result.budget),
        mechanism=full_name(result.mechanism),
        algorithm_options=options(result.algorithm.options),
        critic_options=options(result.critic.options),
        mechanism_options=options(result.mechanism.options),
        shaping=Shaping(**result.shaping),
        validations=result.validations,
    )
    if resolve(config).config_hash != result.config_hash:
        raise PeerWattError(
            f"{result.task.name} {result.algorithm.name}: the installed code does not make the "
            f"runs of NEW ({full_name(result.algorithm)} {result.algorithm.version}, task "
            f"{result.task.content_hash[:8]}): install what made them, or run NEW anew with it."
        )
    return config


def _hashable(value: object) -> object:
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def add_to_base(pairs: Sequence[tuple[Pair, list[int]]], results: Path, program: Path) -> None:
    """Run the seeds that BASE lacks with another installation.

    Args:
        pairs: each with the seeds it should have.
        results: folder of BASE.
        program: the `peerwatt` of that installation.

    Raises:
        PeerWattError: it cannot be run, or fails.
    """
    for pair, seeds in pairs:
        lacking = [seed for seed in seeds if seed not in pair.runs("base")]
        for first, count in _blocks(lacking):
            command = set_flag(pair.base.first.command, "--first-seed", str(first))
            words = shlex.split(set_flag(command, "--seeds", str(count)))
            if words[:2] != ["peerwatt", "run"]:
                raise PeerWattError(
                    f"{pair.title}: the record of BASE was not made by `peerwatt run` but by "
                    f"'{shown(' '.join(words[:3]), 80)}': add its seeds yourself."
                )
            try:
                done = subprocess.run(
                    [str(program.absolute()), *words[1:], "--results", str(results)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    check=False,
                )
            except OSError as error:
                raise PeerWattError(
                    f"--base-peerwatt {program}: {error.strerror}; name the `peerwatt` of the "
                    "other installation, such as base/bin/peerwatt."
                ) from None
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise PeerWattError(f"BASE: {pair.title}: {shown(last, 500)}")


def _blocks(seeds: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and length of each run of seeds that follow one another."""
    groups = itertools.groupby(enumerate(sorted(seeds)), key=lambda item: item[1] - item[0])
    members = [[seed for _, seed in group] for _, group in groups]
    return [(group[0], len(group)) for group in members]
