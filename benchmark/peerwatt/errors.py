"""The one exception that PeerWatt raises for bad input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PeerWattError(Exception):
    """Bad input, told in one sentence that names the value, the place and the mend.

    The command line prints the sentence to standard error and exits with code 2.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> PeerWattError:
    """Return the error for an unknown `kind` called `name`, with a did-you-mean."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}."
    return PeerWattError(f"unknown {kind} {name!r}: {hint}")


def told(error: BaseException, most: int = 300) -> str:
    """Return the type and message of `error` as one printable line of at most `most` characters."""
    try:
        text = str(error)
    except Exception:
        text = "its message cannot be read"
    return shown(f"{type(error).__name__}{': ' if text.strip() else ''}{text}", most)


def shown(text: str, most: int = 300) -> str:
    """Return `text` as one line that is safe to print: no control characters, not too long."""
    line = " ".join(text[: 4 * most].split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= most else f"{line[:most]}…"
