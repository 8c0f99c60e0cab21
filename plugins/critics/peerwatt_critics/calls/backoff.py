"""How long to wait before a request that failed is sent again.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter").
"""

from __future__ import annotations

from numpy.random import Generator

FIRST = 1.0
"""Most seconds before the first retry; it doubles with every further one."""
MOST = 60.0
MOST_ASKED = 120.0
"""Most seconds that a server's Retry-After is followed."""


def wait(attempt: int, asked: float | None, generator: Generator) -> float:
    """Return the seconds to wait after the failed `attempt`, which counts from 0.

    `asked` is what the server asked for, if it did: never less is waited, up to `MOST_ASKED`.
    """
    jitter = float(generator.uniform(0.0, min(FIRST * 2.0**attempt, MOST)))
    if asked is None or not asked > 0:
        return jitter
    # A little later, so that those who were sent away together do not come back together.
    return min(asked, MOST_ASKED) + min(jitter, FIRST)
