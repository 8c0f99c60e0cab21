"""Answers of an earlier run, given again: no cache, no limit, no clock, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import CriticUsage
from peerwatt.fairness.transcript import Recording
from peerwatt_critics.calls.cache import scores_of
from peerwatt_critics.calls.journal import question
from peerwatt_critics.calls.outcome import Outcome


def recorded(recording: Recording, path: str, question: str) -> tuple[Outcome, Mapping[str, Any]]:
    """Return the next outcome that the critic at `path` got, and the line that tells it.

    Raises:
        PeerWattError: the recording is of other questions, or damaged.
    """
    record = recording.answer(path, question)
    scores, reason = record.get("scores"), record.get("reason") or ""
    if scores is None:
        return Outcome(None, shown(str(reason), 100)), record
    if (given := scores_of(scores)) is not None:
        return Outcome(given), record
    raise PeerWattError(
        f"transcript {recording.file}: holds the scores '{shown(str(scores), 60)}', "
        "which are not four numbers from 0 to 1; name an unchanged transcript."
    )


class RecordedPath:
    """Takes the place of `CallPath` where answers come from a recording."""

    def __init__(self, recording: Recording, path: str, repeat: int) -> None:
        self._recording = recording
        self._path = path
        self._repeat = repeat
        self._questions = self._given = 0

    def ask(self, canonical: Sequence[str]) -> list[Outcome]:
        """Return the recorded outcome of each question.

        Raises:
            PeerWattError: the recording is of other questions, or damaged.
        """
        outcomes = {
            text: recorded(self._recording, self._path, question(text, self._repeat))[0]
            for text in dict.fromkeys(canonical)
        }
        self._questions += len(outcomes)
        self._given += sum(outcomes[text].scores is not None for text in canonical)
        return [outcomes[text] for text in canonical]

    def state(self) -> dict[str, Any]:
        """Return how far the recording was given."""
        return {"questions": self._questions, "given": self._given}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            PeerWattError: the recording has no such place.
        """
        self._questions, self._given = state["questions"], state["given"]
        self._recording.skip(self._path, self._questions)

    def usage_part(self) -> CriticUsage:
        """Return what was given again; nothing was paid."""
        return CriticUsage(cache_hits=self._given, dollars=0.0)

    def close(self, finished: bool) -> None:
        """Do nothing: no connection was made."""
