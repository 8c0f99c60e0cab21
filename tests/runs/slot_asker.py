"""A critic that asks about every slot and writes down each answer, as one of a language model."""

import dataclasses
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Literal

from peerwatt.errors import PeerWattError
from peerwatt.fairness import FairnessScores, feasible, score_slots
from peerwatt.fairness.session import CriticUsage
from peerwatt.plugins import CriticSpec, hookimpl


@hookimpl
def peerwatt_critics():
    return [CriticSpec(name="asking", factory="slot_asker:Asking", summary="Asks.", abstains=True)]


@dataclass(frozen=True)
class Asking:
    model: str = "small"
    level: Literal["low", "high"] = "low"
    limit: int | None = None
    """Slots after which it abstains."""
    stop: bool = False
    """Stop the run at the limit instead."""
    pause: float = 0.0
    prompt: str = ""
    boasts: bool = False
    cache: str = field(default="", metadata={"operational": True})

    def contents(self):
        if not self.prompt:
            return {}
        with open(self.prompt, "rb") as file:
            return {"prompt": hashlib.file_digest(file, "sha256").hexdigest()}

    def open(self, session):
        return Asked(self, session)


class Asked:
    def __init__(self, options, session):
        self.options, self.session = options, session
        self.done = CriticUsage(calls=0, dollars=None)
        seen = {
            name: str(getattr(session, name))
            for name in ("seed", "run", "entry", "fresh", "store", "expected_slots", "repeat")
        }
        self.write("session", draw=session.generator.random(), **seen)

    def write(self, kind, **content):
        if self.session.transcript is not None:
            self.session.transcript.write(kind, self.session.path, content)

    def score(self, slots):
        time.sleep(self.options.pause)
        done, defined = self.done, feasible(slots) > 0
        limit = self.options.limit
        capped = limit is not None and done.scored >= limit
        if capped and self.options.stop:
            raise PeerWattError(f"critic 'asking': stopped after {done.scored} answers.")
        scores = score_slots(slots)
        asked = 0 if capped else int(defined.sum())
        abstained = int(defined.sum()) if capped else 0
        if capped:
            scores = FairnessScores(*(score * float("nan") for score in scores))
        self.done = dataclasses.replace(
            done,
            slots=done.slots + len(defined),
            undefined=done.undefined + int((~defined).sum()),
            scored=done.scored + asked,
            calls=done.calls + asked,
            cache_hits=done.cache_hits + 1,
            prompt_tokens=done.prompt_tokens + 100 * asked,
            abstained={"capped": done.abstained.get("capped", 0) + abstained} if capped else {},
        )
        self.write("answer", question=str(done.slots), scores=json.loads(json.dumps(asked)))
        return scores

    def usage(self):
        if self.options.boasts:
            return dataclasses.replace(self.done, prompt_tokens=-1)
        return self.done

    def close(self, finished):
        self.write("closed", finished=finished)
