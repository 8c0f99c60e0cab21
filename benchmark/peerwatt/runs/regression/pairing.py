"""Entries of BASE and NEW that compare, and what of NEW is missing or failed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.entries import Board, Entry, Run, read_boards
from peerwatt.runs.regression.findings import Finding
from peerwatt.runs.result import RunResult, full_name
from peerwatt.runs.store import RESULT_FILE
from peerwatt.runs.work import read_failure

INFRASTRUCTURE = re.compile(
    r"not enough memory|MemoryError|cannot write|No space left|Read-only file system|worker"
    r"|Connection(Error|Refused|Reset)|TimeoutError",
    re.IGNORECASE,
)
"""Failures that say nothing about the code: the machine had no memory, disk or network left."""


@dataclass(frozen=True)
class Pair:
    """One entry of BASE with the entry of NEW that it compares with."""

    title: str
    """Task, mechanism where there are several, and label of the entry."""
    base: Entry
    new: Entry

    @property
    def seeds(self) -> list[int]:
        """Seeds that both have, ascending."""
        return sorted(self.runs("base").keys() & self.runs("new").keys())

    def runs(self, side: str) -> dict[int, Run]:
        """Return seed -> run of one side, "base" or "new"; see `other_seeds`."""
        entry: Entry = getattr(self, side)
        runs = {run.result.seed: run for run in entry.runs}
        if side == "new" and self.other_seeds:
            return dict(
                zip((run.result.seed for run in self.base.runs), runs.values(), strict=False)
            )
        return runs

    @property
    def other_seeds(self) -> bool:
        """Whether these are learners without a common seed, whose runs are paired in order.

        That is as good a test: of two runs of the same code with other seeds each is as likely to
        be the better one.
        """
        base, new = ({run.result.seed for run in entry.runs} for entry in (self.base, self.new))
        return not self.scripted and not base & new

    @property
    def scripted(self) -> bool:
        """Whether both are scripted traders, which are compared exactly."""
        return self.base.scripted and self.new.scripted

    @property
    def key(self) -> str:
        """What names this pair in a record."""
        return f"{self.base.first.config_hash}:{self.new.first.config_hash}"


@dataclass(frozen=True)
class Paired:
    """All that BASE and NEW hold."""

    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    """What is missing, failed or does not compare."""
    warnings: tuple[str, ...]


def pair(base: Path, new: Path) -> Paired:
    """Read both folders of results and pair their entries.

    Two entries compare if task, content of the task, and the names of mechanism, algorithm and
    critic are the same: with the same configuration, or else the only ones of these names.

    Raises:
        PeerWattError: a folder cannot be read, or a result in it is wrong.
    """
    there, here = _boards(base), _boards(new)
    taken: set[int] = set()
    pairs: list[Pair] = []
    findings: list[Finding] = []
    warnings: list[str] = []
    for board in there:
        for entry in board.entries:
            title = f"{board.title} {entry.label}"
            partner = _partner(entry, board, there, here)
            if partner is None:
                findings.append(_without_partner(title, entry, here, new))
                continue
            taken.add(id(partner))
            made = Pair(title, entry, partner)
            pairs.append(made)
            findings += _missing(made, new)
            if made.other_seeds:
                warnings.append(f"{title}: no seed is in both, so the runs are paired in order.")
    warnings += [
        f"{board.title} {entry.label} is in NEW only: there is nothing to hold it against."
        for board in here
        for entry in board.entries
        if id(entry) not in taken
    ]
    for side, boards in (("BASE", there), ("NEW", here)):
        for board in boards:
            for entry in board.entries:
                if len(codes := sorted({_code(result) for result in entry.results})) > 1:
                    warnings.append(
                        f"{board.title} {entry.label}: its runs in {side} were made by different "
                        f"code ({', '.join(codes)}), so that a verdict on one of them is none."
                    )
    return Paired(tuple(pairs), tuple(findings), tuple(warnings))


def _boards(folder: Path) -> list[Board]:
    if not folder.is_dir():
        raise PeerWattError(f"{folder}: no such folder of results; `peerwatt run` makes one.")
    holds = any(
        not any(part.startswith(".") for part in file.relative_to(folder).parts)
        for file in folder.rglob(RESULT_FILE)
    )
    return read_boards(folder) if holds else []


def _partner(
    entry: Entry, board: Board, there: Sequence[Board], here: Sequence[Board]
) -> Entry | None:
    """Return the entry of `here` that `entry` compares with, if there is just one."""
    first = entry.first
    names = _names(first)
    alike = [
        other for b in here if b.task == board.task for other in b.entries
        if _names(other.first) == names
    ]  # fmt: skip
    own = [
        other for b in there if b.task == board.task for other in b.entries
        if _names(other.first) == names
    ]  # fmt: skip
    tests: tuple[Callable[[RunResult], object], ...] = (
        lambda result: result.config_hash,
        _asked,
        _names,
    )
    for test in tests:
        found = [other for other in alike if test(other.first) == test(first)]
        rivals = [other for other in own if test(other.first) == test(first)]
        if len(found) == len(rivals) == 1:
            return found[0]
    return None


def _names(result: RunResult) -> tuple[str, ...]:
    return (
        full_name(result.mechanism),
        full_name(result.algorithm),
        full_name(result.critic),
    )


def _asked(result: RunResult) -> str:
    """Return the configuration without the versions of plugins, which may rise between two."""
    plugins = (result.mechanism, result.algorithm, result.critic)
    told = [[full_name(plugin), plugin.options, plugin.contents] for plugin in plugins]
    asked = [told, result.shaping, result.budget, result.validations]
    return json.dumps(asked, sort_keys=True)


def _code(result: RunResult) -> str:
    commit = (result.environment.git_commit or "")[:10]
    version = shown(result.environment.packages.get("peerwatt", "unknown"), 40)
    dirty = " with changes" if result.environment.git_dirty else ""
    return f"{version}{f' at {commit}' if commit else ''}{dirty}"


def _without_partner(title: str, entry: Entry, here: Sequence[Board], new: Path) -> Finding:
    """Say why NEW has nothing that compares with `entry`."""
    first = entry.first
    names = _names(first)
    alike = [other for b in here for other in b.entries if _names(other.first) == names]
    changed = [
        other.first.task
        for other in alike
        if other.first.task.name == first.task.name and other.first.task != first.task
    ]
    if changed:
        return Finding(
            "runs",
            title,
            "regression",
            f"the task {first.task.name} is another one ({first.task.content_hash[:8]} in BASE, "
            f"{changed[0].content_hash[:8]} in NEW): a task that changes needs a new version.",
        )
    same_task = [other for other in alike if other.first.task == first.task]
    if same_task:
        text = (
            f"NEW has {len(same_task)} entries of these names with other options, and which is "
            "meant cannot be told: give the same options."
        )
        return Finding("runs", title, "undecided", text)
    failed = dict(_failures(new, _folder(entry.runs[0])))
    telling = [text for seed, text in sorted(failed.items()) if not INFRASTRUCTURE.search(text)]
    if telling:
        text = f"every run fails in NEW: {telling[0]}"
        return Finding("runs", title, "regression", text)
    text = f"NEW has no such runs; add them with `{command_for(entry.first, entry, new)}`."
    return Finding("runs", title, "undecided", text)


def _folder(run: Run) -> Path:
    """Return task/entry of a run's folder, as it is below a folder of results."""
    return Path(*run.path.parent.parent.parts[-2:])


def _missing(pair: Pair, new: Path) -> Iterator[Finding]:
    """Yield what is to say about seeds that BASE has and NEW has not."""
    seeds = pair.runs("base").keys() - pair.runs("new").keys()
    if not seeds:
        return
    failed = dict(_failures(new, _folder(pair.new.runs[0])))
    telling = {
        seed: text
        for seed, text in sorted(failed.items())
        if seed in seeds and not INFRASTRUCTURE.search(text)
    }
    if telling:
        seed, text = next(iter(telling.items()))
        more = f" (and {len(telling) - 1} more)" if len(telling) > 1 else ""
        sentence = f"seed {seed} fails in NEW{more}, not in BASE: {text}"
        yield Finding("runs", pair.title, "regression", sentence)
    elif pair.scripted or not pair.seeds:
        command = command_for(pair.new.first, pair.base, new)
        text = f"{len(seeds)} seeds of BASE are missing in NEW; add them with `{command}`."
        yield Finding("runs", pair.title, "undecided", text)


def _failures(results: Path, entry: Path) -> Iterator[tuple[int, str]]:
    """Yield seed and error of each failed run in the folder of an entry."""
    for work in (results / entry).glob(".seed-*.work"):
        digits = work.name.removeprefix(".seed-").removesuffix(".work")
        failed = read_failure(work)
        if failed is not None and digits.isdigit():
            yield int(digits), _last_line(failed.text)


def _last_line(text: str) -> str:
    """Return the line of a traceback that tells the error."""
    lines = [line for line in text.splitlines() if line.strip()] or ["no reason is known"]
    line = shown(lines[-1], 300)
    return line if line.endswith(".") else f"{line}."


def command_for(result: RunResult, entry: Entry, results: Path) -> str:
    """Return the command line that makes the runs of `result` with all seeds of `entry`."""
    seeds = [run.result.seed for run in entry.runs]
    words = set_flag(result.command, "--first-seed", str(seeds[0]))
    words = set_flag(words, "--seeds", str(seeds[-1] - seeds[0] + 1))
    return shown(f"{words} --results {results}", 1_000)


def set_flag(command: str, flag: str, value: str) -> str:
    """Return `command` with another value of an option that it gives."""
    return re.sub(rf"{flag} \d+", f"{flag} {value}", command)
