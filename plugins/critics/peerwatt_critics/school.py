"""What a student's teacher is asked, and what comes of its answers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from peerwatt.fairness.critic import Floats, SlotBatch, joined
from peerwatt.fairness.session import CriticUsage, OpenCritic
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


class School:
    """Teacher, labels and learner: what the teacher's thread works with."""

    def __init__(
        self, teacher: OpenCritic, ready: int, bound: float, generator: np.random.Generator
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
