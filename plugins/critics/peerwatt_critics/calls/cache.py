"""Replies and answers that were paid for, by the SHA-256 of what was asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from peerwatt.errors import PeerWattError, shown
from peerwatt_critics.calls.database import Database
from peerwatt_critics.calls.exchange import Reply

Scores = tuple[float, float, float, float]
"""FTG, FBS, FPP and FTB."""


def scores_of(content: Any) -> Scores | None:
    """Return what JSON holds if it is four numbers from 0 to 1, else None."""
    if not isinstance(content, list) or len(content) != 4:
        return None
    if not all(type(value) in (int, float) and 0 <= value <= 1 for value in content):
        return None
    ftg, fbs, fpp, ftb = map(float, content)
    return ftg, fbs, fpp, ftb


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
        """Return the answers that are there, by key.

        Raises:
            PeerWattError: one of them is none.
        """
        found: dict[str, Scores] = {}
        with self._database.reading() as connection:
            for start in range(0, len(keys), 500):
                some = keys[start : start + 500]
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT key, scores FROM answers WHERE key IN ({marks})", some
                )
                for key, text in rows:
                    scores = scores_of(_read(text))
                    if scores is None:
                        raise self._damaged(f"an answer that is not four numbers: {text!r}")
                    found[key] = scores
        return found

    def keep_answers(self, answers: Mapping[str, Scores]) -> None:
        """Keep valid answers; the first to a question stays."""
        rows = [(key, json.dumps(scores)) for key, scores in answers.items()]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", rows)

    def reply(self, key: str) -> Reply | None:
        """Return the reply to a request, if there is one.

        Raises:
            PeerWattError: it is none.
        """
        with self._database.reading() as connection:
            row = connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        content = _read(row[0])
        if not isinstance(content, dict) or set(content) != _REPLY:
            raise self._damaged(f"a reply that is none: {row[0]!r}")
        reply = Reply(**content)
        texts = (reply.text, reply.finish, reply.model)
        if not all(isinstance(text, str) for text in texts) or type(reply.refusal) is not bool:
            raise self._damaged(f"a reply that is none: {row[0]!r}")
        return reply

    def _damaged(self, what: str) -> PeerWattError:
        return PeerWattError(
            f"critic.cache {self._database.file}: holds {shown(what, 80)}; delete the file, or "
            "name another."
        )

    def keep_reply(self, key: str, reply: Reply) -> None:
        """Keep a reply; the first to a request stays."""
        # JSON in ASCII, for a server may send half of a surrogate pair.
        text = json.dumps(dataclasses.asdict(reply))
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, text))


_REPLY = {field.name for field in dataclasses.fields(Reply)}


def _read(text: Any) -> Any:
    """Return the JSON value that a row holds; None if that is no JSON."""
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
