"""One SQLite file that runs share, several processes at a time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from peerwatt.errors import PeerWattError, shown

VERSION = 2
WAIT = 60.0
"""Seconds to wait for other processes to end their transactions, which are short."""

TABLES = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, scores TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    entry TEXT NOT NULL,
    critic TEXT NOT NULL,
    run TEXT NOT NULL,
    calls INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    nanodollars INTEGER NOT NULL DEFAULT 0,
    prompt_tokens INTEGER NOT NULL DEFAULT 0,
    unpriced INTEGER NOT NULL DEFAULT 0,
    assumed INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (entry, critic, run)
) WITHOUT ROWID;
"""


class Database:
    """A connection that threads may share, one transaction at a time."""

    def __init__(self, file: Path | None) -> None:
        """Open `file`, making it if need be; None is a database in memory.

        Raises:
            PeerWattError: the file cannot be used.
        """
        self.file = file
        self._lock = Lock()
        with self._told():
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                file or ":memory:", timeout=WAIT, isolation_level=None, check_same_thread=False
            )
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self._told():
            # Readers never wait for a writer, and what is committed outlives the process.
            self._write_ahead()
            self._connection.execute("PRAGMA synchronous = NORMAL")
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            known = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and known == 0:
                for statement in filter(str.strip, TABLES.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise PeerWattError(
                    f"critic.cache {self.file}: is no cache of this version of PeerWatt; name "
                    "another file, or delete it."
                )

    def _write_ahead(self) -> None:
        """Set the journal's mode; SQLite does not wait here for others who open the file."""
        until = time.monotonic() + WAIT
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection with the database locked for writing; commit without error.

        Raises:
            PeerWattError: the file cannot be read or written.
        """
        with self._lock, self._told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite ends it itself if the disk is full
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for single statements that read.

        Raises:
            PeerWattError: the file cannot be read.
        """
        with self._lock, self._told():
            yield self._connection

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite or the disk refuses into one sentence."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            cause = shown(getattr(error, "strerror", None) or str(error))
            raise PeerWattError(
                f"critic.cache {self.file or 'in memory'}: cannot be used ({cause}); name another "
                'file, or "none" to keep no answers.'
            ) from None
