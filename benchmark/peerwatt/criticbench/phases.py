"""What is asked of a critic: the phases of its benchmark, and how one is carried out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peerwatt.criticbench import reachable
from peerwatt.criticbench.journal import USAGE, Journal
from peerwatt.criticbench.payloads import HOSTILE, PAYLOADS, Payload
from peerwatt.criticbench.subject import Examined
from peerwatt.criticbench.suite import Floats, Suite, batches, with_households
from peerwatt.errors import PeerWattError, shown, told
from peerwatt.fairness import SlotBatch, feasible
from peerwatt.fairness.scores import HOUSEHOLD_FIELDS
from peerwatt.fairness.session import CriticSession, CriticUsage, Presentation, checked, opened
from peerwatt.fairness.transcript import Transcript

BATCH = 16
"""Slots that are scored at once, after which the journal gets a line."""
TIMED = 20
"""Slots that are timed one by one."""
TIMING, BASE, TWIN = "timing", "base", "reachable-twin"
BASES = (BASE, "noted", "rest")
"""The slots of a suite as they are: those that are put otherwise, too, share no call with others,
so that each has the same neighbours whenever it is put."""
SILENCE = 10
"""Requests in a row without a reply after which a model counts as gone."""
NEVER = 10**9
NOTED_DRAWS, TIMED_DRAWS, TWIN_DRAWS = BASES.index("noted"), len(BASES), len(BASES) + 1
ENERGY, PRICE = 1000.0, 100.0
"""From kWh to Wh, and from a currency to its hundredth."""

Progress = Callable[[str, int], None]
"""Takes the name of the phase, and how many slots more have been scored."""


@dataclass(frozen=True, eq=False)
class Phase:
    """Slots that are put to the critic in one session."""

    name: str
    slots: tuple[SlotBatch, ...]
    critic: Any
    repeat: int = 0
    presentation: Presentation = field(default_factory=Presentation)
    rows: tuple[int, ...] = ()
    """Places of the slots in the suite, if they are of it."""
    backwards: bool = False
    """Whether slots that are scored at once come in reverse order."""
    draws: int = 0
    """Phases of one number have the same random draws, so that what differs is not chance."""
    run: str = ""
    """What names the run, beside the phase."""


def phases(subject: Examined, suite: Suite, repeats: int) -> list[Phase]:
    """Return all phases of the benchmark of one critic, in their order."""
    critic = patient(subject.critic)
    some = suite.repeated

    def of_suite(
        name: str,
        rows: Sequence[int],
        change: Callable[[SlotBatch], SlotBatch] | None = None,
        **how: Any,
    ) -> Phase:
        slots = tuple(suite.slots[row] for row in rows)
        slots = tuple(map(change, slots)) if change else slots
        return Phase(name, slots, how.pop("critic", critic), rows=tuple(rows), **how)

    rest = [row for row in range(len(suite.slots)) if row not in {*some, *suite.noted}]
    timed = [row for row in rest if np.isfinite(suite.truth[row, 0])][:TIMED]
    found = [of_suite(TIMING, timed, draws=TIMED_DRAWS)]
    for draws, of in enumerate(zip(BASES, (some, suite.noted, rest), strict=True)):
        found.append(of_suite(*of, draws=draws))
    found += [of_suite(f"repeat-{n}", some, repeat=n) for n in range(1, repeats)]
    found.append(of_suite("order", some, _reordered, presentation=Presentation(order=1)))
    found.append(of_suite("units", some, rescaled))
    if subject.opens and getattr(critic, "slots_per_call", None) != 1:
        found.append(of_suite("batch", some, presentation=Presentation(backwards=True)))
    elif not subject.opens:
        found.append(of_suite("batch", some, backwards=True))
    if (other := paraphrased(critic)) is not None:
        found.append(of_suite("paraphrase", some, critic=other))
    if subject.opens:
        for payload in PAYLOADS:
            how = Presentation(note=payload.text)
            name = f"note-{payload.name}"
            found.append(of_suite(name, suite.noted, presentation=how, draws=NOTED_DRAWS))
    found.append(Phase(TWIN, _apart(reachable.twins()), critic, draws=TWIN_DRAWS))
    for place in reachable.FIELDS:
        for phase, payloads in attacks(place).items():
            name = reachable.hostile(place, payloads[0]).plugin_name
            slots = _apart(reachable.markets(place, payloads))
            found.append(Phase(phase, slots, critic, run=f"-{name}", draws=TWIN_DRAWS))
    return found


def attacks(field: str) -> dict[str, tuple[Payload, ...]]:
    """Return the phases in which hostile texts stand in `field`, and the texts of each.

    A plugin's name is part of the name of the run, which a phase has but one of.
    """
    if field == "plugin-name":
        return {f"reachable-{field}-{payload.name}": (payload,) for payload in HOSTILE}
    return {f"reachable-{field}": HOSTILE}


def patient(critic: Any) -> Any:
    """Return the critic that does not give up on a model which replies, be it never validly.

    Such a model gets a whole record. One that does not reply is given up by `Silence`.
    """
    names = {field.name for field in dataclasses.fields(critic)} if _is_options(critic) else ()
    if "give_up_after" not in names:
        return critic
    return dataclasses.replace(critic, give_up_after=NEVER)


def _is_options(critic: Any) -> bool:
    return dataclasses.is_dataclass(critic) and not isinstance(critic, type)


def paraphrased(critic: Any) -> Any:
    """Return the critic that asks the same in other words; None if it knows none."""
    tell = getattr(critic, "paraphrased", None)
    return tell() if callable(tell) else None


def _reordered(slots: SlotBatch) -> SlotBatch:
    households = np.arange(slots.surplus.shape[1])
    return with_households(slots, np.concatenate([households[1::2], households[::2][::-1]]))


def rescaled(slots: SlotBatch) -> SlotBatch:
    """Return the same slots in Wh and in the hundredth of the currency."""
    factors = dict.fromkeys(SlotBatch._fields, PRICE)
    factors |= dict.fromkeys((*HOUSEHOLD_FIELDS, "volume"), ENERGY)
    factors |= dict.fromkeys(("received", "paid"), ENERGY * PRICE)
    return SlotBatch(*(field * factors[name] for name, field in slots._asdict().items()))


def _apart(slots: SlotBatch) -> tuple[SlotBatch, ...]:
    return tuple(slots.taken(slice(m, m + 1)) for m in range(len(slots.feed_in)))


@dataclass(frozen=True)
class Workplace:
    """Where one benchmark keeps what it needs, and what its sessions are called."""

    folder: Path
    store: Path
    digest: str
    seed: int
    again: bool


class Stopped(PeerWattError):
    """A limit of the critic is reached: what is done is kept."""


class Silence:
    """Watches out for a model that does not reply: its abstentions would be taken for its own."""

    def __init__(self) -> None:
        self._heard = 0  # answers, new ones and known ones
        self._before = 0  # requests before the last of them

    def check(self, usage: CriticUsage, *, ended: bool) -> None:
        """Tell an attempt at a phase, of which `usage` is told so far, to stop.

        Raises:
            Stopped: too many requests in a row got no reply, or all of an attempt that `ended`.
        """
        requests = usage.calls - usage.retries
        heard = usage.calls - sum(usage.failed.values()) + usage.cache_hits
        if heard > self._heard:
            self._heard, self._before = heard, requests
        silent = requests - self._before
        if silent >= SILENCE or (ended and silent and not heard):
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in usage.failed.items())
            raise Stopped(
                f"critic: {silent:,} requests in a row got no reply ({reasons}); everything so far "
                "is kept: see to the model's server, and start the benchmark again to go on."
            )


def carry_out(phase: Phase, journal: Journal, place: Workplace, progress: Progress) -> None:
    """Score the slots of `phase` and write the scores into the journal.

    Raises:
        PeerWattError: the critic returns no scores, or cannot go on.
        Stopped: it may not ask any more, or nobody replies.
    """
    attempt = journal.attempts(phase.name) + 1
    transcript = Transcript(
        transcript_file(place.folder, phase.name, attempt),
        {"benchmark": place.digest, "phase": phase.name},
    )
    session = CriticSession(
        generator=np.random.default_rng([place.seed, 0xBE9C, phase.draws, phase.repeat]),
        seed=place.seed,
        run=f"{place.digest[:16]}-{phase.name}{phase.run}",
        entry=place.digest,
        fresh=place.again,
        store=place.store,
        transcript=transcript,
        expected_slots=len(phase.slots) * (2 if phase.name == TIMING else 1),
        repeat=phase.repeat,
        presentation=phase.presentation,
    )
    line = {"phase": phase.name, "attempt": attempt}
    timed = journal.timed(phase.name)
    done: dict[str, Any] = {}
    silence = Silence()
    try:
        with opened(phase.critic, session) as work:

            def write(**more: Any) -> CriticUsage | None:
                usage = _usage(work)
                told_usage = None if usage is None else USAGE.dump_python(usage, mode="json")
                journal.write({**line, "usage": told_usage, **more})
                return usage

            def note(**more: Any) -> None:
                if (usage := write(**more)) is None:
                    return
                if usage.capped:
                    raise Stopped(
                        f"critic: {usage.capped}; everything so far is kept: start the benchmark "
                        "again to go on where it stopped, with a higher limit if one was reached."
                    )
                silence.check(usage, ended=False)

            note()
            try:
                if phase.name == TIMING:
                    done = _timed(phase, work, note, timed, progress)
                else:
                    done = _scored(phase, work, note, progress)
            except BaseException:
                with contextlib.suppress(PeerWattError):  # what went wrong first is what is told
                    write()  # what was asked since the last line was paid for, too
                raise
        usage = _usage(work)
        if usage is not None:
            silence.check(usage, ended=True)
    finally:
        transcript.close()
    ended = None if usage is None else USAGE.dump_python(usage, mode="json")
    if ended is not None:
        ended["transcript"] = transcript.digest()
    journal.write({**line, "usage": ended, "done": True, **done})


def _scored(
    phase: Phase, work: Any, note: Callable[..., None], progress: Progress
) -> dict[str, Any]:
    scores: list[list[float | None]] = []
    refused: list[str] = []
    for _, slots in batches(phase.slots, BATCH):
        turn = slice(None, None, -1 if phase.backwards else 1)
        found = _score(work, slots.taken(turn), refused)[turn]
        scores += [[None if np.isnan(x) else float(x) for x in row] for row in found]
        note()
        progress(phase.name, len(found))
    return {"scores": scores, "refused": refused[:3], "refusals": len(refused)}


def _timed(
    phase: Phase,
    work: Any,
    note: Callable[..., None],
    timed: dict[int, float],
    progress: Progress,
) -> dict[str, Any]:
    """Score slots one by one, twice, and tell the seconds.

    The first time counts as cold unless the answer was in the cache already; what an attempt that
    was cut short has timed is kept. The time that it takes to get no score is no latency.
    """
    cold = dict(timed)
    for index, slot in enumerate(phase.slots):
        before, began = _usage(work), time.perf_counter()
        scores = _score(work, slot, [])
        seconds, after = time.perf_counter() - began, _usage(work)
        known = before and after and after.cache_hits > before.cache_hits
        if np.isfinite(scores).any() and not known:
            cold.setdefault(index, seconds)
            note(slot=index, seconds=seconds)
        else:
            note()
        progress(phase.name, 1)
    began_warm = _usage(work)
    warm = []
    for slot in phase.slots:
        began = time.perf_counter()
        scores = _score(work, slot, [])
        seconds = time.perf_counter() - began
        if np.isfinite(scores).any():
            warm.append(seconds)
        note()
        progress(phase.name, 1)
    ended = _usage(work)
    hits = None
    if began_warm is not None and ended is not None:
        hits = ended.cache_hits - began_warm.cache_hits
    return {"cold": [cold[index] for index in sorted(cold)], "warm": warm, "warm_hits": hits}


def _usage(work: Any) -> CriticUsage | None:
    usage = work.usage()
    try:
        return None if usage is None else checked(usage)
    except PeerWattError as error:
        raise PeerWattError(f"the critic's {error}") from None


def _score(work: Any, slots: SlotBatch, refused: list[str]) -> Floats:
    """Return the scores [M, 4]; NaN where the critic refuses a slot with a ValueError."""
    count = len(slots.feed_in)
    try:
        scores = work.score(SlotBatch(*(field.copy() for field in slots)))
    except ValueError as error:
        if count == 1:
            if feasible(slots)[0] > 0:
                refused.append(told(error, 120))
            return np.full((1, 4), np.nan)
        return np.concatenate([_score(work, one, refused) for one in _apart(slots)])
    except PeerWattError:
        raise
    except Exception as error:
        raise PeerWattError(
            f"the critic's score fails: {told(error)}; `peerwatt plugins doctor` tells more."
        ) from error
    if [np.shape(score) for score in scores] != [(count,)] * 4:
        raise PeerWattError(
            f"the critic's score returns {shown(repr(scores), 80)}, expected FairnessScores of "
            f"four arrays [{count}]; `peerwatt plugins doctor` tells more."
        )
    found = np.stack([np.asarray(score, np.float64) for score in scores], axis=1)
    bad = found[~(np.isnan(found) | ((found >= 0) & (found <= 1)))]
    if bad.size:
        raise PeerWattError(
            f"the critic returns the score {bad[0]:g}, expected numbers from 0 to 1 or NaN; "
            "`peerwatt plugins doctor` tells more."
        )
    return found


def transcript_file(folder: Path, phase: str, attempt: int) -> Path:
    """Return where an attempt at `phase` writes what it asked."""
    return folder / f"{phase}-{attempt}.jsonl"


def lines_of(folder: Path, phase: str, attempt: int, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a kind in the transcript of an attempt at `phase`, if it has one."""
    try:
        stream = transcript_file(folder, phase, attempt).open(encoding="utf-8")
    except FileNotFoundError:
        return
    with stream as lines:
        for line in lines:
            try:
                content = json.loads(line)
            except ValueError:
                continue  # torn
            if isinstance(content, dict) and content.get("kind") == kind:
                yield content
