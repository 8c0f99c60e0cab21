"""A results root: all its entries, what they say of each other, and the base that it adds to."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from peerwatt.errors import PeerWattError
from peerwatt.runs.entries import check_same_scenarios
from peerwatt.submissions.entry import Header
from peerwatt.submissions.guards import (
    ENTRY_FILE,
    ENTRY_LEVEL,
    LEDGER_FILE,
    check_no_link,
    names_in,
    read_bytes,
    refuse,
    sentence,
    shown,
)
from peerwatt.submissions.ledger import Ledger, Removed, append, read_ledger, today
from peerwatt.submissions.validate import (
    ALIKE,
    Submission,
    is_entry,
    read_entry,
    read_header,
)

MAX_NEW = 20
"""Entries that may be added to the base at once."""


@dataclass
class Results:
    """A results root: what is right, and one sentence for each thing that is not."""

    root: Path
    entries: list[Submission] = field(default_factory=list)
    superseded: dict[str, str] = field(default_factory=dict)
    """Id of an entry -> id of the one that corrects it."""
    ledger: Ledger = field(default_factory=Ledger)
    problems: list[str] = field(default_factory=list)
    published: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file of the base by its path."""

    def standing(self, entry: Submission) -> tuple[bool, bool]:
        """Return what decides between entries that contradict each other; the larger one stands.

        Whether it is in the base, and whether the maintainers replayed it: what it says of itself,
        such as its time, decides nothing.
        """
        place = "/".join((*entry.header.folder, ENTRY_FILE))
        return place in self.published, entry.header.entry_id in self.ledger.verified


def find_entries(root: Path, text: str) -> list[tuple[Path, Header]]:
    """Return folder and header of each entry below `root` whose id begins with `text`.

    Raises:
        PeerWattError: `text` is not 16 to 64 digits of an id, or a header cannot be read.
    """
    if not re.fullmatch(r"[0-9a-f]{16,64}", text):
        raise PeerWattError(f"{shown(text)!r} must be the 16 to 64 digits of an entry_id.")
    found = [(path, read_header(path)) for path in sorted(root.glob(f"*/*/*/{text[:16]}"))]
    return [(path, header) for path, header in found if header.entry_id.startswith(text)]


def find_entry(root: Path, text: str) -> tuple[Path, Header]:
    """Return the one entry that `find_entries` finds.

    Raises:
        PeerWattError: there is none, or several.
    """
    found = find_entries(root, text)
    if len(found) != 1:
        raise PeerWattError(
            f"{root} holds {len(found)} entries {text}: name one by its entry_id, of which the "
            "first 16 digits are the name of its folder."
        )
    return found[0]


def read_entry_in_place(folder: Path) -> Submission:
    """Read and check the entry in `folder`, and what it says of others in its results root.

    Raises:
        PeerWattError: the sentence names the file, the field and the mend.
    """
    entry = read_entry(folder)
    root = folder.absolute().parents[ENTRY_LEVEL - 1]
    results = Results(root, [entry], ledger=read_ledger(root))
    if entry.header.supersedes is not None:
        for other, header in find_entries(root, entry.header.supersedes):
            results.entries.append(Submission(other, header, "only its header was read"))
    _relate(results)
    if results.problems:
        raise PeerWattError(results.problems[0])
    return entry


def read_results(
    root: Path,
    base: Path | None = None,
    maintainer: bool = False,
    beside: Collection[str] = (),
) -> Results:
    """Read all entries below `root`; what is wrong with one leaves the others alone.

    Args:
        root: the results root.
        base: that of the base branch: entries are only ever added to it, and where entries
            contradict each other, one of its own stands.
        maintainer: allow what maintainers do: remove an entry that the ledger tells as removed,
            add lines to the ledger, change the README.
        beside: names in `root` that are none of its business.

    Raises:
        PeerWattError: `root` itself, or anything in `base`, cannot be read.
    """
    check_no_link(root)
    results = Results(root, published={} if base is None else _digests(base))
    folders = [root]
    for level in range(ENTRY_LEVEL):
        below: list[Path] = []
        for folder in folders:
            try:
                below += names_in(folder, level, () if level else beside)[0]
            except PeerWattError as error:
                if level == 0:
                    raise
                results.problems.append(str(error))
        folders = below
    try:
        results.ledger = read_ledger(root)
    except PeerWattError as error:
        results.problems.append(str(error))
    for folder in folders:
        try:
            results.entries.append(read_entry(folder, folder.absolute()))
        except PeerWattError as error:
            results.problems.append(str(error))
    _relate(results)
    if base is not None:
        results.problems += _changes(results, base, maintainer)
    return results


# --- what entries say of each other ----------------------------------------------------------


def _relate(results: Results) -> None:
    """Leave out entries that say of others what is not so, or that others contradict.

    Who is left out says nothing any more, so all is looked at again until nothing changes.
    """
    while True:
        wrong = _false_corrections(results) or _contradicted(results)
        if not wrong:
            return
        results.problems += wrong.values()
        results.entries = [e for e in results.entries if e.header.entry_id not in wrong]


def _false_corrections(results: Results) -> dict[str, str]:
    """Note what is superseded; return a sentence for each entry that must not be there."""
    by_id = {entry.header.entry_id: entry.header for entry in results.entries}
    results.superseded, wrong = {}, {}
    for entry in results.entries:
        try:
            if entry.header.entry_id in results.ledger.removed:
                refuse(entry.folder, "", "is removed, says the ledger", "take it out")
            _check_correction(entry, by_id, results)
        except PeerWattError as error:
            wrong[entry.header.entry_id] = str(error)
    return wrong


def _check_correction(entry: Submission, by_id: Mapping[str, Header], results: Results) -> None:
    """Check what an entry says it corrects, and note it."""
    header, target = entry.header, entry.header.supersedes
    if target is None or target in results.ledger.removed:
        return
    if target not in by_id:
        mend = "name the entry_id of one in the same results, or none"
        refuse(entry.file, "supersedes", f"there is no entry {target[:16]}", mend)
    other = by_id[target]
    same = (
        ("task", header.task.name, other.task.name),
        ("algorithm", header.algorithm.name, other.algorithm.name),
        ("distribution", header.algorithm.distribution, other.algorithm.distribution),
        ("submitter", header.submitter.name, other.submitter.name),
        ("contact", header.submitter.contact, other.submitter.contact),
    )
    for name, here, there in same:
        if here != there:
            problem = f"{target[:16]} is of another {name} ({shown(there)})"
            refuse(entry.file, "supersedes", problem, "correct only your own entries")
    results.superseded[target] = header.entry_id


@dataclass(frozen=True)
class _Contradiction:
    """Entries of which only one side can be right."""

    field: str
    problem: str
    """Goes before the folder of another entry."""
    mend: str
    sides: Sequence[Sequence[Submission]]


def _contradicted(results: Results) -> dict[str, str]:
    """Return a sentence for each entry that does not stand against another.

    Where nothing decides, neither stands, but only after all that is decided.
    """
    lost: dict[str, str] = {}
    undecided: dict[str, str] = {}
    for found in _contradictions(results):
        sides = [sorted(side, key=results.standing, reverse=True) for side in found.sides]
        sides.sort(key=lambda side: results.standing(side[0]), reverse=True)
        first, second = sides[0][0], sides[1][0]
        decided = results.standing(first) > results.standing(second)
        for side in sides[1:] if decided else sides:
            other = second if side is sides[0] else first
            problem = f"{found.problem} {other.folder.relative_to(results.root)}"
            mend = found.mend
            if not decided:
                problem += ", and nothing decides between the two"
                mend = "take one of them out"
            for entry in side:
                told = sentence(entry.file, found.field, problem, mend)
                (lost if decided else undecided).setdefault(entry.header.entry_id, told)
    return lost or undecided


def _contradictions(results: Results) -> Iterator[_Contradiction]:
    """Find corrections of one entry, and live entries that cannot both be ranked."""
    gone = results.superseded.keys()
    live = [e for e in results.entries if e.record and e.header.entry_id not in gone]
    same: dict[tuple[str, str, str, object], list[Submission]] = defaultdict(list)
    for entry in results.entries:
        if entry.header.supersedes is not None:
            target = entry.header.supersedes
            problem = f"{target[:16]} is superseded by"
            same["supersedes", problem, "correct that one", target].append(entry)
    for entry in live:
        assert entry.record is not None
        problem, mend = "the same configuration is told by", "correct that one with --supersedes"
        key = ("config_hash", problem, f"{mend}, or change an option")
        same[*key, entry.record.config_hash].append(entry)
        for training in entry.trainings:
            problem = "a trained policy is the very one of"
            key = ("runs", problem, f"{mend}, or train every seed of it anew")
            same[*key, training].append(entry)
    for (place, problem, mend, _), entries in same.items():
        if len(entries) > 1:
            yield _Contradiction(place, problem, mend, [[entry] for entry in entries])
    scenarios: dict[tuple[str, str], list[list[Submission]]] = defaultdict(list)
    for entry in live:
        sides = scenarios[entry.header.task.name, entry.header.task.content_hash]
        for side in sides:
            if _same_scenarios(entry, side[0]):
                side.append(entry)
                break
        else:
            sides.append([entry])
    for sides in scenarios.values():
        if len(sides) > 1:
            problem = "households, grid-only costs or optima are not those of"
            mend = "evaluate the policies on the task as it was published"
            yield _Contradiction("task", problem, mend, sides)


def _same_scenarios(one: Submission, other: Submission) -> bool:
    try:
        check_same_scenarios(one.runs[0], other.runs[0], ALIKE)
    except PeerWattError:
        return False
    return True


# --- the base --------------------------------------------------------------------------------


def _changes(results: Results, base: Path, maintainer: bool) -> list[str]:
    """Return a sentence for whatever `results` changes or lacks of what is published."""
    problems: list[str] = []
    before, after = results.published, _digests(results.root, whole=False)
    removed: set[str] = set()
    if maintainer:
        removed = {line.path for line in results.ledger.removed.values() if _was(line, base)}
        problems += _new_lines(results, base)
    told: set[str] = set()
    for name, digest in before.items():
        entry = "/".join(name.split("/")[:ENTRY_LEVEL])
        if after.get(name) == digest or entry in told:
            continue
        if entry in removed and not (results.root / entry).exists():
            continue
        if maintainer and "/" not in name and name in after:
            if name != LEDGER_FILE:
                continue
            if read_bytes(results.root / name).startswith(read_bytes(base / name)):
                continue
        told.add(entry)
        problem = f"{'changes' if name in after else 'lacks'} what is published"
        mend = "restore it, and correct an entry by a new one with --supersedes"
        problems.append(sentence(results.root / name, "", problem, mend))
    new = after.keys() - before.keys()
    for name in sorted(name for name in new if "/" not in name and not maintainer):
        file = results.root / name
        problems.append(sentence(file, "", "only maintainers write it", "take it out"))
    entries = sum(name.endswith(f"/{ENTRY_FILE}") for name in new)
    if entries > MAX_NEW and not maintainer:
        problem = f"{entries} entries are new, and {MAX_NEW} may be at once"
        problems.append(sentence(results.root, "", problem, "submit the others later"))
    for item in results.entries:
        if item.outdated is not None and not results.standing(item)[0]:
            mend = "repeat the runs with today's PeerWatt and pack them again"
            problems.append(sentence(item.file, "", f"is outdated ({item.outdated})", mend))
    return problems


def _was(line: Removed, base: Path) -> bool:
    """Return whether the base has the entry that `line` tells as removed, at its path."""
    folder = base / line.path
    return is_entry(folder) and read_header(folder).entry_id == line.entry_id


def _new_lines(results: Results, base: Path) -> Iterator[str]:
    """Yield a sentence for each new line of the ledger that concerns no entry."""
    old = len(read_ledger(base).lines)
    known = {entry.header.entry_id for entry in results.entries}
    for number, line in enumerate(results.ledger.lines[old:], old + 1):
        if isinstance(line, Removed):
            wrong = not _was(line, base)
            problem = f"the base has no entry {line.entry_id[:16]} at {line.path}"
        else:
            wrong = line.entry_id not in known and not find_entries(base, line.entry_id)
            problem = f"there is no entry {line.entry_id[:16]}"
        if wrong:
            file = results.root / LEDGER_FILE
            yield sentence(file, f"line {number}", problem, "take the line out")


def _digests(root: Path, whole: bool = True) -> dict[str, str]:
    """Return the SHA-256 of every file below a results root by its path.

    Args:
        root: the results root.
        whole: refuse a root in which anything cannot be read, so that nothing in it is overlooked;
            otherwise a folder that cannot be listed counts as empty.

    Raises:
        PeerWattError: so it is, or there is no such folder.
    """
    check_no_link(root)
    if not root.is_dir():
        raise PeerWattError(f"{root}: is no folder of results; name the base branch's one.")
    digests = {}
    folders = [(root, 0)]
    for folder, level in folders:
        try:
            below, files = names_in(folder, level)
        except PeerWattError:
            if whole:
                raise
            continue
        folders += [(path, level + 1) for path in below]
        for path in files:
            raw = read_bytes(path)
            digests[path.relative_to(root).as_posix()] = hashlib.sha256(raw).hexdigest()
    return digests


# --- removal ---------------------------------------------------------------------------------


def remove(root: Path, entry: str, reason: str) -> Path:
    """Tell the ledger that an entry is removed, and why; delete its folder and return it.

    Args:
        root: the results root.
        entry: the entry's id, or its first 16 digits at least.
        reason: one line.

    Raises:
        PeerWattError: there is no such entry, or no reason, or the disk refused.
    """
    folder, header = find_entry(root, entry)
    try:
        line = Removed(
            entry_id=header.entry_id,
            path="/".join(folder.parts[-ENTRY_LEVEL:]),
            reason=reason,
            date=today(),
        )
    except ValidationError:
        raise PeerWattError(
            "--reason must be a line of 1 to 500 characters without control characters."
        ) from None
    aside = folder.with_name(f".{folder.name}")
    try:
        os.rename(folder, aside)
    except OSError as error:
        raise PeerWattError(f"{folder}: cannot be removed ({error.strerror}).") from None
    try:
        append(root, line)
    except PeerWattError:
        os.rename(aside, folder)
        raise
    try:
        shutil.rmtree(aside)
        for parent in folder.relative_to(root).parents:
            if parent != Path() and not any((root / parent).iterdir()):
                (root / parent).rmdir()
    except OSError as error:
        raise PeerWattError(
            f"{aside}: cannot be deleted ({error.strerror}), though the ledger tells that it is "
            "removed: delete it by hand."
        ) from None
    return folder
