"""Prompts: files that say how a language model is asked for fairness scores.

A prompt is a TOML file: the view of the market, the scale of the scores, the instructions, and
examples given as trades, whose scores are computed by the closed forms when the file is read. A
researcher compares prompts as she compares models, so its SHA-256 goes into every result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peerwatt.errors import PeerWattError, shown, unknown_name
from peerwatt.fairness import SlotBatch
from peerwatt.fairness.scores import score_slots
from peerwatt.fairness.session import Presentation
from peerwatt_critics import replies, views
from peerwatt_critics.calls.exchange import Request
from peerwatt_critics.replies import Answer, InvalidReply

__all__ = ["Answer", "InvalidReply", "Prompt", "load_prompt", "prompt_names"]

MOST_BYTES = 65_536
"""Largest prompt file that is read."""

REPAIRS = {
    "not-json": "Your last reply was not valid JSON.",
    "prose": "Your last reply had text around the JSON.",
    "keys": "Your last reply did not have exactly the keys that were asked for.",
    "type": "In your last reply a score was not an integer.",
    "range": "In your last reply a score was not within the scale.",
    "count": "Your last reply was about another number of markets.",
    "too-long": "Your last reply was too long.",
}
REPAIR = "Your last reply could not be used."

Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Energy = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Price = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Place = Annotated[int, Field(ge=1, le=50)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Part):
    """A market with the trades made in it."""

    feed_in: Price
    retail: Price
    reference: Price | None = None
    """The middle of the two, if it is not given."""
    surplus: Annotated[list[Energy], Field(min_length=1, max_length=50)]
    """kWh that each seller had."""
    deficit: Annotated[list[Energy], Field(min_length=1, max_length=50)]
    """kWh that each buyer needed."""
    offered: list[Energy] | None = None
    """kWh that each seller offered; all, if it is not given."""
    demanded: list[Energy] | None = None
    trades: list[tuple[Place, Place, Energy, Price]]
    """Seller and buyer, counted from 1, kWh and price of each trade."""
    why: Text
    """Rationale that the example gives."""

    def slots(self) -> SlotBatch:
        """Return the one slot that the example describes.

        Raises:
            ValueError: lists of unequal length, a trade of nobody or beyond what there was.
        """
        sellers, buyers = len(self.surplus), len(self.deficit)
        offered = self.surplus if self.offered is None else self.offered
        demanded = self.deficit if self.demanded is None else self.demanded
        if (len(offered), len(demanded)) != (sellers, buyers):
            raise ValueError("offered and demanded need a number for each surplus and deficit")
        sold, bought, received, paid = np.zeros((4, sellers + buyers))
        for seller, buyer, kwh, price in self.trades:
            if seller > sellers or buyer > buyers:
                raise ValueError(f"there is no seller {seller} or no buyer {buyer} to trade")
            if not self.feed_in <= price <= self.retail:
                raise ValueError(f"the price {price:g} lies outside feed_in to retail")
            sold[seller - 1] += kwh
            received[seller - 1] += kwh * price
            bought[sellers + buyer - 1] += kwh
            paid[sellers + buyer - 1] += kwh * price
        surplus = np.array([*self.surplus, *[0.0] * buyers])
        deficit = np.array([*[0.0] * sellers, *self.deficit])
        if (sold > surplus + 1e-9).any() or (bought > deficit + 1e-9).any():
            raise ValueError("a household trades more than its surplus or deficit")
        energies, prices = np.array([trade[2:] for trade in self.trades]).reshape(-1, 2).T
        volume = energies.sum()
        mean = energies @ prices / volume if volume > 0 else np.nan
        deviation = np.sqrt(energies @ (prices - mean) ** 2 / volume) if volume > 0 else np.nan
        middle = (self.feed_in + self.retail) / 2
        slot = SlotBatch(
            feed_in=np.array(self.feed_in),
            retail=np.array(self.retail),
            reference=np.array(middle if self.reference is None else self.reference),
            surplus=surplus,
            deficit=deficit,
            offered=np.array([*offered, *[0.0] * buyers]),
            demanded=np.array([*[0.0] * sellers, *demanded]),
            sold=sold,
            bought=bought,
            received=received,
            paid=paid,
            volume=np.array(volume),
            mean_price=np.array(mean),
            price_deviation=np.array(deviation),
        )
        return SlotBatch(*(field[None] for field in slot))


class PromptFile(_Part):
    """What the file of a prompt says."""

    summary: Text
    """What the prompt is, in a line."""
    view: Literal["households", "summary"]
    """How much of a market the model sees."""
    scale: Annotated[int, Field(ge=1, le=100)]
    """Scores are integers from 0 to this."""
    step: Annotated[float, Field(ge=0.01, le=50)]
    """What the percentages that the model sees are rounded to."""
    paraphrase: str = ""
    """Another prompt that says the same in other words, for the benchmark of critics."""
    system: Text
    """Instructions, with the definitions of the scores."""
    batch: Text
    """Added where several markets share a call."""
    rationale: Text
    """Added where a rationale is wanted."""
    examples: Annotated[list[Example], Field(max_length=20)] = []


@dataclass(frozen=True)
class Prompt:
    """A prompt, ready to ask with."""

    name: str
    digest: str
    """SHA-256 of its file."""
    summary: str
    view: str
    scale: int
    step: float
    paraphrase: str
    """Name or path of a paraphrase, "" if there is none."""
    system: str
    batch: str
    rationale: str
    examples: tuple[tuple[str, Answer], ...]
    """Canonical texts with the answers of the closed forms."""

    def canonical(self, slots: SlotBatch) -> list[str]:
        """Return the texts of M slots that this prompt tells apart; see `views.canonical`.

        Raises:
            ValueError: a number makes no sense, or no trade was feasible.
        """
        return views.canonical(slots, self.view, self.step)

    def schema(self, count: int, rationale: bool) -> dict[str, Any]:
        """Return the JSON Schema of a reply on `count` slots."""
        return replies.schema(count, self.scale, rationale)

    def request(
        self,
        canonical: Sequence[str],
        *,
        presentation: Presentation,
        rationale: bool,
        reply_tokens: int,
    ) -> Request:
        """Return the request that asks about the slots with these canonical texts.

        Args:
            canonical: one text or several, which then share the call.
            presentation: how the markets are put; examples stay the same.
            rationale: whether to ask for one.
            reply_tokens: most tokens of the reply, per slot.
        """
        count = len(canonical)
        parts = [self.system]
        parts += [self.batch] if count > 1 else []
        parts += [self.rationale] if rationale else []
        messages = [_message("system", "\n\n".join(part.strip() for part in parts))]
        # Examples look like what is asked: one by one, or all in one call.
        together = [self.examples] if count > 1 and len(self.examples) > 1 else None
        for group in together or [(example,) for example in self.examples]:
            texts, answers = zip(*group, strict=True)
            reply = replies.render(answers, self.scale, rationale)
            messages.append(_message("user", _asked(texts, Presentation())))
            messages.append(_message("assistant", views.compact(reply)))
        messages.append(_message("user", _asked(canonical, presentation)))
        return Request(tuple(messages), self.schema(count, rationale), reply_tokens * count)

    def parse(
        self, text: str, canonical: Sequence[str], *, presentation: Presentation, rationale: bool
    ) -> list[Answer]:
        """Return the answers in the reply `text` to a request, one per canonical text.

        Raises:
            InvalidReply: it is not exactly what was asked for.
        """
        answers = replies.parse(text, len(canonical), self.scale, rationale)
        return answers[::-1] if presentation.backwards else answers

    def repair(self, request: Request, error: InvalidReply) -> Request:
        """Return `request` with a sentence that tells what was wrong with the reply to it.

        The reply is not quoted. The sentence ends the last message instead of making another, for
        some models refuse two messages of the user in a row.
        """
        *before, last = request.messages
        told = REPAIRS.get(error.reason, REPAIR)
        sentence = f"{told} Reply with the JSON object alone, as the instructions say."
        again = _message("user", f"{last['content']}\n\n{sentence}")
        return dataclasses.replace(request, messages=(*before, again))

    def told(self, count: int = 1, rationale: bool = False) -> str:
        """Return what a model is sent about `count` made-up markets, to be read by people."""
        request = self.request(
            [self.canonical(SAMPLE.slots())[0]] * count,
            presentation=Presentation(),
            rationale=rationale,
            reply_tokens=1,
        )
        blocks = [f"{self.name}: {self.summary}\nSHA-256 {self.digest}"]
        blocks += [f"[{message['role']}]\n{message['content']}" for message in request.messages]
        blocks.append(f"[schema of the reply]\n{views.compact(request.schema)}")
        return "\n\n".join(blocks) + "\n"


SAMPLE = Example(
    feed_in=0.08,
    retail=0.28,
    surplus=[1.5, 0.5],
    deficit=[1.0, 2.0],
    trades=[(1, 1, 1.0, 0.2), (2, 2, 0.25, 0.16)],
    why="made up",
)
"""A market to show prompts with."""


def _asked(texts: Sequence[str], presentation: Presentation) -> str:
    markets = [views.put(text, presentation) for text in texts]
    if len(markets) == 1:
        return views.compact(markets[0])
    ordered = markets[::-1] if presentation.backwards else markets
    return views.compact(dict(zip(replies.names(len(ordered)), ordered, strict=True)))


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _folder() -> Traversable:
    return resources.files(__package__) / "prompts"


def prompt_names() -> tuple[str, ...]:
    """Return the names of the prompts that come with PeerWatt."""
    files = (file.name for file in _folder().iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load_prompt(name_or_path: str) -> Prompt:
    """Return the prompt of that name, or the one in the .toml file at that path.

    Raises:
        PeerWattError: there is no such prompt, or its file is malformed.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return _parsed(path.stem, f"prompt {shown(name_or_path)}", path, path.parent)
    if name_or_path not in prompt_names():
        raise unknown_name("prompt", name_or_path, prompt_names())
    return _parsed(name_or_path, f"prompt {name_or_path}", _folder() / f"{name_or_path}.toml", None)


def _parsed(name: str, where: str, file: Traversable, folder: Path | None) -> Prompt:
    """Read `file`; a paraphrase in another file is sought in `folder`."""
    try:
        if isinstance(file, Path) and not file.is_file() and not file.is_dir() and file.exists():
            # A pipe would be waited for.
            raise PeerWattError(f"{where}: is no regular file; name a .toml file.")
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise PeerWattError(f"{where}: is larger than {MOST_BYTES:,} bytes; shorten it.")
        said = PromptFile.model_validate(tomllib.loads(content.decode()))
    except OSError as error:
        raise PeerWattError(f"{where}: cannot be read ({error.strerror}).") from None
    except RecursionError:
        raise PeerWattError(f"{where}: nests too deep; write it as the others are.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PeerWattError(f"{where}: is not valid TOML ({shown(str(error), 120)}).") from None
    except ValidationError as error:
        raise PeerWattError(f"{where}: {_sentence(error)}") from None
    examples = []
    for number, example in enumerate(said.examples, 1):
        try:
            slots = example.slots()
            text = views.canonical(slots, said.view, said.step)[0]
        except ValueError as error:
            raise PeerWattError(f"{where}: examples.{number}: {error}.") from None
        # Undefined (one seller cannot be unfair to another) is 0, as the instructions say.
        ftg, fbs, fpp, ftb = np.nan_to_num(np.concatenate(score_slots(slots))).tolist()
        examples.append((text, Answer((ftg, fbs, fpp, ftb), example.why)))
    paraphrase = said.paraphrase
    if folder is not None and paraphrase.endswith(".toml"):
        paraphrase = str(folder / paraphrase)
    return Prompt(
        name=name,
        digest=hashlib.sha256(content).hexdigest(),
        summary=said.summary,
        view=said.view,
        scale=said.scale,
        step=said.step,
        paraphrase=paraphrase,
        system=said.system,
        batch=said.batch,
        rationale=said.rationale,
        examples=tuple(examples),
    )


def _sentence(error: ValidationError) -> str:
    # An unknown key first: it may be the one that is missing, misspelt.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = [part + 1 if isinstance(part, int) else part for part in first["loc"]]
    key = ".".join(shown(str(part), 40) for part in place)
    if first["type"] == "extra_forbidden":
        table = Example if first["loc"][0] == "examples" else PromptFile
        return f"{key}: unknown key, expected one of {', '.join(table.model_fields)}."
    message = first["msg"]
    given = (
        ""
        if isinstance(first["input"], dict | list)
        else f", not {shown(repr(first['input']), 60)}"
    )
    return f"{key}: {message[0].lower()}{message[1:]}{given}."
