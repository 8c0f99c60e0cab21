"""What a student's teacher is asked, and what comes of its answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from peerwatt.fairness.critic import Floats, SlotBatch, joined
from peerwatt.fairness.session import CriticUsage
from peerwatt_critics.held_out import FEW_RESAMPLES, LEAST, WINDOW, HeldOutErrors
from peerwatt_critics.members import FBS
from peerwatt_critics.student import (
    FEATURES,
    LONE_SELLER,
    SCORES,
    Knowledge,
    Learner,
    Singles,
)

FIRST_STEPS = 1500
"""Minibatches of the first lesson."""
SLOTS_PER_STEP = 20
"""Slots shown for each minibatch of a later lesson, which bounds what learning costs."""
MOST_STEPS = 100
"""Minibatches of a later lesson at most."""


class Question(NamedTuple):
    """A slot for the teacher."""

    slot: SlotBatch  # of one slot
    features: Singles  # [FEATURES]
    kind: int
    place: int  # how many slots the student had answered before the call that brought this one
    delivered: Floats | None  # [SCORES] if held out


class Progress(NamedTuple):
    """What came of one lesson."""

    knowledge: Knowledge | None  # None as long as there are too few labels
    labels: int
    held_out: int  # slots that tell the error
    judged: int  # place of the last of them
    unanswered: int  # slots that the teacher gave no score
    too_far_off: bool  # it may be too large, or nobody can tell yet
    usage: CriticUsage  # of the teacher

    def state(self) -> dict[str, Any]:
        """Return all but the teacher's usage."""
        state = self._asdict()
        del state["usage"]
        if self.knowledge is not None:
            state["knowledge"] = self.knowledge._asdict()
        return state


def progress_of(state: Mapping[str, Any], usage: CriticUsage) -> Progress:
    """Return what `Progress.state` told, with the teacher's `usage` as it is now."""
    knowledge = state["knowledge"]
    return Progress(
        **{
            **state,
            "knowledge": None if knowledge is None else Knowledge(**knowledge),
            "usage": usage,
        }
    )


def questions_state(questions: Sequence[Question]) -> dict[str, Any] | None:
    """Return `questions` as arrays, or None if there are none."""
    if not questions:
        return None
    nothing = np.full(SCORES, np.nan)
    delivered = [question.delivered for question in questions]
    return {
        "slots": joined(question.slot for question in questions)._asdict(),
        "features": np.array([question.features for question in questions]),
        "kinds": [question.kind for question in questions],
        "places": [question.place for question in questions],
        "held_out": [scores is not None for scores in delivered],
        "delivered": np.array([nothing if scores is None else scores for scores in delivered]),
    }


def questions_of(state: Mapping[str, Any] | None) -> list[Question]:
    """Return what `questions_state` told."""
    if state is None:
        return []
    slots = SlotBatch(**state["slots"])
    return [
        Question(
            slots.taken([m]),
            state["features"][m],
            state["kinds"][m],
            state["places"][m],
            state["delivered"][m] if held_out else None,
        )
        for m, held_out in enumerate(state["held_out"])
    ]


class School:
    """Teacher, labels and learner: what the teacher's thread works with."""

    def __init__(
        self, teacher: Any, ready: int, bound: float, generator: np.random.Generator
    ) -> None:
        self.teacher = teacher
        self.errors = HeldOutErrors(int(generator.integers(2**63)))
        self._ready = ready
        self._bound = bound
        self._learner = Learner(generator)
        self._features = np.empty((0, FEATURES), np.float32)
        self._labels = np.empty((0, SCORES), np.float32)
        self._unanswered = 0
        self._begun = False
        self._too_far_off = True

    def work(self, questions: list[Question], shown: int) -> Progress:
        """Have `questions` answered and learn, after `shown` more slots."""
        before = len(self.errors)
        if questions:
            self._ask(questions)
        if len(self.errors) > before and len(self.errors) >= LEAST:
            start = len(self.errors) - WINDOW
            high = self.errors.estimate(start, resamples=FEW_RESAMPLES).high
            self._too_far_off = high is None or high > self._bound
        knowledge = None
        if len(self._labels) >= self._ready:
            least = math.ceil(self._ready / 4)
            steps = min(MOST_STEPS, -(-shown // SLOTS_PER_STEP)) if self._begun else FIRST_STEPS
            knowledge = self._learner.learn(self._features, self._labels, steps, least)
            self._begun = True
        return Progress(
            knowledge,
            len(self._labels),
            len(self.errors),
            self.errors.last,
            self._unanswered,
            self._too_far_off,
            self.teacher.usage(),
        )

    def state(self) -> dict[str, Any]:
        """Return what was learned and from what; nothing may be at work."""
        return {
            "teacher": self.teacher.state(),
            "errors": self.errors.state(),
            "learner": self._learner.state(),
            "features": self._features,
            "labels": self._labels,
            "unanswered": self._unanswered,
            "begun": self._begun,
            "too_far_off": self._too_far_off,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self.teacher.restore(state["teacher"])
        self.errors.restore(state["errors"])
        self._learner.restore(state["learner"])
        self._features, self._labels = state["features"], state["labels"]
        self._unanswered, self._begun = state["unanswered"], state["begun"]
        self._too_far_off = state["too_far_off"]

    def _ask(self, questions: list[Question]) -> None:
        slots = joined(question.slot for question in questions)
        labels = np.array(self.teacher.score(slots), np.float64).T
        labels[[question.kind == LONE_SELLER for question in questions], FBS] = np.nan
        answered = ~np.isnan(labels).all(axis=1)
        self._unanswered += len(questions) - int(answered.sum())
        learned = []
        for index in np.flatnonzero(answered):
            question = questions[index]
            if question.delivered is not None:
                self.errors.add(question.place, question.delivered, labels[index])
            else:
                learned.append(index)
        features = np.array([questions[index].features for index in learned], np.float32)
        self._features = np.concatenate([self._features, features.reshape(-1, FEATURES)])
        self._labels = np.concatenate([self._labels, labels[learned].astype(np.float32)])
