"""Critics to learn from and to be members, each with a habit."""

import threading
import time
from dataclasses import dataclass

import numpy as np

from peerwatt.errors import PeerWattError
from peerwatt.fairness import FairnessScores, feasible, score_slots
from peerwatt.fairness.session import CriticUsage
from peerwatt.plugins import CriticSpec, hookimpl

NAMES = ("squared", "coarse", "noisy", "hasty", "shy", "failing", "noting", "meeting")


@hookimpl
def peerwatt_critics():
    return [
        CriticSpec(name=name, factory=f"teachers:{name.title()}", summary=name, abstains=True)
        for name in NAMES
    ]


@dataclass(frozen=True)
class Squared:
    """A monotone distortion of the rule critic."""

    def score(self, slots):
        return FairnessScores(*np.square(score_slots(slots)))


@dataclass(frozen=True)
class Coarse:
    """The rule critic on a scale of 0 to 5."""

    def score(self, slots):
        return FairnessScores(*(np.round(np.array(score_slots(slots)) * 5) / 5))


@dataclass(frozen=True)
class Noisy:
    """The rule critic and noise, which nobody can learn."""

    deviation: float = 0.1

    def open(self, session):
        return Open(lambda slots: self.draw(slots, session.generator))

    def draw(self, slots, generator):
        exact = np.array(score_slots(slots))
        return np.clip(exact + generator.normal(0, self.deviation, exact.shape), 0, 1)


@dataclass(frozen=True)
class Hasty:
    """The rule critic, sometimes at once and sometimes not."""

    def score(self, slots):
        time.sleep(float(np.random.default_rng().random()) * 0.01)
        return score_slots(slots)


@dataclass(frozen=True)
class Shy:
    """Gives no score to the slots of an odd number, and none of FPP."""

    def open(self, session):
        return Open(self.some)

    def some(self, slots):
        scores = np.array(score_slots(slots))
        scores[:, 1::2] = scores[2] = np.nan
        return scores


@dataclass(frozen=True)
class Failing:
    """Cannot go on, or not even begin."""

    at_once: bool = False

    def open(self, session):
        if self.at_once:
            raise PeerWattError("it cannot begin.")
        return Open(self.fail)

    def fail(self, slots):
        raise PeerWattError("it cannot go on.")


@dataclass(frozen=True)
class Noting:
    """Says which repeat it is, and notes what it is told."""

    said = []  # noqa: RUF012 - shared on purpose

    def open(self, session):
        self.said.append((session.path, session.repeat, session.generator.random()))
        return Open(lambda slots: np.full((4, len(slots.feed_in)), session.repeat / 10), self.said)


@dataclass(frozen=True)
class Meeting:
    """Answers once another one is asked at the same time."""

    barrier = threading.Barrier(2)

    def open(self, session):
        return Open(self.wait)

    def wait(self, slots):
        self.barrier.wait(60)
        return score_slots(slots)


class Open:
    def __init__(self, score, said=None):
        self.make, self.said = score, said
        self.done = CriticUsage(dollars=0.0)

    def score(self, slots):
        scores = FairnessScores(*self.make(slots))
        possible = int((feasible(slots) > 0).sum())
        scored = int((~np.isnan(scores).all(axis=0)).sum())
        missed = {"too shy": possible - scored} if possible > scored else {}
        self.done = CriticUsage(
            slots=len(slots.feed_in) + self.done.slots,
            undefined=len(slots.feed_in) - possible + self.done.undefined,
            scored=scored + self.done.scored,
            abstained={k: n + self.done.abstained.get(k, 0) for k, n in missed.items()},
            calls=self.done.calls + 1,
            completion_tokens=self.done.completion_tokens + scored,
            dollars=self.done.dollars + 0.5,
        )
        return scores

    def usage(self):
        return self.done

    def close(self, finished):
        if self.said is not None:
            self.said.append(("closed", finished))
