"""The process in which the sink of one run lives, a script that `QueuedSink` starts.

It imports nothing of PeerWatt but what finds plugins. It ends when it was told to finish, and when
the process of the run is gone, at the latest `GRACE` seconds later.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

GRACE = 10.0
"""Seconds that a sink has to end what it does when the run is gone."""


def serve(connection: Connection, grace: float) -> None:
    """Make the sink that the first message tells of, and hand it the events of the others.

    Each message is a pickled (event, content) and is answered by None, or by what went wrong; then
    nothing more is taken. `grace` is in seconds.
    """
    from peerwatt.errors import told
    from peerwatt.plugins.loader import registry

    registry()  # plugins that are single files are modules only then
    messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, messages, grace), daemon=True).start()
    sink: Any = None
    started = False
    while (message := messages.get()) is not None:
        try:
            event, content = pickle.loads(message)
            if event == "make":
                factory, options = content
                sink = factory(**options)
            else:
                getattr(sink, event)(content)
                started = True
        except (Exception, SystemExit) as error:
            connection.send(told(error))
            return
        connection.send(None)
        if event == "finish":
            return
    if started:
        sink.finish(None)


def _receive(
    connection: Connection, messages: queue.SimpleQueue[bytes | None], grace: float
) -> None:
    """Pass messages on; when the other end is gone, see to it that this process goes as well."""
    try:
        while True:
            messages.put(connection.recv_bytes())
    except (EOFError, OSError):
        messages.put(None)
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.path[:] = sys.argv[3:]
    serve(Connection(int(sys.argv[1])), float(sys.argv[2]))
