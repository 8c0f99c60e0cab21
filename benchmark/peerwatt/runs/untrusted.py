"""Files of folders that may come from strangers: nothing is waited for, no link is followed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from peerwatt.errors import PeerWattError

SMALL = 1_000_000
"""Bytes that a file of a few lines may have."""
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def opener(path: str | os.PathLike[str], flags: int) -> int:
    """Open the regular file `path`; for the `opener` of `open`.

    Raises:
        OSError: it is a link, a pipe, a folder or a device, or the system refuses.
    """
    try:
        descriptor = os.open(path, flags | _FLAGS, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a pipe that nobody reads
            raise OSError(error.errno, f"{Path(path).name} is no regular file", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{Path(path).name} is no regular file", str(path))
    return descriptor


def read_small(file: Path, most: int = SMALL) -> bytes:
    """Return what the regular file `file` of at most `most` bytes holds.

    Raises:
        PeerWattError: it is not there, larger, a link, a pipe, or cannot be read.
    """
    try:
        with open(file, "rb", opener=opener) as stream:
            size = os.fstat(stream.fileno()).st_size
            data = b"" if size > most else stream.read(most + 1)
    except OSError as error:
        raise PeerWattError(f"{file}: cannot be read ({error.strerror}).") from None
    if max(size, len(data)) > most:
        raise PeerWattError(f"{file}: has more than the {most:,} bytes that it may have.")
    return data


def require_plain(folder: Path) -> None:
    """Refuse to write into a `folder` that leads elsewhere; one that is not there is fine.

    Raises:
        PeerWattError: it is, or holds at any depth, anything but files and folders.
    """
    for place in (folder, *folder.rglob("*")) if os.path.lexists(folder) else ():
        mode = place.lstat().st_mode
        if not (stat.S_ISDIR(mode) or (stat.S_ISREG(mode) and place != folder)):
            raise PeerWattError(
                f"{place} is a link, a pipe or a device, which no run makes: remove {folder} and "
                "start the same command again."
            )
