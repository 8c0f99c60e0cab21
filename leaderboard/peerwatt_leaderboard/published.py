"""What a results root of submitted entries becomes on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from peerwatt.criticbench.record import FOLDER
from peerwatt.runs.entries import Board, Entry, Run, boards_from
from peerwatt.submissions.collection import read_results
from peerwatt.submissions.entry import EntryRecord, Header
from peerwatt.submissions.guards import ENTRY_FILE, LEDGER_FILE
from peerwatt.submissions.ledger import Removed, Verified


@dataclass(frozen=True)
class Outdated:
    """An entry that is told and not ranked."""

    header: Header
    reason: str


@dataclass(frozen=True)
class Published:
    """What is known of the entries beside their runs."""

    records: Mapping[Path, EntryRecord] = field(default_factory=dict)
    """Folder of a ranked entry -> its record."""
    verified: Mapping[str, Verified] = field(default_factory=dict)
    outdated: tuple[Outdated, ...] = ()
    removed: tuple[Removed, ...] = ()
    problems: tuple[str, ...] = ()
    """A sentence for each thing that was left out."""

    def record_of(self, entry: Entry) -> EntryRecord | None:
        """Return what was submitted with `entry`; None for runs that nobody submitted."""
        return self.records.get(entry.runs[0].path.parent.parent)


def is_results_root(folder: Path) -> bool:
    """Return whether `folder` holds submitted entries, not plain runs."""
    return (folder / LEDGER_FILE).is_file() or any(folder.glob(f"*/*/*/*/{ENTRY_FILE}"))


def read_published(root: Path) -> tuple[list[Board], Published]:
    """Read a results root: the boards of what compares today, and all else to be told.

    Entries that are not as they should be are left out and told; none takes the page down.

    Raises:
        PeerWattError: the root itself cannot be read.
    """
    results = read_results(root, beside=(FOLDER,))
    records: dict[Path, EntryRecord] = {}
    outdated: list[Outdated] = []
    runs: list[Run] = []
    for entry in sorted(results.entries, key=lambda entry: entry.header.created):
        header = entry.header
        successor = results.superseded.get(header.entry_id)
        if successor is not None:
            outdated.append(Outdated(header, f"superseded by {successor[:16]}"))
        elif entry.record is None:
            outdated.append(Outdated(header, entry.outdated or ""))
        else:
            records[entry.folder] = entry.record
            runs += entry.runs
    published = Published(
        records,
        results.ledger.verified,
        tuple(outdated),
        tuple(results.ledger.removed.values()),
        tuple(results.problems),
    )
    return boards_from(runs), published
