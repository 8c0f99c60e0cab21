"""Answers of an earlier run, given again: no cache, no limit, no clock, no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import CriticUsage
from peerwatt.fairness.transcript import Recording
from peerwatt_critics.calls.cache import scores_of
from peerwatt_critics.calls.journal import question
from peerwatt_critics.calls.outcome import Outcome


class RecordedPath:
    """Takes the place of `CallPath` where answers come from a recording."""

    def __init__(self, recording: Recording, path: str, repeat: int) -> None:
        self._recording = recording
        self._path = path
        self._repeat = repeat
        self._given = 0

    def ask(self, canonical: Sequence[str]) -> list[Outcome]:
        """Return the recorded outcome of each question.

        Raises:
            PeerWattError: the recording is of other questions, or damaged.
        """
        outcomes = {
            text: self._outcome(self._recording.answer(self._path, question(text, self._repeat)))
            for text in dict.fromkeys(canonical)
        }
        self._given += sum(outcomes[text].scores is not None for text in canonical)
        return [outcomes[text] for text in canonical]

    def _outcome(self, record: dict[str, Any]) -> Outcome:
        scores, reason = record.get("scores"), record.get("reason") or ""
        if scores is None:
            return Outcome(None, shown(str(reason), 100))
        if (given := scores_of(scores)) is not None:
            return Outcome(given)
        raise PeerWattError(
            f"transcript {self._recording.file}: holds the scores '{shown(str(scores), 60)}', "
            "which are not four numbers from 0 to 1; name an unchanged transcript."
        )

    def usage_part(self) -> CriticUsage:
        """Return what was given again; nothing was paid."""
        return CriticUsage(cache_hits=self._given, dollars=0.0)

    def close(self, finished: bool) -> None:
        """Do nothing: no connection was made."""
