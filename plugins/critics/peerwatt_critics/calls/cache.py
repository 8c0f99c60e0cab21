"""Replies and answers that were paid for, by the SHA-256 of what was asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from peerwatt_critics.calls.database import Database
from peerwatt_critics.calls.exchange import Reply

Scores = tuple[float, float, float, float]
"""FTG, FBS, FPP and FTB."""


def digest(content: Any) -> str:
    """Return the SHA-256 of `content` as JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class AnswerCache:
    """Keeps replies as they came, valid or not, and the valid answers that they held.

    A reply belongs to a whole request; it is kept so that a run that was killed pays for none
    twice. An answer belongs to a slot, whichever other slots shared its request.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def answers(self, keys: Sequence[str]) -> dict[str, Scores]:
        """Return the answers that are there, by key."""
        found: dict[str, Scores] = {}
        with self._database.reading() as connection:
            for start in range(0, len(keys), 500):
                some = keys[start : start + 500]
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT key, scores FROM answers WHERE key IN ({marks})", some
                )
                found.update((key, tuple(json.loads(scores))) for key, scores in rows)
        return found

    def keep_answers(self, answers: Mapping[str, Scores]) -> None:
        """Keep valid answers; the first to a question stays."""
        rows = [(key, json.dumps(scores)) for key, scores in answers.items()]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    def reply(self, key: str) -> Reply | None:
        """Return the reply to a request, if there is one."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else Reply(**json.loads(row[0]))

    def keep_reply(self, key: str, reply: Reply) -> None:
        """Keep a reply; the first to a request stays."""
        # JSON in ASCII, for a server may send half of a surrogate pair.
        text = json.dumps(dataclasses.asdict(reply))
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, text))
