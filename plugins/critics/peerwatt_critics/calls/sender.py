"""Sends a request until there is a reply, within what may be spent."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import NamedTuple

from numpy.random import Generator

from peerwatt.errors import PeerWattError, shown, told
from peerwatt_critics.calls import backoff, costs
from peerwatt_critics.calls.costs import Usage
from peerwatt_critics.calls.exchange import Prices, Reply, Request, Transport, TransportError
from peerwatt_critics.calls.journal import Journal
from peerwatt_critics.calls.ledger import Ledger
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.redact import Redact
from peerwatt_critics.calls.tally import Tally

OPTION = {"calls": "max_calls", "tokens": "max_tokens", "nanodollars": "max_dollars"}
"""The option that sets each limit of the ledger."""

LOADING_SECONDS = 30.0


class Capped(Exception):
    """No further request may be sent in this run."""


class Sent(NamedTuple):
    """A reply, and what it took to get it."""

    reply: Reply
    attempt: int
    usage: Usage
    seconds: float


class Sender:
    """The only place from which requests leave: one retry loop, one gate for all limits."""

    def __init__(
        self,
        options: CallOptions,
        transport: Transport,
        ledger: Ledger,
        journal: Journal,
        tally: Tally,
        generator: Generator,
        redact: Redact,
    ) -> None:
        """Look up prices if a limit needs them.

        Raises:
            PeerWattError: dollars are limited and prices are not known.
        """
        self.stopped: str | None = None
        """Why no further request may be sent."""
        self._options = options
        self._transport = transport
        self._ledger = ledger
        self._journal = journal
        self._tally = tally
        self._generator = generator
        self._redact = redact
        self._under_way = 0
        self._ended = asyncio.Event()
        self._not_before = 0.0
        # Of this process alone: who starts a run again is told at once of a server that is gone.
        self._reached = False  # whether the server ever let us in
        self._replied = False
        self._prices: Prices | None = options.prices()
        self._priced = self._prices is not None
        if options.max_dollars is not None and self._known_prices() is None:
            raise PeerWattError(
                f"critic.max_dollars cannot be kept: the price of {options.model} is not known; "
                "state it with --critic.price-in and --critic.price-out, in dollars per million "
                "tokens."
            )

    def _known_prices(self) -> Prices | None:
        if not self._priced:  # late, for the client may be slow to import
            self._prices = costs.believed(self._transport.prices())
            self._priced = True
        return self._prices

    def stop(self, why: str) -> None:
        """Send nothing more; the first reason stays."""
        if self.stopped is None:
            calls = self._tally.calls
            self.stopped = f"{why}; this run made {calls:,} call{'s' * (calls != 1)}"

    async def send(self, request: Request, key: str, repair: bool) -> Sent:
        """Return the reply to `request`.

        Raises:
            TransportError: there is none, retries included.
            Capped: a limit forbids another request.
            PeerWattError: no request of this run can succeed.
        """
        most = costs.bound(request, self._known_prices())
        for attempt in range(self._options.retries + 1):
            while (left := self._not_before - self._now()) > 0:
                await asyncio.sleep(left)
            await self._reserve(most)
            self._tally.retries += attempt > 0
            start = self._now()
            try:
                reply = await self._once(request)
                usage = costs.actual(
                    reply, most, self._prices, stated=self._options.prices() is not None
                )
                self._settle(most, usage)
                seconds = self._now() - start
                self._tally.count_reply(reply.model, seconds)
                self._reached = self._replied = True
                return Sent(reply, attempt, usage, seconds)
            except TransportError as error:
                failure = error
            except asyncio.CancelledError:
                # The server may go on with it, so what was reserved for it stays spent.
                given_up = TransportError("given-up", "it was not waited for any longer")
                self._note(request, key, attempt, repair, most, start, given_up)
                raise
            finally:
                self._over()
            usage = most if failure.charged else Usage(0, 0, 0)
            self._settle(most, usage)
            self._note(request, key, attempt, repair, usage, start, failure)
            self._check_hopeless(failure)
            self._reached = self._reached or failure.reason != "connect"
            last = 1 if not self._reached else self._options.retries
            if not failure.retry or attempt >= min(last, self._options.retries):
                break
            await self._wait(attempt, failure)
        if not self._reached:
            self.stop("the server could not be reached")
            raise PeerWattError(
                f"critic: {self._say(str(failure))}: is the server running, and is critic.api_base "
                "right?"
            )
        raise failure

    def _note(
        self,
        request: Request,
        key: str,
        attempt: int,
        repair: bool,
        usage: Usage,
        start: float,
        failure: TransportError,
    ) -> None:
        """Count and write down a request without a reply."""
        self._tally.failed[failure.reason] += 1
        self._journal.exchange(
            request,
            key=key,
            attempt=attempt,
            repair=repair,
            usage=usage,
            seconds=self._now() - start,
            reply=None,
            problem=failure.reason,
            detail=self._say(str(failure)),
        )

    async def _once(self, request: Request) -> Reply:
        """Send `request` once; whatever goes wrong is a `TransportError`."""
        # Transports keep the timeout of a request; this ends a client that hangs by itself, and
        # leaves it the seconds that it may take to load.
        limit = self._options.timeout + LOADING_SECONDS
        try:
            async with asyncio.timeout(limit):
                reply = await self._transport.complete(request)
        except (TransportError, PeerWattError):
            raise
        except TimeoutError:
            text = f"no whole reply within {limit:g} s"
            raise TransportError("timeout", text, retry=True) from None
        except Exception as error:
            raise TransportError("client", told(error, 10_000)) from None
        return dataclasses.replace(
            reply,
            text=self._redact(reply.text),
            finish=self._redact(reply.finish),
            model=self._redact(reply.model),
        )

    async def _reserve(self, most: Usage) -> None:
        """Reserve the most that a request can cost, waiting for others if that may help."""
        while True:
            if self.stopped is not None:
                raise Capped
            limit = self._ledger.reserve(most.cost)
            if limit is None:
                break
            # Those under way have reserved more tokens than they are going to need.
            if limit == "calls" or not self._under_way:
                name = OPTION[limit]
                limit = f"{name} {getattr(self._options, name):,}"
                self.stop(f"{limit} of all runs of this entry reached")
                raise Capped
            await self._ended.wait()
        self._under_way += 1
        self._tally.calls += 1
        self._tally.count(most.cost)

    def _settle(self, most: Usage, usage: Usage) -> None:
        """Replace the reservation by what it came to."""
        self._ledger.settle(most.cost, usage.cost)
        self._tally.count(most.cost, -1)
        self._tally.count(usage.cost)
        is_, was = usage.cost, most.cost
        if (is_.tokens > was.tokens and self._options.max_tokens is not None) or (
            is_.nanodollars > was.nanodollars and self._options.max_dollars is not None
        ):
            self.stop(
                f"a reply used {usage.cost.tokens:,} tokens where {most.cost.tokens:,} were "
                "thought to be the most, so that no limit could be kept"
            )

    def _over(self) -> None:
        """Let those go on that wait for a request to end."""
        self._under_way -= 1
        self._ended.set()
        self._ended = asyncio.Event()

    def _check_hopeless(self, failure: TransportError) -> None:
        """End the run if the server refused before it ever replied."""
        if failure.fatal and not self._replied:
            self.stop("the server refused the first request")
            place = self._transport.identity.get("api_base") or "its provider"
            raise PeerWattError(
                f"critic: {self._options.model} at {self._say(str(place))} refused the first "
                f"request: {self._say(str(failure))}; check critic.model, critic.api_base and the "
                "key in the environment."
            )

    async def _wait(self, attempt: int, failure: TransportError) -> None:
        seconds = backoff.wait(attempt, failure.retry_after, self._generator)
        if failure.retry_after is not None:  # it is meant for everybody
            self._not_before = max(self._not_before, self._now() + seconds)
        await asyncio.sleep(seconds)

    def _say(self, text: str) -> str:
        """Return `text` of a server as one line without secrets."""
        return shown(self._redact(text))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
