"""A folder of pages that is written in one piece or not at all, and replaces only its like."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from peerwatt.errors import PeerWattError

MARKER = ".peerwatt-site"
"""File that lists all files of a folder that PeerWatt made: these, and no others, it replaces."""


@contextlib.contextmanager
def replaced_at_once(out: Path, source: Path | None, what: str = "page") -> Iterator[Path]:
    """Yield an empty folder beside `out` that takes its place when the block ends without error.

    A failure leaves the old folder as it was.

    Args:
        out: the folder, resolved.
        source: folder of results, which `out` must not hold.
        what: what is written, for the sentences.

    Raises:
        PeerWattError: `out` holds the results or a file that was not written here before, or
            cannot be written.
    """
    _check_replaceable(out, source, what)
    staging = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.new"
    try:
        staging.mkdir(parents=True)
        yield staging
        written_files = sorted(path.relative_to(staging).as_posix() for path in _files(staging))
        (staging / MARKER).write_text("\n".join([*written_files, MARKER, ""]), encoding="utf-8")
        _check_replaceable(out, source, what)  # again: it took a while
        _replace(staging, out)
    except OSError as error:
        raise PeerWattError(f"{out}: the {what} cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check_replaceable(out: Path, source: Path | None, what: str) -> None:
    """Refuse to replace a folder that holds anything but what was written here before."""
    if source is not None and source.resolve().is_relative_to(out):
        raise PeerWattError(f"{out}: holds the results themselves; name another folder with --out.")
    if not out.exists():
        return
    if not out.is_dir():
        raise PeerWattError(f"{out}: is a file; name a folder with --out.")
    try:
        listed = (out / MARKER).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        listed = []
    known = {out / name for name in listed}
    for path in _files(out):
        if path not in known:
            raise PeerWattError(
                f"{out}: holds {path.relative_to(out)}, which is of no {what} built by PeerWatt; "
                "move it away or name another folder with --out."
            )


def _files(folder: Path) -> list[Path]:
    """Return all that is below `folder` but folders, in order; links are not followed."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


def _replace(staging: Path, out: Path) -> None:
    """Put `staging` in the place of `out`; on failure the old folder comes back."""
    if not out.exists():
        staging.rename(out)
        return
    old = staging.with_suffix(".old")
    out.rename(old)
    try:
        staging.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
