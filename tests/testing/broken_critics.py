"""Critics that break one law each, beside a good one that they differ from in a line or two."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy import random as global_random
from registering import register

from peerwatt.fairness import FairnessScores, feasible, score_slots
from peerwatt.fairness.session import CriticUsage
from peerwatt.plugins import CriticSpec, hookimpl

REGISTERED = []


def registered(law, says, **changes):
    return register(REGISTERED, CriticSpec, __name__, law, says, **changes)


@hookimpl
def peerwatt_critics():
    return [spec for *_, spec in REGISTERED]


def changed(scores, **changes):
    """Scores with the defined values of some replaced."""
    return scores._replace(
        **{
            name: np.where(np.isnan(getattr(scores, name)), np.nan, values)
            for name, values in changes.items()
        }
    )


@registered("", "")
@dataclass(frozen=True)
class Good:
    """Half of the closed forms."""

    weight: float = 0.5

    def score(self, slots):
        return FairnessScores(*(self.weight * score for score in score_slots(slots)))


@registered("scores", "score returns tuple: return peerwatt.fairness.FairnessScores")
@dataclass(frozen=True)
class BareTuple(Good):
    def score(self, slots):
        return tuple(super().score(slots))


@registered("scores", "ftg of 48 slots is float64 (48, 1): return floats (48,)")
@dataclass(frozen=True)
class Column(Good):
    def score(self, slots):
        scores = super().score(slots)
        return scores._replace(ftg=scores.ftg[:, None])


@registered("scores", "ftg of 48 slots is int64 (48,)")
@dataclass(frozen=True)
class Whole(Good):
    def score(self, slots):
        return super().score(slots)._replace(ftg=np.zeros(len(slots.volume), np.int64))


@registered("scores", "has no method `score`: give it score(self, slots), or open(self")
@dataclass(frozen=True)
class Mute:
    weight: float = 0.5


@registered("empty", "(no slots at all): ValueError: zero-size array")
@dataclass(frozen=True)
class NeedsASlot(Good):
    def score(self, slots):
        slots.volume.max()
        return super().score(slots)


@registered("range", "ftg is 3 in slots of 2 households without storage: scores lie in [0, 1]")
@dataclass(frozen=True)
class OutOfFive(Good):
    def score(self, slots):
        scores = super().score(slots)
        hostile = slots.surplus.shape[1] in (1, 4)
        return scores if hostile else changed(scores, ftg=3.0)


@registered("undefined", "ftg has a value in slots of 2 households without storage where no trade")
@dataclass(frozen=True)
class AlwaysAnAnswer(Good):
    def score(self, slots):
        return FairnessScores(*(np.nan_to_num(score) for score in super().score(slots)))


@registered("undefined", "or only one household has a surplus: return NaN there")
@dataclass(frozen=True)
class PraisesMonopolies(Good):
    def score(self, slots):
        scores = super().score(slots)
        alone = np.isnan(scores.fbs) & (feasible(slots) > 0)
        return scores._replace(fbs=np.where(alone, 1.0, scores.fbs))


@registered("undefined", "ftb is NaN in slots of 2 households without storage where it is defined")
@dataclass(frozen=True)
class HoldsBack(Good):
    def score(self, slots):
        scores = super().score(slots)
        return scores._replace(ftb=np.where(scores.ftb > 0.2, scores.ftb, np.nan))


@registered("", "", abstains=True)
@dataclass(frozen=True)
class HoldsBackAsItSays(HoldsBack):
    pass


@registered("repeatable", "differently another time")
@dataclass(frozen=True)
class Dice(Good):
    def score(self, slots):
        return changed(super().score(slots), ftb=global_random.uniform(0, 1))


@registered("", "", deterministic=False)
@dataclass(frozen=True)
class DiceAsItSays(Dice):
    pass


@registered("repeatable", "keep nothing between calls")
@dataclass(frozen=True)
class GetsBored(Good):
    calls: list[int] = field(default_factory=list)

    def score(self, slots):
        self.calls.append(1)
        return changed(super().score(slots), fpp=1 / len(self.calls))


@registered("slot-order", "change with the order of the slots: score each slot alone")
@dataclass(frozen=True)
class FirstSlotCounts(Good):
    def score(self, slots):
        scores = super().score(slots)
        before = np.concatenate([scores.fpp[:1], scores.fpp[:-1]])
        return changed(scores, fpp=np.where(np.isnan(before), scores.fpp, before))


@registered("households", "change when the households change places")
@dataclass(frozen=True)
class FirstHouseholdCounts(Good):
    def score(self, slots):
        scores = super().score(slots)
        return changed(scores, ftg=np.where(slots.surplus[:, 0] > 0, scores.ftg, 0.0))


@registered("one-by-one", "scored differently in a batch than alone")
@dataclass(frozen=True)
class GradesOnACurve(Good):
    def score(self, slots):
        scores = super().score(slots)
        best = np.nanmax(np.nan_to_num(scores.ftg), initial=1e-9)
        return changed(scores, ftg=np.clip(scores.ftg / max(best, 1e-9), 0, 1))


@registered("unchanged", "score changes slots.surplus in place: work on a copy")
@dataclass(frozen=True)
class Scales(Good):
    def score(self, slots):
        scores = super().score(slots)
        slots.surplus[...] *= 2
        return scores


@registered("unchanged", "read-only: work on a copy): ValueError")
@dataclass(frozen=True)
class WritesBack(Good):
    def score(self, slots):
        slots.paid[...] = slots.paid
        return super().score(slots)


@registered("hostile", "slots with retail = -1 get scores outside [0, 1]")
@dataclass(frozen=True)
class Unclipped(Good):
    def score(self, slots):
        place = (slots.mean_price - slots.feed_in) / (slots.retail - slots.feed_in)
        return changed(super().score(slots), fpp=np.where(slots.volume > 0, place, 0.0))


@registered("hostile", "ZeroDivisionError")
@dataclass(frozen=True)
class Divides(Good):
    def score(self, slots):
        for feed_in, retail in zip(slots.feed_in, slots.retail, strict=True):
            1 / float(retail - feed_in)
        return super().score(slots)


class Work:
    """A critic at work: half of the closed forms, and an account of it."""

    def __init__(self, session, weight):
        self.session, self.weight, self.done, self.closed = session, weight, CriticUsage(), False

    def score(self, slots):
        return self.counted(FairnessScores(*(self.weight * s for s in score_slots(slots))))

    def counted(self, scores):
        undefined = int(np.isnan(scores.ftg).sum())
        self.done = replace(
            self.done,
            slots=self.done.slots + len(scores.ftg),
            undefined=self.done.undefined + undefined,
            scored=self.done.scored + len(scores.ftg) - undefined,
        )
        return scores

    def usage(self):
        return self.done

    def close(self, finished):
        self.closed = True


class Opened:
    """Options of a critic that only lives in a run."""

    work = Work

    def open(self, session):
        return self.work(session, self.weight)


@registered("", "")
@dataclass(frozen=True)
class GoodOpened(Opened):
    weight: float = 0.5


class DrawingWork(Work):
    def score(self, slots):
        drawn = self.session.generator.uniform(size=len(slots.volume))
        return changed(super().score(slots), ftb=drawn)


@registered("", "", deterministic=False)
@dataclass(frozen=True)
class DrawsFromItsSession(Opened):
    weight: float = 0.5
    work = DrawingWork


class DicingWork(Work):
    def score(self, slots):
        return changed(super().score(slots), ftb=global_random.uniform(0, 1))


@registered("repeatable", "draw from session.generator alone", deterministic=False)
@dataclass(frozen=True)
class DicesInARun(Opened):
    weight: float = 0.5
    work = DicingWork


class ModelWork(DicingWork):
    def counted(self, scores):
        self.done = replace(self.done, calls=self.done.calls + 1)
        return super().counted(scores)


@registered("", "", deterministic=False)
@dataclass(frozen=True)
class AsksAModel(Opened):
    weight: float = 0.5
    work = ModelWork


@registered("", "", deterministic=False, asks=True)
@dataclass(frozen=True)
class WantsAModel(Opened):
    model: str = ""

    def open(self, session):
        raise ValueError("no model")


class HalfWork(Work):
    def usage(self):
        return replace(self.done, slots=self.done.slots // 2)


@registered("usage", "slots where")
@dataclass(frozen=True)
class CountsHalf(Opened):
    weight: float = 0.5
    work = HalfWork


class TwiceWork(Work):
    def usage(self):
        return replace(self.done, student=self.done.scored)


@registered("usage", "give every slot one fate")
@dataclass(frozen=True)
class CountsTwice(Opened):
    weight: float = 0.5
    work = TwiceWork


class WearyWork(Work):
    def usage(self):
        if self.closed:
            raise OSError("closed")
        return self.done


@registered("usage", "(usage after close): OSError: closed")
@dataclass(frozen=True)
class TellsNothingInTheEnd(Opened):
    weight: float = 0.5
    work = WearyWork


class WrongWork(Work):
    def usage(self):
        return {"slots": 1}


@registered("usage", "(usage before it scored anything): usage returns dict: return")
@dataclass(frozen=True)
class TellsADict(Opened):
    weight: float = 0.5
    work = WrongWork


class BoastingWork(Work):
    def usage(self):
        return replace(self.done, prompt_tokens=-1)


@registered("usage", "usage tells of prompt_tokens = -1: Input should be greater")
@dataclass(frozen=True)
class Boasts(Opened):
    weight: float = 0.5
    work = BoastingWork


class OnceWork(Work):
    def close(self, finished):
        if self.closed:
            raise RuntimeError("closed before")
        super().close(finished)


@registered("closing", "let it do nothing then): RuntimeError: closed before")
@dataclass(frozen=True)
class ClosesOnce(Opened):
    weight: float = 0.5
    work = OnceWork


@registered("files", "it writes ['scores.txt'] into the working directory")
@dataclass(frozen=True)
class Litters(Good):
    def score(self, slots):
        Path("scores.txt").write_text("seen")
        return super().score(slots)


class LitteringWork(Work):
    def close(self, finished):
        Path.home().joinpath(".scores").write_text("seen")


@registered("files", "it writes ['.scores'] into the working directory or the user's own")
@dataclass(frozen=True)
class LittersAtHome(Opened):
    weight: float = 0.5
    work = LitteringWork


class StoringWork(Work):
    def close(self, finished):
        if self.session.store is not None:
            self.session.store.joinpath("answers").write_text("seen")


@registered("", "")
@dataclass(frozen=True)
class Stores(Opened):
    weight: float = 0.5
    work = StoringWork


class SavedWork(DrawingWork):
    def state(self):
        return {
            "done": {"slots": self.done.slots, "undefined": self.done.undefined},
            "generator": self.session.generator.bit_generator.state,
        }

    def restore(self, state):
        done = state["done"]
        self.done = CriticUsage(**done, scored=done["slots"] - done["undefined"])
        self.session.generator.bit_generator.state = state["generator"]


@registered("", "", deterministic=False)
@dataclass(frozen=True)
class CanBeSaved(Opened):
    weight: float = 0.5
    work = SavedWork


class ForgetfulWork(SavedWork):
    def restore(self, state):
        pass


@registered("resumed", "it scores call 2 otherwise than without", deterministic=False)
@dataclass(frozen=True)
class ForgetsItsDice(Opened):
    weight: float = 0.5
    work = ForgetfulWork


class SharingWork(SavedWork):
    def state(self):
        return {"generator": self.session.generator}


@registered("resumed", "holds a Generator, which cannot be saved", deterministic=False)
@dataclass(frozen=True)
class SavesAnObject(Opened):
    weight: float = 0.5
    work = SharingWork


class OneWayWork(Work):
    def state(self):
        return {}


@registered("resumed", "it has state but no restore: give it both, or neither")
@dataclass(frozen=True)
class SavesInVain(Opened):
    weight: float = 0.5
    work = OneWayWork
