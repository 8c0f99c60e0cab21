"""The command `peerwatt leaderboard build`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from peerwatt.criticbench.record import FOLDER
from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.entries import read_boards
from peerwatt.runs.store import RESULT_FILE
from peerwatt_leaderboard.critics import CriticBoard, read_critics
from peerwatt_leaderboard.published import Published, is_results_root, read_published
from peerwatt_leaderboard.site import write_site


def build(results: Path = Path("runs"), out: Path = Path("site")) -> None:
    """Build the leaderboard page from all results below a folder.

    The page is static: open it from disk or put the folder on any web server. Every number on it
    is recomputed from the per-episode records, or from the per-slot records of benchmarked critics.

    Args:
        results: folder of runs, in which every `result.json`, at any depth, is read; or of
            submitted entries, such as leaderboard/results, of which only what is valid is shown. Of
            runs, the records of critics in its folder `critics` are shown as well.
        out: folder of the page; a page built there before is replaced, and a folder that holds
            anything else is refused.
    """
    published = Published()
    critics: list[CriticBoard] = []
    if is_results_root(results):
        boards, published = read_published(results)
        _tell(published.problems)
    else:
        critics, problems = read_critics(results)
        _tell(problems)
        # Critics can be benchmarked before anything is trained.
        no_runs = not any(
            not any(part.startswith(".") for part in path.relative_to(results).parts)
            for path in results.rglob(RESULT_FILE)
        )
        if no_runs and problems and not critics:
            raise PeerWattError(
                f"{results}: holds no {RESULT_FILE}, at any depth, and in its folder {FOLDER} no "
                "valid record of a critic; `peerwatt run` and `peerwatt critics bench` write them."
            )
        boards = [] if no_runs and critics else read_boards(results)
    page = write_site(boards, out, source=results, published=published, critics=critics)
    entries = sum(len(board.entries) for board in boards)
    runs = sum(len(entry.runs) for board in boards for entry in board.entries)
    tasks = {(board.task.name, board.task.content_hash) for board in boards}
    counts = (
        f"{entries} {'entry' if entries == 1 else 'entries'}",
        f"({runs} run{'' if runs == 1 else 's'})",
        f"on {len(tasks)} task{'' if len(tasks) == 1 else 's'}",
    )
    if boards or not critics:
        print(*counts)
    for board in critics:
        count = len(board.entries)
        print(f"{count} critic{'' if count == 1 else 's'} on {board.title}")
    print(f"page: {page.resolve().as_uri()}")


def _tell(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"peerwatt: warning: left out: {shown(problem, 1500)}", file=sys.stderr)
