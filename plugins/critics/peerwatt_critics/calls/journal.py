"""Exchanges and answers, written to the transcript of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peerwatt.errors import PeerWattError
from peerwatt.fairness.session import CriticSession
from peerwatt_critics.calls.cache import digest
from peerwatt_critics.calls.costs import Usage
from peerwatt_critics.calls.exchange import Reply, Request
from peerwatt_critics.calls.outcome import Outcome
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
        if session.tail is not None and (before := session.tail.exchanges[session.path]):
            self._first = tuple(before[0]["messages"])

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
            dict(
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
                assumed=usage.assumed,
                seconds=round(seconds, 6),
            ),
        )

    def answers(
        self,
        outcomes: Sequence[tuple[str, Outcome, str | None]],
        after: Mapping[str, Any] | None,
    ) -> None:
        """Write what became of questions that were put together.

        Args:
            outcomes: canonical text, outcome, and whether "call" or "cache" had the answer.
            after: if anybody was asked, what later questions depend on; the last line tells it.
        """
        lines: list[dict[str, Any]] = [
            {
                "question": question(text, self._repeat),
                "scores": outcome.scores,
                "reason": outcome.reason or None,
                "source": source,
            }
            for text, outcome, source in outcomes
        ]
        if after is not None:
            lines[-1]["after"] = after
        self._write("answer", *lines)

    def _write(self, kind: str, *contents: Mapping[str, Any]) -> None:
        if self._transcript is None:
            return
        try:
            self._transcript.write(kind, self._path, *contents)
        except OSError as error:
            raise PeerWattError(
                f"transcript {self._transcript.file}: cannot be written ({error.strerror}); make "
                "room, or name another folder with --results, and start the run again."
            ) from None
