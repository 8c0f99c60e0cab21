"""A model in memory that follows a script, a tiny prompt, and time that passes without waiting."""

import asyncio
import dataclasses
import hashlib
import inspect
import json
from dataclasses import dataclass, field

import numpy as np

from peerwatt.fairness.session import CriticSession
from peerwatt_critics.calls.exchange import Reply, Request
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.path import CallPath
from peerwatt_critics.calls.redact import redactor
from peerwatt_critics.prompting import Answer, InvalidReply


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else is to be done."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]
        if timers and not self._ready:
            self.now = max(self.now, min(timers))
        super()._run_once()


def truth(text):
    """The scores that the scripted model gives to a question."""
    return tuple(byte / 255 for byte in hashlib.sha256(text.encode()).digest()[:4])


def valid(request):
    """What the scripted model replies if nothing goes wrong."""
    questions = json.loads(request.messages[-1]["content"])
    return json.dumps([truth(question) for question in questions])


def reply(text, **fields):
    return Reply(
        **{
            "text": text,
            "finish": "stop",
            "model": "scripted-1",
            "prompt_tokens": 20,
            "completion_tokens": 5,
            **fields,
        }
    )


class TinyPrompt:
    """Questions are any texts; a slot is asked about by its volume and surplus."""

    name = "tiny"
    digest = "0" * 64
    view = "tiny"
    scale = 1
    paraphrase = ""

    def canonical(self, slots):
        rows = zip(slots.volume, slots.surplus, strict=True)
        return [json.dumps([float(volume), surplus.tolist()]) for volume, surplus in rows]

    def schema(self, count, rationale):
        return {"type": "array", "minItems": count}

    def request(self, canonical, *, presentation, rationale, reply_tokens):
        messages = (
            {"role": "system", "content": f"Score markets. {rationale} {presentation}"},
            {"role": "user", "content": json.dumps(list(canonical))},
        )
        return Request(messages, self.schema(len(canonical), rationale), reply_tokens)

    def parse(self, text, canonical, *, presentation, rationale):
        try:
            rows = json.loads(text)
        except ValueError:
            raise InvalidReply("not-json", "no JSON") from None
        if len(rows) != len(canonical):
            raise InvalidReply("count", "another number")
        return [Answer(tuple(row), None) for row in rows]

    def repair(self, request, error):
        *before, last = request.messages
        told = {"role": "system", "content": f"Wrong: {error.reason}."}
        return dataclasses.replace(request, messages=(*before, told, last))


@dataclass
class ScriptedTransport:
    """Replies validly after `takes` seconds unless the script has something else.

    An entry of the script, one per request, may be an exception, a `Reply`, a text or None, or a
    function of the request that returns one of these, awaitable or not.
    """

    script: list = field(default_factory=list)
    takes: float = 1.0
    known_prices: tuple | None = None
    identity: dict = field(
        default_factory=lambda: {"client": "scripted", "api_base": "memory", "model": "scripted"}
    )
    dropped: tuple = ()
    requests: list = field(default_factory=list)
    times: list = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    closed: int = 0

    def prices(self):
        return self.known_prices

    async def complete(self, request):
        number = len(self.requests)
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._follow(number, request)
        finally:
            self.under_way -= 1

    async def _follow(self, number, request):
        await asyncio.sleep(self.takes)
        step = self.script[number] if number < len(self.script) else None
        if callable(step):
            step = step(request)
        if inspect.isawaitable(step):
            step = await step
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, Reply):
            return step
        return reply(valid(request) if step is None else step)

    async def close(self):
        self.closed += 1


def session(**fields):
    return CriticSession(**{"generator": np.random.default_rng(0), **fields})


def open_path(transport, options=None, **fields):
    return CallPath(
        options or CallOptions(model="scripted"),
        TinyPrompt(),
        transport,
        session(**fields),
        redact=redactor(),
    )
