"""Entries of BASE and NEW that compare, and what of NEW is missing or failed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.entries import Board, Entry, Run, read_boards
from peerwatt.runs.regression.again import command_for
from peerwatt.runs.regression.failures import by_the_code, failures
from peerwatt.runs.regression.findings import Finding
from peerwatt.runs.result import RunResult, full_name
from peerwatt.runs.store import RESULT_FILE


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
    """What of BASE has no counterpart."""
    warnings: tuple[str, ...]


def pair(base: Path, new: Path) -> Paired:
    """Read both folders of results and pair their entries.

    Two entries compare if task, content of the task, and the names of mechanism, algorithm and
    critic are the same: with the same configuration, or else the only ones of these names, of which
    it is told what differs.

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
            one, other = entry.first, partner.first
            if one.budget != other.budget:
                text = (
                    f"trained for {one.budget:,} agent-steps in BASE and {other.budget:,} in NEW, "
                    "so that nothing compares: give both the same --budget."
                )
                findings.append(Finding("runs", title, "undecided", text))
                continue
            made = Pair(title, entry, partner)
            pairs.append(made)
            if differing := list(_differing(one, other)):
                warnings.append(f"{title} is not asked for alike: {'; '.join(differing)}.")
            if made.other_seeds:
                warnings.append(f"{title}: no seed is in both, so the runs are paired in order.")
            if left := len(partner.runs) - len(made.seeds):
                warnings.append(
                    f"{title}: {_runs(left)} of NEW without a counterpart in BASE "
                    f"{'is' if left == 1 else 'are'} left out."
                )
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


def _asked(result: RunResult) -> dict[str, object]:
    """Return the configuration without the versions of plugins, which may rise between two."""
    asked: dict[str, object] = {"budget": result.budget, "validations": result.validations}
    asked |= {f"shaping {name}": value for name, value in result.shaping.items()}
    for kind in ("mechanism", "algorithm", "critic"):
        plugin = getattr(result, kind)
        asked |= {f"{kind} {name}": value for name, value in plugin.options.items()}
        asked |= {f"contents of {kind} {name}": sha for name, sha in plugin.contents.items()}
    return asked


def _differing(base: RunResult, new: RunResult) -> Iterator[str]:
    """Yield "algorithm gamma is 0.9 in BASE and 0.5 in NEW" for each thing asked for otherwise."""
    there, here = _asked(base), _asked(new)
    for name in sorted(there.keys() | here.keys()):
        was, now = (shown(str(asked.get(name, "the default")), 60) for asked in (there, here))
        if was != now:
            yield f"{shown(name, 60)} is {was} in BASE and {now} in NEW"


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


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
            "NEW has entries of these names with other options, and which is meant cannot be told: "
            "give the same options."
        )
        return Finding("runs", title, "undecided", text)
    failed = failures(new, _folder(entry.runs[0])).values()
    if telling := [text for text in failed if by_the_code(text)]:
        return Finding("runs", title, "regression", f"every run fails in NEW: {telling[0]}")
    seeds = [run.result.seed for run in entry.runs]
    text = f"NEW has no such runs; add them with {command_for(first, seeds, new)}."
    return Finding("runs", title, "undecided", text)


def _folder(run: Run) -> Path:
    """Return task/entry of a run's folder, as it is below a folder of results."""
    return Path(*run.path.parent.parent.parts[-2:])


def missing_runs(
    pair: Pair, new: Path, asked: Collection[int] | None
) -> tuple[Finding | None, str | None]:
    """Return a finding and a warning about runs that BASE has and NEW has not.

    Those that are missing may be the bad ones, so that nothing is decided without them.

    Args:
        pair: the entries.
        new: folder of NEW.
        asked: seeds that were looked at so far, where there is a plan of looks; others may still be
            missing, unless they failed or later ones are there. None without a plan.
    """
    missing = sorted(pair.runs("base").keys() - pair.runs("new").keys())
    if not missing:
        return None, None
    # Seeds of their own say of no run which one of BASE it would have been paired with.
    failed = {
        seed: text
        for seed, text in failures(new, _folder(pair.new.runs[0])).items()
        if pair.other_seeds or seed in missing
    }
    telling = [(seed, text) for seed, text in failed.items() if by_the_code(text)]
    if telling:
        seed, text = telling[0]
        more = f" (and {len(telling) - 1} more)" if len(telling) > 1 else ""
        sentence = f"seed {seed} fails in NEW{more}, not in BASE: {text}"
        return Finding("runs", pair.title, "regression", sentence), None
    named = f"seed{'' if len(missing) == 1 else 's'} {_listed(missing)}"
    lost = {*asked, *lost_seeds(pair, new)} if asked is not None else {*missing}
    if pair.seeds and not failed and not lost.intersection(missing):
        return None, f"{pair.title}: the plan has not asked for {named} of BASE so far."
    if pair.other_seeds:
        lacking = f"NEW lacks {_runs(len(missing))} that BASE has; add as many"
    else:
        command = command_for(pair.new.first, sorted(pair.runs("base")), new)
        lacking = f"NEW lacks {named} of BASE; add what is missing with {command}"
    why = f" (seed {min(failed)}: {failed[min(failed)].removesuffix('.')})" if failed else ""
    text = f"{lacking}{why}: what is missing may be what is worse."
    return Finding("runs", pair.title, "undecided", text), None


def lost_seeds(pair: Pair, new: Path) -> list[int]:
    """Return the seeds of BASE that NEW must have had: later ones are there, or they failed.

    Left out are those whose failure is the code's own, which decides by itself.
    """
    there = pair.runs("new").keys()
    failed = failures(new, _folder(pair.new.runs[0]))
    return [
        seed
        for seed in sorted(pair.runs("base").keys() - there)
        if (by_the_code(failed[seed]) is False if seed in failed else seed < max(there, default=0))
    ]


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds[:10])) + (", …" if len(seeds) > 10 else "")
