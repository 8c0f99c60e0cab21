"""What the runs of an entry have spent together, and what they may still spend."""

from __future__ import annotations

from dataclasses import dataclass
from sqlite3 import Connection
from typing import NamedTuple

from peerwatt_critics.calls.database import Database


class Cost(NamedTuple):
    """What requests cost. Money is whole, so that reserving and settling add up exactly."""

    calls: int = 0
    tokens: int = 0
    nanodollars: int = 0
    prompt_tokens: int = 0
    """Those of the `tokens` that were sent."""
    unpriced: int = 0
    """Requests whose price is not known."""
    assumed: int = 0
    """Requests whose tokens are only known to be at most so many."""


COLUMNS = ", ".join(Cost._fields)
SUMS = ", ".join(f"sum({name})" for name in Cost._fields)
CHANGES = ", ".join(f"{name} = {name} + ?" for name in Cost._fields)


@dataclass(frozen=True)
class Limits:
    """Most that all runs of an entry may spend together; None: as much as they like."""

    calls: int | None = None
    tokens: int | None = None
    nanodollars: int | None = None


class Ledger:
    """The account of one run, in a file that it shares with the other runs of its entry.

    A cost is reserved at its upper bound before a request is sent and settled at what it was
    afterwards. What a killed process had reserved stays spent, for it may have been.
    """

    def __init__(
        self,
        database: Database,
        limits: Limits,
        *,
        entry: str,
        critic: str,
        run: str,
        fresh: bool,
    ) -> None:
        """Open the account; `critic` tells critics inside one another apart.

        `fresh` forgets what the run had spent before.
        """
        self._database = database
        self._limits = limits
        self._critic = (entry, critic)
        self._run = (entry, critic, run)
        with database.transaction() as connection:
            connection.execute(
                f"INSERT OR {'REPLACE' if fresh else 'IGNORE'} INTO spent (entry, critic, run) "
                "VALUES (?, ?, ?)",
                self._run,
            )

    def reserve(self, cost: Cost) -> str | None:
        """Take `cost` from what is left, or return the name of the limit that forbids it."""
        with self._database.transaction() as connection:
            spent = connection.execute(
                f"SELECT {SUMS} FROM spent WHERE entry = ? AND critic = ?", self._critic
            ).fetchone()
            for name, before, more in zip(Cost._fields, spent, cost, strict=True):
                limit = getattr(self._limits, name, None)
                if limit is not None and before + more > limit:
                    return name
            self._add(connection, cost)
        return None

    def settle(self, reserved: Cost, actual: Cost) -> None:
        """Replace what was reserved for a request by what it cost."""
        change = Cost(*(is_ - was for is_, was in zip(actual, reserved, strict=True)))
        with self._database.transaction() as connection:
            self._add(connection, change)

    def _add(self, connection: Connection, cost: Cost) -> None:
        connection.execute(
            f"UPDATE spent SET {CHANGES} WHERE entry = ? AND critic = ? AND run = ?",
            (*cost, *self._run),
        )

    def spent(self) -> Cost:
        """Return what all runs of the entry have spent, reservations included."""
        with self._database.reading() as connection:
            return Cost(
                *connection.execute(
                    f"SELECT {SUMS} FROM spent WHERE entry = ? AND critic = ?", self._critic
                ).fetchone()
            )

    def own(self) -> Cost:
        """Return what this run has spent, earlier attempts and reservations included."""
        with self._database.reading() as connection:
            return Cost(
                *connection.execute(
                    f"SELECT {COLUMNS} FROM spent WHERE entry = ? AND critic = ? AND run = ?",
                    self._run,
                ).fetchone()
            )

    def waited(self) -> float:
        """Return the seconds that this run has waited, earlier attempts included."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT seconds FROM spent WHERE entry = ? AND critic = ? AND run = ?", self._run
            ).fetchone()
        return float(row[0])

    def add_waiting(self, seconds: float) -> None:
        """Count seconds that this run waited."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE spent SET seconds = seconds + ? WHERE entry = ? AND critic = ? AND run = ?",
                (seconds, *self._run),
            )
