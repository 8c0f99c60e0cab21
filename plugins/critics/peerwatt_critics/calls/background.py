"""An event loop in a thread of its own, so that callers may or may not run one themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")

GOODBYE = 5.0
"""Seconds that closing may take."""

new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop


class Background:
    """Runs coroutines for a caller who waits.

    The caller waits interruptibly: what a signal raises in her thread ends the waiting at once and
    cancels the coroutine. The thread never keeps the process alive.
    """

    def __init__(self) -> None:
        self._loop = new_loop()
        self._thread = Thread(target=self._loop.run_forever, name="critic", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns, or raise what it raises."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Cancel everything, await `last` for a while, and end the thread."""
        if self._loop.is_closed():
            return
        goodbye = asyncio.run_coroutine_threadsafe(self._end(last), self._loop)
        with suppress(Exception):
            goodbye.result(2 * GOODBYE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(GOODBYE)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self, last: Callable[[], Awaitable[None]]) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        async with asyncio.timeout(GOODBYE):
            await last()
