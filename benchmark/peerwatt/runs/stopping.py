"""Asking a run to stop where it can go on later, and telling that it did."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class RunStopped(BaseException):
    """The run was asked to stop and did; what it had done is kept if it saves checkpoints.

    No `Exception`, so that no algorithm or critic takes it for a failure of its own.
    """


class Stop:
    """A request to stop, made once and looked at between two slots."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """Ask for it; may be called from a signal handler or another thread."""
        self.asked = True


@contextlib.contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Let SIGINT and SIGTERM ask `stop` within the block; the second one interrupts at once.

    Does nothing but in the main thread, where signals are handled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
