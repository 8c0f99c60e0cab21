"""The command `peerwatt leaderboard build`."""

from __future__ import annotations

from pathlib import Path

from peerwatt.runs.entries import read_boards
from peerwatt_leaderboard.site import write_site


def build(results: Path = Path("runs"), out: Path = Path("site")) -> None:
    """Build the leaderboard page from all results below a folder.

    The page is static: open it from disk or put the folder on any web server. Every number on it
    is recomputed from the per-episode records.

    Args:
        results: folder in which every `result.json`, at any depth, is read.
        out: folder of the page; a page built there before is replaced, and a folder that holds
            anything else is refused.
    """
    boards = read_boards(results)
    page = write_site(boards, out, source=results)
    entries = sum(len(board.entries) for board in boards)
    runs = sum(len(entry.runs) for board in boards for entry in board.entries)
    print(f"{entries} entries ({runs} runs) on {len(boards)} tasks")
    print(f"page: {page.resolve().as_uri()}")
