"""The reply that is asked of a model: its JSON schema, and a strict reader of what comes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from peerwatt.errors import shown

SCORES = ("ftg", "fbs", "fpp", "ftb")
RATIONALE = "rationale"

MOST_CHARACTERS = 4_000
"""Longest reply that is read, per slot."""

MOST_OF_RATIONALE = 300


class Answer(NamedTuple):
    """What a model said of one slot."""

    scores: tuple[float, float, float, float]
    """FTG, FBS, FPP and FTB in [0, 1]."""
    rationale: str | None


class InvalidReply(Exception):
    """A reply that is not what was asked for.

    Attributes:
        reason: a short name by which such replies are counted: "not-json", "prose" (around JSON),
            "type", "keys", "range", "count" (of another number of markets) or "too-long".
        text: what is wrong, in a sentence.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


def names(count: int) -> list[str]:
    """Return what the markets of one call are called, in their order."""
    return [f"m{number}" for number in range(1, count + 1)]


def schema(count: int, scale: int, rationale: bool) -> dict[str, Any]:
    """Return the JSON Schema of a reply on `count` markets with integer scores from 0 to `scale`.

    It keeps to what all strict modes and grammars understand: every property required, none added,
    and an enumeration in place of limits.
    """
    properties: dict[str, Any] = {RATIONALE: {"type": "string"}} if rationale else {}
    properties |= {name: {"$ref": "#/$defs/score"} for name in SCORES}
    definitions: dict[str, Any] = {
        "score": {"type": "integer", "enum": list(range(scale + 1))},
    }
    market = _object(properties)
    if count == 1:
        return market | {"$defs": definitions}
    definitions["market"] = market
    markets = {name: {"$ref": "#/$defs/market"} for name in names(count)}
    return _object(markets) | {"$defs": definitions}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def render(answers: Iterable[Answer], scale: int, rationale: bool) -> Any:
    """Return the reply that says `answers`, as `parse` reads it."""
    replies = []
    for answer in answers:
        reply: dict[str, Any] = {RATIONALE: answer.rationale or ""} if rationale else {}
        scores = zip(SCORES, answer.scores, strict=True)
        replies.append(reply | {name: round(score * scale) for name, score in scores})
    return replies[0] if len(replies) == 1 else dict(zip(names(len(replies)), replies, strict=True))


def parse(text: str, count: int, scale: int, rationale: bool) -> list[Answer]:
    """Return the answers in a reply on `count` markets, in the order of `names(count)`.

    Raises:
        InvalidReply: it is not exactly what `schema` describes.
    """
    most = MOST_CHARACTERS * count
    if len(text) > most:
        raise InvalidReply("too-long", f"the reply has {len(text):,} characters, above {most:,}.")
    reply = _read(text.strip())
    if not isinstance(reply, dict):
        raise InvalidReply("type", f"the reply is a {type(reply).__name__}, not an object.")
    numbered = bool(reply) and all(re.fullmatch(r"m\d+", key) for key in reply)
    expected = names(count)
    if numbered and (count == 1 or set(reply) != set(expected)):
        raise InvalidReply("count", f"the reply is about {len(reply)} markets, not {count}.")
    if count == 1:
        return [_answer(reply, scale, rationale)]
    if set(reply) == _keys(rationale):
        raise InvalidReply("count", f"the reply is about one market, not {count}.")
    _require_keys(reply, set(expected))
    return [_answer(reply[name], scale, rationale) for name in expected]


def _keys(rationale: bool) -> set[str]:
    return {*SCORES, RATIONALE} if rationale else set(SCORES)


def _require_keys(reply: Mapping[str, Any], expected: set[str]) -> None:
    missing, unknown = expected - set(reply), set(reply) - expected
    if missing or unknown:
        what = [f"lacks {', '.join(sorted(missing))}"] if missing else []
        what += [f"has the key '{shown(min(unknown), 40)}'"] if unknown else []
        raise InvalidReply("keys", f"the reply {' and '.join(what)}.")


def _answer(reply: Any, scale: int, rationale: bool) -> Answer:
    if not isinstance(reply, dict):
        raise InvalidReply("type", f"a market's reply is a {type(reply).__name__}, not an object.")
    _require_keys(reply, _keys(rationale))
    ftg, fbs, fpp, ftb = (_score(name, reply[name], scale) for name in SCORES)
    if not rationale:
        return Answer((ftg, fbs, fpp, ftb), None)
    why = reply[RATIONALE]
    if not isinstance(why, str):
        raise InvalidReply("type", f"rationale is a {type(why).__name__}, not text.")
    return Answer((ftg, fbs, fpp, ftb), shown(why, MOST_OF_RATIONALE))


def _score(name: str, value: Any, scale: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidReply("type", f"{name} is a {type(value).__name__}, not an integer.")
    if not 0 <= value <= scale:  # infinity and numbers of any length included
        raise InvalidReply("range", f"{name} is {shown(str(value), 40)}, not within 0 to {scale}.")
    if value != int(value):  # 3.0 is an integer of JSON Schema, and some servers write it so
        raise InvalidReply("type", f"{name} is {value:g}, not an integer.")
    return int(value) / scale


def _read(text: str) -> Any:
    """Return the JSON value that `text` is."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        pass
    try:
        _DECODER.raw_decode(text, max(text.find("{"), 0))
    except (ValueError, RecursionError):
        raise InvalidReply("not-json", f"the reply is no JSON: '{shown(text, 80)}'.") from None
    raise InvalidReply("prose", f"the reply has text around its JSON: '{shown(text, 80)}'.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise InvalidReply("keys", "the reply gives a key twice.")
    return content


def _refuse(constant: str) -> Any:
    raise InvalidReply("range", f"the reply holds {constant}, which is no number.")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_refuse)
