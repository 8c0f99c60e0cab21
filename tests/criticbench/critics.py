"""Critics for the tests, and what surrounds them."""

import dataclasses
import hashlib
import json

import numpy as np

from peerwatt.criticbench.subject import Examined
from peerwatt.fairness import FairnessScores, score_slots
from peerwatt.fairness.session import CriticUsage
from peerwatt.runs.result import PluginRecord


def examined(critic, name="tried", **options):
    record = PluginRecord(name=name, distribution="tests", version="1", options=options)
    return Examined(critic=critic, options=(), record=record, text=name, label=name)


class Plain:
    """A critic without memory that scores by a function of slots and true scores [4, M]."""

    def __init__(self, change=lambda slots, truth: truth):
        self.change = change

    def score(self, slots):
        return FairnessScores(*self.change(slots, np.stack(score_slots(slots))))


class Asking:
    """Stands for a critic that asks a model: it knows session, usage and transcript.

    Args:
        answer: takes truth [4] and session, returns scores [4].
        die_at: call at which the process is interrupted, counted over all sessions.
        cap: calls after which nothing is answered any more.
    """

    slots_per_call = 2

    def __init__(self, answer=lambda truth, session: truth, die_at=None, cap=None):
        self.answer = answer
        self.die_at = die_at
        self.cap = cap
        self.calls = 0
        self.kept = {}  # the cache of the results folder
        self.sessions = []

    def open(self, session):
        self.sessions.append(session)
        return _AtWork(self, session)


class _AtWork:
    def __init__(self, critic, session):
        self.critic, self.session = critic, session
        self.told = CriticUsage(dollars=0.0)

    def score(self, slots):
        truth = np.stack(score_slots(slots))
        scores = np.full_like(truth, np.nan)
        counts = dict.fromkeys(("slots", "undefined", "scored", "calls", "cache_hits"), 0)
        counts["slots"] = truth.shape[1]
        capped = self.told.capped
        for m in range(truth.shape[1]):
            if np.isnan(truth[0, m]):
                counts["undefined"] += 1
                continue
            question = hashlib.sha256(np.round(truth[:, m], 6).tobytes()).hexdigest()
            key = (question, self.session.repeat, self.session.presentation)
            if key in self.critic.kept:
                counts["cache_hits"] += 1
            elif self.critic.cap is not None and self.critic.calls >= self.critic.cap:
                capped = f"max_calls {self.critic.cap} reached"
                continue
            else:
                self.critic.calls += 1
                if self.critic.calls == self.critic.die_at:
                    raise KeyboardInterrupt
                counts["calls"] += 1
                answer = np.clip(self.critic.answer(truth[:, m], self.session), 0, 1)
                self.critic.kept[key] = answer
                self._write("exchange", reply=json.dumps(answer.tolist()), repair=False)
            self._write("answer", question=question)
            counts["scored"] += 1
            scores[:, m] = self.critic.kept[key]
        added = {name: getattr(self.told, name) + more for name, more in counts.items()}
        abstained = {"capped": added["slots"] - added["undefined"] - added["scored"]}
        self.told = dataclasses.replace(self.told, **added, abstained=abstained, capped=capped)
        return FairnessScores(*scores)

    def _write(self, kind, **content):
        self.session.transcript.write(kind, self.session.path, {"problem": None, **content})

    def usage(self):
        return self.told

    def close(self, finished):
        pass
