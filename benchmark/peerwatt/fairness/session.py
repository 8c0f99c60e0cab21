"""What a run tells its critic, and what a critic tells of itself.

A critic without memory needs none of this: it has `score`, and that is all. One that draws random
numbers, asks a model over the network or learns has `open(session)` instead, which returns an
`OpenCritic` for the length of one run; the options, a frozen dataclass, stay as they were.

An open critic that has `state` and `restore` can be saved: a run that was interrupted goes on with
a critic that is opened anew and told what it had come to.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.critic import Critic, FairnessScores, SlotBatch
from peerwatt.fairness.transcript import Recording, Transcript

MOST_LATENCIES = 200
MOST_NAMES = 64
"""Different reasons, models or parameters that an account has room for."""
MOST_CHARACTERS = 200

Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Word = Annotated[
    str, Field(max_length=MOST_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")
]
Reasons = Annotated[dict[Word, Count], Field(max_length=MOST_NAMES)]
Words = Annotated[tuple[Word, ...], Field(max_length=MOST_NAMES)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

STRICT = ConfigDict(extra="forbid")
MOST_REASONS = 4
"""Reasons for abstaining that a sentence names, the most frequent ones."""
MOST_UNJUDGED = 0.2
"""Share of a student's slots that may follow the last one that its teacher judged."""


@dataclass(frozen=True)
class Presentation:
    """How a market is put to a critic that is asked in words; its scores should not depend on it.

    Runs leave it alone. The benchmark of critics varies it.
    """

    order: int = 0
    """Households come in another order, with other ids, for each number."""
    backwards: bool = False
    """Slots that share a call come in reverse order."""
    note: str = ""
    """Text of an attacker, which training never has: put into the household ids and a note."""


@dataclass(frozen=True)
class CriticSession:
    """What a critic gets for the length of one run."""

    generator: np.random.Generator
    """The only source of randomness of the critic."""
    seed: int = 0
    """Seed of the run."""
    run: str = ""
    """Names the run, the same when it is started again; "" if there is nothing to resume."""
    entry: str = ""
    """Names the entry: all seeds of one configuration, which share what may be spent."""
    fresh: bool = False
    """Whether the run is done anew on purpose, so that what it had spent before is forgotten."""
    store: Path | None = None
    """Folder for what runs share, such as answers that were paid for; None keeps nothing."""
    transcript: Transcript | None = None
    """Where every exchange is written; None writes none."""
    recording: Recording | None = None
    """Answers of an earlier run, to be given again instead of asking anybody."""
    tail: Recording | None = None
    """What stands in the `transcript` of a run that goes on (`Transcript.tail`): answers that came
    after the state that is restored are given again, and are not written once more."""
    expected_slots: int | None = None
    """How many slots the run will ask scores for, if it is known."""
    repeat: int = 0
    """Which of several independent answers to the same question is wanted."""
    presentation: Presentation = Presentation()
    path: str = ""
    """Where in a critic that is made of others this one is, such as "members.0"."""
    account: str = ""
    """Critics of one entry and account share what may be spent; "": each `path` has its own."""
    cumulative: bool = False
    """Whether the usage counts what earlier attempts at the run spent, too."""

    def child(self, name: str) -> CriticSession:
        """Return the session of a critic inside this one, with a generator of its own."""
        path = f"{self.path}.{name}" if self.path else name
        account = f"{self.account}.{name}" if self.account else ""
        generator = self.generator.spawn(1)[0]
        return dataclasses.replace(self, generator=generator, path=path, account=account)


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How well a student imitates its teacher, on slots that it never learned from.

    The error is that of a whole run, over markets that the teacher was not asked about before.
    """

    __pydantic_config__ = STRICT

    slots: Count
    """Held-out slots that the interval rests on."""
    error: Amount | None
    """Mean absolute difference between student and teacher, over slots and scores."""
    low: Amount | None
    high: Amount | None
    """Nominal 95 % interval of the mean; where few slots have most of the error, `high` is low."""
    bound: Amount
    """What `high` should not exceed."""
    within: bool | None
    """Whether it does not; None: nobody can tell, for there are too few held-out slots or the last
    of them came too early."""
    asked: Count
    """Slots put to the teacher, for any reason."""
    unanswered: Count = 0
    """Of these, slots that it gave no score."""
    unjudged: Count = 0
    """Slots that the student scored since the last one that was held out and answered."""


@dataclass(frozen=True, kw_only=True)
class CriticUsage:
    """What a critic did in one run, and what that cost.

    `slots` is the sum of `undefined`, `skipped`, `scored`, `student`, `fallback` and all of
    `abstained`. Where a run was interrupted and went on, all is that of the whole run. Where it had
    to begin anew, `calls`, `assumed`, the tokens, `dollars` and `seconds` are those of all its
    attempts, all else that of the last.
    """

    __pydantic_config__ = STRICT

    slots: Count = 0
    """Slots that scores were wanted for."""
    undefined: Count = 0
    """Of these, slots in which no trade was feasible: nobody is asked about them."""
    skipped: Count = 0
    """Not chosen by `every` or `share`: left unscored on purpose."""
    scored: Count = 0
    """Scored by the critic itself, or an answer of its own given again."""
    student: Count = 0
    """Scored by a network that imitates the critic."""
    fallback: Count = 0
    """Scored by the rule critic, for the critic failed."""
    abstained: Reasons = field(default_factory=dict)
    """Left unscored for the critic failed: reason -> slots."""
    calls: Count = 0
    """Requests sent, those that failed, were tried again or asked for a repair included."""
    retries: Count = 0
    """Requests sent again after a failure of the network or the server."""
    repaired: Count = 0
    """Replies that were invalid and valid after one repair."""
    invalid: Reasons = field(default_factory=dict)
    """Replies that could not be used: reason -> replies, repaired ones included."""
    failed: Reasons = field(default_factory=dict)
    """Requests without a reply: reason -> requests."""
    cache_hits: Count = 0
    """Questions answered by an answer that was there already."""
    prompt_tokens: Count = 0
    completion_tokens: Count = 0
    dollars: Amount | None = None
    """What the calls cost; None if a price is not known."""
    assumed: Count = 0
    """Requests whose tokens nobody told and that count as the most that they may have taken."""
    seconds: Amount = 0.0
    """Wall-clock time spent waiting for answers."""
    latencies: Annotated[tuple[Amount, ...], Field(max_length=MOST_LATENCIES)] = ()
    """Seconds that answers took when they were paid for, in order, the first 200."""
    models: Words = ()
    """Names that the replies gave for the model, each once; at most 64, as of all reasons."""
    dropped: Words = ()
    """Parameters that the model does not take and that were not sent."""
    capped: Word | None = None
    """Which limit ended the calls, and after how many."""
    transcript: Digest | None = None
    """SHA-256 of the transcript."""
    held_out: HeldOut | None = None

    @property
    def wanted(self) -> int:
        """Slots that it was to score: trade was feasible, and they were not skipped on purpose."""
        return self.slots - self.undefined - self.skipped

    @property
    def modelled(self) -> bool:
        """Whether a model outside of the critic had a say, be it by answers given again."""
        return bool(self.calls or self.cache_hits or self.models)

    @property
    def parts(self) -> int:
        """What `slots` must be, for every slot has one fate."""
        fates = (self.undefined, self.skipped, self.scored, self.student, self.fallback)
        return sum(fates) + sum(self.abstained.values())

    @property
    def told(self) -> list[str]:
        """Sentences about what did not go as asked for."""
        sentences = self.shortfalls
        if self.capped:
            sentences.append(f"critic: {self.capped}")
        if self.held_out is not None:
            sentences += self._student_told(self.held_out)
        return sentences

    def _student_told(self, held_out: HeldOut) -> list[str]:
        sentences = []
        if held_out.unanswered:
            sentences.append(
                f"critic: the teacher gave no score to {held_out.unanswered:,} of the "
                f"{held_out.asked:,} slots that it was asked about"
            )
        if held_out.unjudged > MOST_UNJUDGED * self.student:
            sentences.append(
                "critic: nobody can tell how far the student was off in the last "
                f"{held_out.unjudged:,} of its {self.student:,} slots, for the teacher judged none "
                "of them"
            )
        if held_out.within is False and held_out.high is not None:
            sentences.append(
                "critic: the student's held-out error may be as large as "
                f"{held_out.high:.3f}, above its bound of {held_out.bound:g}"
            )
        return sentences

    @property
    def shortfalls(self) -> list[str]:
        """Those of the sentences that count slots which the critic did not score itself."""
        sentences = []
        if self.abstained:
            often = sorted(self.abstained.items(), key=lambda item: (-item[1], item[0]))
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in often[:MOST_REASONS])
            if len(often) > MOST_REASONS:
                reasons += f" and {len(often) - MOST_REASONS} reasons more"
            total = sum(self.abstained.values())
            sentences.append(f"critic: abstained in {total:,} of {self.slots:,} slots ({reasons})")
        if self.fallback:
            sentences.append(
                f"critic: the rule critic stood in for {self.fallback:,} of {self.slots:,} slots"
            )
        return sentences


_USAGE = TypeAdapter(CriticUsage)
_SUMS = (
    *("slots", "undefined", "skipped", "scored", "student", "fallback", "calls", "retries"),
    *("repaired", "cache_hits", "prompt_tokens", "completion_tokens", "assumed", "seconds"),
)


def checked(usage: Any) -> CriticUsage:
    """Return what a critic tells of itself, which may be anything, as it can be recorded.

    Raises:
        PeerWattError: it is no `CriticUsage`, or one that makes no sense.
    """
    if not isinstance(usage, CriticUsage):
        raise PeerWattError(
            f"usage returns {type(usage).__name__}: return peerwatt.fairness.session.CriticUsage."
        )
    try:
        return _USAGE.validate_python(dataclasses.asdict(usage))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        value = shown(repr(first["input"]))
        raise PeerWattError(f"usage tells of {field} = {value}: {first['msg']}.") from None


def summed(usages: Sequence[CriticUsage]) -> CriticUsage:
    """Return what all of `usages` come to; transcripts and held-out errors have no sum.

    The dollars are unknown if those of any critic that sent a request are, or if nobody told any.
    """
    bills = [usage.dollars for usage in usages if usage.calls or usage.dollars is not None]
    known = [bill for bill in bills if bill is not None]
    capped = "; ".join(_each_once((usage.capped,) for usage in usages if usage.capped))
    sums: dict[str, Any] = {name: sum(getattr(u, name) for u in usages) for name in _SUMS}
    for name in ("abstained", "invalid", "failed"):
        counts = sum((Counter(getattr(usage, name)) for usage in usages), Counter[str]())
        sums[name] = dict(counts.most_common(MOST_NAMES))
    return CriticUsage(
        **sums,
        dollars=sum(known) if bills and len(known) == len(bills) else None,
        latencies=tuple(x for usage in usages for x in usage.latencies)[:MOST_LATENCIES],
        models=_each_once(usage.models for usage in usages),
        dropped=_each_once(usage.dropped for usage in usages),
        capped=capped[:MOST_CHARACTERS] or None,
    )


def _each_once(lists: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for words in lists for word in words))[:MOST_NAMES]


@dataclass(frozen=True)
class Forecast:
    """What a critic will cost at most, if nothing fails: what it tells before a run.

    The options of a critic that pays for its answers may have `forecast(slots) -> Forecast`, given
    how many slots one run will want scores for (of several runs that share caps: all of theirs).
    """

    calls: int = 0
    """Requests, each sent once: neither failures nor repairs are counted."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float | None = 0.0
    """None if a price is not known."""

    def __add__(self, other: Forecast) -> Forecast:
        """Return what two critics will cost together."""
        known = self.dollars is not None and other.dollars is not None
        return Forecast(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.dollars + other.dollars if known else None,  # type: ignore[operator]
        )


class OpenCritic(Protocol):
    """A critic at work in one run.

    One that can be saved has two methods more, called between two calls of `score`:

    - `state() -> Mapping` returns all that later scores and `usage` depend on: nested dicts (with
      keys that are texts) and lists of None, bool, int, float, str, bytes and numpy arrays. It
      changes nothing, and nothing that it returns changes later.
    - `restore(state)`, of a critic just opened with an equal session, has it go on from there.
    """

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the scores of M slots at once; NaN abstains."""
        ...

    def usage(self) -> CriticUsage:
        """Return what it did so far; asked for at any time, and once more after `close`."""
        ...

    def close(self, finished: bool) -> None:
        """End the work; `finished` tells whether the run came to its end."""
        ...


class _Plain:
    """A critic without memory, at work."""

    def __init__(self, critic: Critic) -> None:
        self.score = critic.score

    def usage(self) -> CriticUsage | None:
        return None

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass

    def close(self, finished: bool) -> None:
        pass


def savable(critic: Any) -> bool:
    """Return whether an open critic has `state` and `restore`, and what it is made of, too.

    Critics made of others tell the latter by an attribute `savable`.
    """
    both = all(callable(getattr(critic, name, None)) for name in ("state", "restore"))
    return both and bool(getattr(critic, "savable", True))


@contextlib.contextmanager
def opened(critic: Any, session: CriticSession) -> Iterator[Any]:
    """Open `critic` for the length of a block; a critic without `open` is used as it is.

    What is yielded is an `OpenCritic`; the usage of a critic without `open` is None.

    Raises:
        PeerWattError: it is no critic.
    """
    start = getattr(critic, "open", None)
    if start is None and not callable(getattr(critic, "score", None)):
        raise PeerWattError(
            f"critic {type(critic).__name__!r} has neither `score` nor `open`: give it one of them."
        )
    work = _Plain(critic) if start is None else start(session)
    try:
        yield work
    except BaseException:
        with contextlib.suppress(Exception):  # what went wrong first is what is told
            work.close(False)
        raise
    work.close(True)
