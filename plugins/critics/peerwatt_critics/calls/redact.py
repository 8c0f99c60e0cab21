"""Secrets are replaced before anything that could hold one is read, shown or written."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

Redact = Callable[[str], str]
"""Returns a text without secrets."""

SUSPECT = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
SHORTEST = 8
"""Shorter values are no secrets, and would be found in harmless text."""
HIDDEN = "[secret]"


def redactor(key_variable: str = "") -> Redact:
    """Return a function that hides the secrets of the environment, as it is now, in a text.

    Secrets are the values of `key_variable` and of all variables whose names say so.
    """
    secrets = {
        value
        for name, value in os.environ.items()
        if (name == key_variable or SUSPECT.search(name)) and len(value) >= SHORTEST
    }
    forms = {form for secret in secrets for form in _forms(secret) if len(form) >= SHORTEST}
    forms -= secrets  # of which every spelling is looked for
    if not secrets:
        return lambda text: text
    # The longest first, for one form may be the beginning of another.
    patterns = {form: re.escape(form) for form in forms} | {s: _spelt(s) for s in secrets}
    ordered = sorted(patterns, key=len, reverse=True)
    pattern = re.compile("|".join(patterns[form] for form in ordered), re.IGNORECASE)
    return lambda text: pattern.sub(HIDDEN, text)


def _spelt(secret: str) -> str:
    """Return a pattern of `secret` with any letter escaped, in JSON in JSON, addresses or HTML."""
    return "".join(map(_letter, secret))


def _letter(letter: str) -> str:
    code = ord(letter)
    # Only where backslashes begin, so that a reply of nothing else is read once.
    slashes = r"(?<!\\)\\+"
    ways = [re.escape(letter), rf"&#(?:0*{code}|x0*{code:x});"]
    itself = "" if letter.isalnum() else f"|{re.escape(letter)}"
    ways += [rf"{slashes}(?:u{code:04x}|x{code:02x}{itself})"]
    ways += [rf"%(?:25)*{code:02x}"] if code < 128 else []
    return f"(?:{'|'.join(ways)})"


def _forms(secret: str) -> Iterator[str]:
    """Yield how `secret` may be written: as it is, in an address, in JSON, in hex, in base64."""
    raw = secret.encode(errors="surrogateescape")
    yield raw.hex()
    yield quote(raw, safe="")
    yield quote(raw)
    yield quote_plus(raw)
    for escaped in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield escaped
        yield escaped.replace("/", "\\/")
    for before in range(3):  # other text may come before it, as in "user:password"
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Characters that hold bits of what comes before or after are left out.
            text = encode(bytes(before) + raw).rstrip(b"=").decode()
            end = len(text) - (1 if (before + len(raw)) % 3 else 0)
            yield text[(0, 2, 3)[before] : end]
