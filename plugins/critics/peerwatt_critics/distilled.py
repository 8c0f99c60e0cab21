"""The critic that lets a small network learn from another critic, and answer in its place.

Every slot is answered at once, by the network. What is put to the teacher waits in a queue; a
thread has it scored, and learns, while the training goes on. Both meet at fixed points, after so
many calls and never by the clock: so a run does not depend on how fast the teacher is, and can be
replayed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError
from peerwatt.fairness.critic import FairnessScores, Floats, SlotBatch
from peerwatt.fairness.session import (
    MOST_UNJUDGED,
    CriticSession,
    CriticUsage,
    Forecast,
    HeldOut,
    savable,
)
from peerwatt_critics.held_out import LEAST
from peerwatt_critics.members import NAMES_CRITICS, begun, contents_of, made
from peerwatt_critics.pace import Pace
from peerwatt_critics.school import (
    Progress,
    Question,
    School,
    progress_of,
    questions_of,
    questions_state,
)
from peerwatt_critics.student import (
    DEFINED,
    FEATURES,
    LONE_SELLER,
    NONSENSE,
    SCORES,
    UNDEFINED,
    Student,
    describe,
)
from peerwatt_critics.usage import merged

NOT_READY = "student not ready"
NO_SENSE = "slot makes no sense"
FIRST_SHARE = 0.2
"""Share of the slots that are asked about in the beginning, as long as there is room."""


@dataclass(frozen=True)
class DistilledCritic:
    """Imitates a critic that is dear: asks it about few slots and answers the others itself.

    Asked are slots that the student is in doubt about, slots drawn at random, and a share that is
    held out: it never learns from these, and they tell how far it is off. Where that may be more
    than the bound, it asks more, up to a limit.
    """

    teacher: str = field(default="rule", metadata=NAMES_CRITICS)
    """Critic to imitate, with its options: llm:model=openai/gpt-4o-mini,prompt=summary-v1."""
    ask_share: float = 0.01
    """Ask about no more than this share of the slots in which trade is feasible."""
    work_share: float = 0.005
    """Ask about this share while the held-out error is within its bound."""
    held_out: float = 0.002
    """Share that is asked about to tell the error, and never learned from. A market that was asked
    about before is not asked about again, so the error is that over markets new to the teacher."""
    error_bound: float = 0.02
    """Ask more while the nominal 95 % interval of the late mean absolute error reaches above this.
    Where few slots have most of the error, the interval is too low more often than it says."""
    ready: int = 100
    """Slots to learn from before the student answers; until then there are no scores."""
    join_every: int = 32
    """Calls after which answers are fetched, learned from, and the next slots asked about."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work, in one sentence."""
        shares = self.held_out, self.work_share, self.ask_share
        if not 0 < shares[0] < shares[1] <= shares[2] <= 1:
            raise PeerWattError(
                "distilled: held_out < work_share <= ask_share must hold between 0 and 1, but they "
                f"are {shares[0]:g}, {shares[1]:g} and {shares[2]:g}."
            )
        if not 0 < self.error_bound <= 1:
            raise PeerWattError(
                f"distilled: error_bound {self.error_bound!r} must be above 0 and at most 1."
            )
        for name in ("ready", "join_every"):
            if getattr(self, name) < 1:
                raise PeerWattError(
                    f"distilled: {name} {getattr(self, name)!r} must be at least 1."
                )

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 of the files that the teacher's options name."""
        digest = contents_of([made("distilled", self.teacher)])
        return {} if digest is None else {"teacher": digest}

    def check(self) -> None:
        """Have the teacher look for what would fail a run.

        Raises:
            PeerWattError: there is something.
        """
        made("distilled", self.teacher).check()

    def forecast(self, slots: int) -> Forecast:
        """Return what the teacher will cost at most, asked about the largest share of `slots`."""
        return made("distilled", self.teacher).forecast(math.ceil(self.ask_share * slots))

    def open(self, session: CriticSession) -> OpenDistilled:
        """Return the critic at work, its teacher opened.

        Raises:
            PeerWattError: the teacher is unknown, or its options are wrong.
        """
        teacher = made("distilled", self.teacher)
        return OpenDistilled(self, begun(teacher, session.child("teacher")), session)


class OpenDistilled:
    """The student at work, and all that decides what the teacher is asked."""

    def __init__(self, options: DistilledCritic, teacher: Any, session: CriticSession) -> None:
        self._options = options
        self._generator = session.generator
        (lessons,) = session.generator.spawn(1)
        self._school = School(teacher, options.ready, options.error_bound, lessons)
        self._pace = Pace(options.ask_share, options.ready, session.expected_slots)
        self._thread = ThreadPoolExecutor(1, "teacher")
        self._job: Future[Progress] | None = None
        self._student: Student | None = None
        self._progress = Progress(None, 0, 0, 0, 0, True, teacher.usage())
        self._calls = 0
        self._kinds_seen = np.zeros(4, np.int64)
        self._not_ready = 0
        self._before = 0  # slots that the student had answered before this call
        self._known: set[bytes] = set()  # features of all slots that were ever asked about
        self._queue: list[Question] = []  # to ask at the next join, come what may
        self._doubtful: list[tuple[float, Question]] = []  # candidates, the most doubtful first
        self._drawn: list[Question] = []  # candidates drawn at random
        self._under_way = 0  # of the slots asked about at the last join, those to learn from
        self._window = np.zeros(2, np.int64)  # slots and feasible slots since the last join
        self._credit = 0.0
        self._room_for(0)

    def _room_for(self, slots: int) -> None:
        self._features = np.empty((slots, FEATURES), np.float32)
        self._kinds = np.empty(slots, np.int8)
        self._doubt = np.empty(slots, np.float32)

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the student's scores, each [M]; NaN where undefined, or before it is ready.

        Raises:
            PeerWattError: the teacher cannot go on.
        """
        count = len(slots.feed_in)
        if count != len(self._kinds):
            self._room_for(count)
        scores = np.full((SCORES, count), np.nan)
        describe(slots, self._features, self._kinds)
        # Drawn before anything is known of a slot, so that what is held out is a fair sample.
        held_out = self._generator.random(count) < self._options.held_out
        kinds = np.bincount(self._kinds, minlength=4)
        feasible = int(kinds[LONE_SELLER] + kinds[DEFINED])
        self._calls += 1
        self._before = self._answered
        self._kinds_seen += kinds
        self._window += (count, feasible)
        self._pace.saw(count, feasible)
        if self._student is None:
            self._not_ready += feasible
            self._begin(slots)
        else:
            self._student.answer(self._features, self._kinds, scores, self._doubt)
            self._hold_out(held_out, slots, scores)
            if feasible:
                self._propose(slots)
        if self._calls % self._options.join_every == 0:
            self._join()
        return FairnessScores(*scores)

    @property
    def _answered(self) -> int:
        """Slots that the student has scored."""
        return int(self._kinds_seen[LONE_SELLER] + self._kinds_seen[DEFINED]) - self._not_ready

    def _question(self, slots: SlotBatch, m: int, delivered: Floats | None = None) -> Question:
        kind, features = int(self._kinds[m]), self._features[m].copy()
        return Question(slots.taken([m]), features, kind, self._before, delivered)

    def _ask(self, question: Question) -> bool:
        """Put `question` into the queue unless the teacher has answered the like of it."""
        key = question.features.tobytes()
        if key in self._known:
            return False
        self._known.add(key)
        self._queue.append(question)
        self._pace.asked += 1
        return True

    def _begin(self, slots: SlotBatch) -> None:
        """Ask about slots drawn at random, until there are enough to learn from."""
        wanted = self._options.ready - self._progress.labels - self._under_way - len(self._queue)
        wanted = min(wanted, self._pace.room())
        if wanted > 0:
            drawn = self._generator.random(len(self._kinds)) < FIRST_SHARE
            for m in np.flatnonzero(drawn & (self._kinds >= LONE_SELLER)):
                if self._ask(self._question(slots, int(m))):
                    wanted -= 1
                    if not wanted:
                        return

    def _hold_out(self, drawn: np.ndarray, slots: SlotBatch, scores: Floats) -> None:
        for m in np.flatnonzero(drawn & (self._kinds >= LONE_SELLER)):
            if self._pace.room() > 0:
                self._ask(self._question(slots, int(m), scores[:, m].copy()))

    def _propose(self, slots: SlotBatch) -> None:
        """Remember candidates for the next join: slots in doubt and slots at random, in turn."""
        most = math.ceil(self._options.ask_share * len(self._kinds))
        if self._calls % 2:
            for m in np.argsort(-self._doubt, kind="stable")[:most]:
                if self._doubt[m] >= 0:
                    self._doubtful.append((float(self._doubt[m]), self._question(slots, int(m))))
        else:
            feasible = np.flatnonzero(self._kinds >= LONE_SELLER)
            for m in self._generator.permutation(feasible)[:most]:
                self._drawn.append(self._question(slots, int(m)))

    def _join(self) -> None:
        """Take what the teacher's thread has done, and give it the next slots."""
        self._take()
        if self._student is not None:
            self._choose()
        self._under_way = sum(question.delivered is None for question in self._queue)
        self._job = self._thread.submit(self._school.work, self._queue, int(self._window[0]))
        self._queue = []
        self._window[:] = 0

    def _take(self) -> None:
        if self._job is None:
            return
        job, self._job = self._job, None
        self._progress = job.result()
        self._under_way = 0
        if self._progress.knowledge is not None:
            self._student = Student(self._progress.knowledge)

    def _choose(self) -> None:
        """Queue the candidates that the pace allows, one in doubt and one at random in turn."""
        options = self._options
        share = options.ask_share if self._progress.too_far_off else options.work_share
        self._credit += (share - options.held_out) * float(self._window[1])
        self._doubtful.sort(key=lambda candidate: -candidate[0])
        order = self._generator.permutation(len(self._drawn))
        sources = [
            iter([question for _, question in self._doubtful]),
            iter([self._drawn[index] for index in order]),
        ]
        wanted = min(int(self._credit), self._pace.room())
        turn = self._calls // options.join_every
        while wanted > 0 and sources:
            source = sources[turn % len(sources)]
            turn += 1
            question = next(source, None)
            if question is None:
                sources.remove(source)
            elif self._ask(question):
                wanted -= 1
                self._credit -= 1.0
        self._credit = min(self._credit, 1.0)  # what was not asked for then is not asked for later
        self._doubtful, self._drawn = [], []

    def usage(self) -> CriticUsage:
        """Return what student and teacher did, as of the last join."""
        kinds = self._kinds_seen
        abstained = {NOT_READY: self._not_ready, NO_SENSE: int(kinds[NONSENSE])}
        return dataclasses.replace(
            merged([self._progress.usage]),
            slots=int(kinds.sum()),
            undefined=int(kinds[UNDEFINED]),
            student=self._answered,
            abstained={reason: count for reason, count in abstained.items() if count},
            held_out=self._told(),
        )

    def _told(self) -> HeldOut:
        progress, bound = self._progress, self._options.error_bound
        error, low, high = self._school.errors.estimate(0, progress.held_out)
        unjudged = self._answered - progress.judged
        known = progress.held_out >= LEAST and unjudged <= MOST_UNJUDGED * self._answered
        return HeldOut(
            slots=progress.held_out,
            error=error,
            low=low,
            high=high,
            bound=bound,
            within=high <= bound if high is not None and known else None,
            asked=self._pace.asked,
            unanswered=progress.unanswered,
            unjudged=unjudged,
        )

    @property
    def savable(self) -> bool:
        """Whether the teacher can be saved."""
        return savable(self._school.teacher)

    def state(self) -> dict[str, Any]:
        """Return all that later scores depend on, once the teacher's thread has done its job.

        What came of that is taken in at the next join and not before, after a restart as without.

        Raises:
            PeerWattError: the teacher cannot go on.
        """
        pending = None if self._job is None else self._job.result()
        known = np.frombuffer(b"".join(sorted(self._known)), np.float32)
        return {
            "generator": self._generator.bit_generator.state,
            "school": self._school.state(),
            "pace": self._pace.state(),
            "progress": self._progress.state(),
            "pending": None if pending is None else pending.state(),
            "calls": self._calls,
            "kinds_seen": self._kinds_seen.copy(),
            "not_ready": self._not_ready,
            "known": known.reshape(-1, FEATURES),
            "queue": questions_state(self._queue),
            "doubts": [doubt for doubt, _ in self._doubtful],
            "doubtful": questions_state([question for _, question in self._doubtful]),
            "drawn": questions_state(self._drawn),
            "under_way": self._under_way,
            "window": self._window.copy(),
            "credit": self._credit,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            PeerWattError: the teacher cannot.
        """
        self._generator.bit_generator.state = state["generator"]
        self._school.restore(state["school"])
        self._pace.restore(state["pace"])
        usage = self._school.teacher.usage()
        self._progress = progress_of(state["progress"], usage)
        if self._progress.knowledge is not None:
            self._student = Student(self._progress.knowledge)
        if state["pending"] is not None:
            self._job = Future()
            self._job.set_result(progress_of(state["pending"], usage))
        self._calls, self._not_ready = state["calls"], state["not_ready"]
        self._kinds_seen[:], self._window[:] = state["kinds_seen"], state["window"]
        self._known = {features.tobytes() for features in state["known"]}
        self._queue = questions_of(state["queue"])
        self._doubtful = list(zip(state["doubts"], questions_of(state["doubtful"]), strict=True))
        self._drawn = questions_of(state["drawn"])
        self._under_way, self._credit = state["under_way"], state["credit"]

    def close(self, finished: bool) -> None:
        """End the work; of a run that came to its end, slots held out last are asked about, too."""
        try:
            if finished:
                self._take()
                held_out = [question for question in self._queue if question.delivered is not None]
                self._pace.asked -= len(self._queue) - len(held_out)  # too late to learn from
                self._queue = []
                if held_out:
                    self._job = self._thread.submit(self._school.work, held_out, 0)
                    self._take()
        finally:
            self._thread.shutdown(wait=finished, cancel_futures=True)
            self._school.teacher.close(finished)
        self._progress = self._progress._replace(usage=self._school.teacher.usage())
