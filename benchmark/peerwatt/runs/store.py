"""Where runs are kept: one folder per seed, complete or not there at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from peerwatt.errors import PeerWattError, shown
from peerwatt.runs.config import ResolvedRun
from peerwatt.runs.result import RunResult
from peerwatt.runs.untrusted import read_small

RESULT_FILE = "result.json"
METRICS_FILE = "metrics.jsonl"
CLOCK_FILE = "clock.jsonl"
"""When the reports of `metrics.jsonl` were made; that file is the same each time a run is made."""
MAX_RESULT_BYTES = 5_000_000
"""A larger result is refused unread; an honest one of a hundred households has about 100 kB."""


def run_folder(results: Path, run: ResolvedRun) -> Path:
    """Return `results`/task/algorithm--critic--mechanism--hash/seed-000."""
    records = (run.algorithm_record, run.critic_record, run.mechanism_record)
    names = [*(record.name for record in records), run.config_hash[:8]]
    return results / run.task.name / "--".join(names) / f"seed-{run.config.seed:03d}"


def work_folder(results: Path, run: ResolvedRun) -> Path:
    """Return the hidden folder that is all there is of `run` as long as it is not finished."""
    folder = run_folder(results, run)
    return folder.with_name(f".{folder.name}.work")


def check_writable(results: Path) -> None:
    """Make the folder `results` and try to write into it.

    Raises:
        PeerWattError: it cannot be made or written.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise PeerWattError(
            f"cannot write results to {results}: {error.strerror}; name another folder with "
            "--results."
        ) from None


@contextlib.contextmanager
def written_at_once(folder: Path, option: str = "--results") -> Iterator[Path]:
    """Yield a hidden sibling of `folder` that takes its place when the block ends without error.

    Raises:
        PeerWattError: the disk refused; the sentence names the `option` that says where to write.
    """
    with _told(folder, option):
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_drafts(folder)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-{os.getpid()}-", dir=folder.parent))
    try:
        yield draft
        with _told(folder, option):
            draft.chmod(0o755)
            if folder.exists():
                old = draft.with_name(f"{draft.name}-old")
                os.replace(folder, old)
                os.replace(draft, folder)
                shutil.rmtree(old)
            else:
                os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        with contextlib.suppress(OSError):  # what holds other runs stays
            folder.parent.rmdir()
            folder.parent.parent.rmdir()


@contextlib.contextmanager
def _told(folder: Path, option: str) -> Iterator[None]:
    """Turn what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        raise PeerWattError(
            f"cannot write {folder}: {error.strerror or error}; name another folder with {option}."
        ) from error


def clear_drafts(folder: Path) -> None:
    """Remove what killed processes left beside `folder`; restore what they had moved away."""
    for left in sorted(folder.parent.glob(f".{folder.name}-*")):
        owner = left.name.removeprefix(f".{folder.name}-").partition("-")[0]
        if owner.isdigit() and alive(int(owner)):
            continue
        if left.name.endswith("-old") and not folder.exists():
            os.replace(left, folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def alive(pid: int) -> bool:
    """Return whether there is a process of that number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_result(path: Path) -> RunResult:
    """Read the result at `path` (a file, or the run folder that holds it); see `read_record`."""
    return read_record(path / RESULT_FILE if path.is_dir() else path)[1]


def read_record(file: Path) -> tuple[bytes, RunResult]:
    """Read and validate the result in `file`; return its bytes and what they say.

    Raises:
        PeerWattError: it is missing, too large, or not a valid result.
    """
    raw = read_small(file, MAX_RESULT_BYTES)
    try:
        return raw, RunResult.model_validate_json(raw, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = shown(".".join(str(part) for part in problem["loc"]), 200)
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        text = f"{field}: {problem['msg']}" if field else problem["msg"]
        mend = "remove its folder, or repeat the run with --again"
        raise PeerWattError(f"{file}: {text}{more}; {mend}.") from None
