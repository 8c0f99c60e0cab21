"""Exchanges and answers, written to the transcript of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import CriticSession
from peerwatt_critics.calls.cache import Scores, digest
from peerwatt_critics.calls.costs import Usage
from peerwatt_critics.calls.exchange import Reply, Request
from peerwatt_critics.calls.redact import Redact


def question(canonical: str, repeat: int) -> str:
    """Return the name of a question in transcripts."""
    return digest([canonical, repeat])


class Journal:
    """Writes a run's exchanges as they end, and its answers in the order of the questions."""

    def __init__(self, session: CriticSession, redact: Redact) -> None:
        self._transcript = session.transcript
        self._path = session.path
        self._repeat = session.repeat
        self._redact = redact
        self._first: tuple[Mapping[str, str], ...] | None = None

    def exchange(
        self,
        request: Request,
        *,
        key: str,
        attempt: int,
        repair: bool,
        usage: Usage,
        seconds: float,
        reply: Reply | None,
        problem: str = "",
        detail: str = "",
    ) -> None:
        """Write one request and what came of it; `problem` is the reason if that is no answer.

        Leading messages that are those of the first exchange are not written again: `same` is
        their number.
        """
        first = self._first or ()
        same = next(
            (
                index
                for index, message in enumerate(request.messages)
                if index >= len(first) or message != first[index]
            ),
            len(request.messages),
        )
        self._first = self._first or request.messages
        dollars = None if usage.nanodollars is None else usage.nanodollars / 1e9
        self._write(
            "exchange",
            request=key,
            same=same,
            messages=[
                {name: self._redact(text) for name, text in message.items()}
                for message in request.messages[same:]
            ],
            attempt=attempt,
            repair=repair,
            reply=None if reply is None else reply.text,
            finish=None if reply is None else reply.finish,
            model=None if reply is None else reply.model,
            problem=problem or None,
            detail=detail or None,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            dollars=dollars,
            seconds=round(seconds, 6),
        )

    def answer(
        self, canonical: str, scores: Scores | None, reason: str, source: str | None
    ) -> None:
        """Write what became of a question, and whether "call" or "cache" had the answer."""
        self._write(
            "answer",
            question=question(canonical, self._repeat),
            scores=scores,
            reason=reason or None,
            source=source,
        )

    def _write(self, kind: str, **content: Any) -> None:
        if self._transcript is None:
            return
        try:
            self._transcript.write(kind, self._path, content)
        except OSError as error:
            raise PeerWattError(
                f"transcript {self._transcript.file}: cannot be written ({error.strerror}); make "
                "room, or name another folder with --results, and start the run again."
            ) from None
