"""From questions to answers: cache, batches, requests, validation, repair, transcript."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.session import CriticSession, CriticUsage
from peerwatt_critics.calls import costs
from peerwatt_critics.calls.background import Background
from peerwatt_critics.calls.cache import AnswerCache, digest
from peerwatt_critics.calls.costs import NANO
from peerwatt_critics.calls.database import Database
from peerwatt_critics.calls.exchange import Reply, Request, Transport, TransportError
from peerwatt_critics.calls.journal import Journal, question
from peerwatt_critics.calls.ledger import Cost, Ledger, Limits
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.outcome import Outcome
from peerwatt_critics.calls.recorded import recorded
from peerwatt_critics.calls.redact import Redact
from peerwatt_critics.calls.sender import Capped, Sender
from peerwatt_critics.calls.tally import Tally
from peerwatt_critics.prompting import Answer, InvalidReply, Prompt

CAPPED = Outcome(None, "capped")
LONGEST = 65_536
"""Characters of a reply that are read and kept; a longer one is invalid."""
CUT_SHORT = ("length", "max_tokens")
DECLINED = ("content_filter", "refusal", "safety")
"""How servers name the end of a reply that is no answer."""


class CallPath:
    """Answers questions, canonical texts of slots, by asking a model."""

    def __init__(
        self,
        options: CallOptions,
        prompt: Prompt,
        transport: Transport,
        session: CriticSession,
        *,
        redact: Redact,
    ) -> None:
        """Open cache and account; nothing is sent yet.

        Raises:
            PeerWattError: the cache cannot be used, or dollars are limited and prices unknown.
        """
        self._options = options
        self._prompt = prompt
        self._transport = transport
        self._redact = redact
        self._presentation = session.presentation
        self._background: Background | None = None
        self._semaphore = asyncio.Semaphore(options.concurrency)
        self._failures = 0  # questions in a row
        self._fresh: set[str] = set()  # of the questions at hand, those that the model was asked
        self._session = session
        self._questions = 0  # distinct ones, over all calls of `ask`
        self._tally = Tally()
        self._journal = Journal(session, redact)
        self._identity = {
            **transport.identity,
            "temperature": options.temperature,
            "model_seed": options.model_seed,
            "response_format": options.response_format,
            "repeat": session.repeat,
        }
        self._setting = digest(
            [
                self._identity,
                prompt.digest,
                prompt.schema(options.slots_per_call, options.rationale),
                [options.slots_per_call, options.reply_tokens, options.rationale],
                dataclasses.asdict(session.presentation),
            ]
        )
        file = options.cache_file(session.store)
        shared = Database(file)
        self._databases = [shared]
        self._cache = None if file is None else AnswerCache(shared)
        if not session.entry and file is not None:  # nobody to share an account with
            self._databases.append(Database(None))
        try:
            self._ledger = Ledger(
                self._databases[-1],
                Limits(
                    options.max_calls,
                    options.max_tokens,
                    None if options.max_dollars is None else int(options.max_dollars * NANO),
                ),
                entry=session.entry,
                critic=session.account or session.path,
                run=f"{session.run} {session.path}" if session.account else session.run,
                fresh=session.fresh,
            )
            if self._databases[-1].file is None:  # the account died with the process
                self._take_up_account()
            self._waited = self._ledger.waited()
            if session.cumulative:
                before = self._ledger.own()
                self._tally.calls += before.calls
                self._tally.count(before)
                self._tally.seconds += self._waited
            if session.tail is not None:
                for exchange in session.tail.exchanges[session.path]:
                    self._tally.count_again(exchange)
            self._sender = Sender(
                options,
                transport,
                self._ledger,
                self._journal,
                self._tally,
                session.generator.spawn(1)[0],
                redact,
            )
        except BaseException:
            self._close_databases()
            raise

    def _take_up_account(self) -> None:
        """Enter what a run that goes on had spent, as its transcript tells."""
        tail, path = self._session.tail, self._session.path
        if tail is None:
            return
        for exchange in tail.exchanges[path]:
            self._ledger.settle(Cost(), costs.told(exchange).cost)
        waited = [line["after"]["waited"] for line in tail.upcoming(path) if "after" in line]
        self._ledger.add_waiting(waited[-1] if waited else 0.0)

    def ask(self, canonical: Sequence[str]) -> list[Outcome]:
        """Return what becomes of each question; equal ones are put once.

        Raises:
            PeerWattError: no request of the run can succeed, a limit is to end the run, cache or
                transcript cannot be written, or the run goes on otherwise than its transcript.
        """
        distinct = list(dict.fromkeys(canonical))
        self._fresh.clear()
        outcomes = self._again(distinct)
        if len(outcomes) < len(distinct):
            outcomes |= self._anew(distinct[len(outcomes) :])
        self._questions += len(distinct)
        answered = sum(outcomes[text].scores is not None for text in canonical)
        paid = sum(outcomes[text].scores is not None for text in self._fresh)
        self._tally.cache_hits += answered - paid
        return [outcomes[text] for text in canonical]

    def _again(self, distinct: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes of the first questions that an interrupted run had got already."""
        outcomes: dict[str, Outcome] = {}
        session = self._session
        for text in distinct:
            if session.tail is None or session.tail.ended(session.path):
                break
            name = question(text, session.repeat)
            outcomes[text], line = recorded(session.tail, session.path, name)
            if line.get("source") == "call":
                self._fresh.add(text)
            if (after := line.get("after")) is not None:
                self._failures, self._sender.stopped = after["failures"], after["stopped"]
        return outcomes

    def _anew(self, distinct: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes of questions that cache or model must answer; write them down."""
        outcomes = self._known(distinct)
        missing = [text for text in distinct if text not in outcomes]
        after = None
        if missing and self._sender.stopped is None:
            if self._background is None:
                self._background = Background()
            outcomes |= self._background.run(self._answer(missing))
            after = {
                "failures": self._failures,
                "stopped": self._sender.stopped,
                "waited": round(self._waited, 6),
            }
        left_out = [text for text in missing if outcomes.setdefault(text, CAPPED) == CAPPED]
        if left_out and self._options.on_cap == "stop":
            raise PeerWattError(
                f"critic: {self._sender.stopped}; all answers so far are kept: raise the limit and "
                "start the run again, or go on without answers by --critic.on-cap fallback."
            )
        sources = {text: "call" if text in self._fresh else "cache" for text in distinct}
        self._journal.answers(
            [
                (text, outcomes[text], None if outcomes[text] == CAPPED else sources[text])
                for text in distinct
            ],
            after,
        )
        return outcomes

    def state(self) -> dict[str, Any]:
        """Return what later answers and counts depend on, but for what transcript and account tell.

        What the model was asked and what that cost is never taken back, so that is not part of it.
        """
        return {
            "questions": self._questions,
            "failures": self._failures,
            "stopped": self._sender.stopped,
            "cache_hits": self._tally.cache_hits,
            "dropped": list(self._transport.dropped),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`: what was answered since then is given again from the transcript.

        Raises:
            PeerWattError: the transcript does not reach as far.
        """
        self._questions, self._failures = state["questions"], state["failures"]
        self._sender.stopped = state["stopped"]
        self._tally.cache_hits = state["cache_hits"]
        self._transport.dropped = tuple(state["dropped"])
        if self._session.tail is not None:
            self._session.tail.skip(self._session.path, self._questions)

    def usage_part(self) -> CriticUsage:
        """Return the counts of calls so far; those of slots are left at 0."""
        return self._tally.usage(self._sender.stopped, tuple(self._transport.dropped))

    def close(self, finished: bool) -> None:
        """Give up what is under way and close all connections; a second call does nothing."""
        if self._background is not None:
            self._background.close(self._transport.close)
        self._close_databases()

    def _close_databases(self) -> None:
        for database in self._databases:
            database.close()

    def _key(self, text: str) -> str:
        return digest([self._setting, text])

    def _known(self, distinct: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes of questions that were answered before."""
        if self._cache is None:
            return {}
        keys = {self._key(text): text for text in distinct}
        found = self._cache.answers(list(keys))
        return {keys[key]: Outcome(scores) for key, scores in found.items()}

    async def _answer(self, questions: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes of questions, those that the time did not suffice for left out."""
        limit = self._options.max_seconds
        left = None if limit is None else limit - self._waited
        if left is not None and left <= 0:
            self._sender.stop(f"max_seconds {limit:,g} reached")
            return {}
        loop = asyncio.get_running_loop()
        start = loop.time()
        size = self._options.slots_per_call
        tasks = [
            asyncio.create_task(self._batch(questions[first : first + size]))
            for first in range(0, len(questions), size)
        ]
        try:
            done, pending = await asyncio.wait(
                tasks, timeout=left, return_when=asyncio.FIRST_EXCEPTION
            )
            results = [task.result() for task in done]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            seconds = loop.time() - start
            self._waited += seconds
            self._tally.seconds += seconds
            self._ledger.add_waiting(seconds)
        if pending:
            self._sender.stop(f"max_seconds {limit:,g} reached")
        return {text: outcome for some in results for text, outcome in some.items()}

    async def _batch(self, questions: Sequence[str]) -> dict[str, Outcome]:
        """Return the outcomes of questions that share a request."""
        async with self._semaphore:
            try:
                answers = await self._answers(questions)
            except Capped:
                return dict.fromkeys(questions, CAPPED)
            except (InvalidReply, TransportError) as error:
                self._failures += len(questions)
                if self._failures >= self._options.give_up_after:
                    last = shown(self._redact(str(error)), 90)
                    self._sender.stop(
                        f"gave up after {self._failures:,} failures in a row (last: {last})"
                    )
                return dict.fromkeys(questions, Outcome(None, error.reason))
            self._failures = 0
            scores = [answer.scores for answer in answers]
            if self._cache is not None:
                keys = map(self._key, questions)
                self._cache.keep_answers(dict(zip(keys, scores, strict=True)))
            return dict(zip(questions, map(Outcome, scores), strict=True))

    async def _answers(self, questions: Sequence[str]) -> list[Answer]:
        """Return valid answers, after one repair if need be.

        Raises:
            InvalidReply: the model gave none.
            TransportError: it gave no reply.
            Capped: it may not be asked.
        """
        request = self._prompt.request(
            questions,
            presentation=self._presentation,
            rationale=self._options.rationale,
            reply_tokens=self._options.reply_tokens,
        )
        try:
            return await self._exchange(request, questions, repair=False)
        except InvalidReply as error:
            if error.reason == "refused":
                raise
            again = self._prompt.repair(request, error)
        return await self._exchange(again, questions, repair=True)

    async def _exchange(
        self, request: Request, questions: Sequence[str], repair: bool
    ) -> list[Answer]:
        """Return the answers of one reply, from the cache or the model."""
        key = digest([self._identity, dataclasses.asdict(request)])
        kept = None if self._cache is None else self._cache.reply(key)
        if kept is not None:
            return self._read(kept, questions)
        try:
            sent = await self._sender.send(request, key, repair)
        except TransportError:
            self._fresh.update(questions)
            raise
        reply = dataclasses.replace(sent.reply, text=sent.reply.text[: LONGEST + 1])
        if self._cache is not None:
            self._cache.keep_reply(key, reply)
        self._fresh.update(questions)
        problem, detail = "", ""
        try:
            answers = self._read(reply, questions)
            self._tally.repaired += repair
            return answers
        except InvalidReply as error:
            problem, detail = error.reason, shown(error.text)
            self._tally.invalid[problem] += 1
            raise
        finally:
            self._journal.exchange(
                request,
                key=key,
                attempt=sent.attempt,
                repair=repair,
                usage=sent.usage,
                seconds=sent.seconds,
                reply=reply,
                problem=problem,
                detail=detail,
            )

    def _read(self, reply: Reply, questions: Sequence[str]) -> list[Answer]:
        """Return the answers in a reply.

        Raises:
            InvalidReply: it holds none, whatever the server said of the schema.
        """
        if reply.refusal or reply.finish in DECLINED:
            raise InvalidReply("refused", "the model declined to answer")
        if reply.finish in CUT_SHORT:
            raise InvalidReply("truncated", "the reply ends at the limit of tokens")
        if len(reply.text) > LONGEST:
            raise InvalidReply("too-long", f"the reply has more than {LONGEST:,} characters")
        return self._prompt.parse(
            reply.text,
            questions,
            presentation=self._presentation,
            rationale=self._options.rationale,
        )
