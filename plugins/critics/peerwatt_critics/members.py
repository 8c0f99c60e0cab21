"""What critics share that are made of other critics: opening these, and what is undefined."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.critic import FairnessScores, Floats, SlotBatch
from peerwatt.fairness.scores import feasible
from peerwatt.fairness.session import CriticSession, CriticUsage, Forecast
from peerwatt.plugins.texts import from_text

FBS = FairnessScores._fields.index("fbs")
NAMES_CRITICS = {"critic": True}
"""Metadata of options that name critics, so that records tell these as they tell any critic."""
ROLES = {"ensemble": ("member", "members"), "distilled": ("teacher", "teacher")}
"""What critics are to the one that is made of them, and the option that names them."""
OPTION = re.compile(r"(?:--)?critic\.([a-z][a-z_-]*)")
"""How a critic's message names one of its options, as if it were the only critic."""
OPTIONS = re.compile(r":\s*(?:\{|[A-Za-z_][\w-]*=)")
"""Where the name of a critic ends and its options begin."""


def undefined(slots: SlotBatch) -> Floats:
    """Return [4, M]: NaN where a score is undefined, else 0.

    Without a feasible trade there is no score at all, with fewer than two sellers there is no FBS.
    """
    blank = np.zeros((4, len(slots.feed_in)))
    blank[FBS, (slots.surplus > 0).sum(axis=1) < 2] = np.nan
    blank[:, ~(feasible(slots) > 0)] = np.nan
    return blank


class OpenPlain:
    """A critic that asks nobody, at work in one run: it counts slots."""

    def __init__(self, score: Callable[[SlotBatch], FairnessScores]) -> None:
        self._score = score
        self._slots = self._undefined = self._scored = 0

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the scores of M slots."""
        scores = self._score(slots)
        possible = feasible(slots) > 0
        self._slots += len(possible)
        self._undefined += len(possible) - int(possible.sum())
        self._scored += int((possible & ~np.isnan(np.stack(scores)).all(axis=0)).sum())
        return scores

    def usage(self) -> CriticUsage:
        """Return how many slots got a score; those without one were skipped."""
        return CriticUsage(
            slots=self._slots,
            undefined=self._undefined,
            skipped=self._slots - self._undefined - self._scored,
            scored=self._scored,
        )

    def state(self) -> dict[str, Any]:
        """Return the counts."""
        return {"slots": self._slots, "undefined": self._undefined, "scored": self._scored}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._slots, self._undefined = state["slots"], state["undefined"]
        self._scored = state["scored"]

    def close(self, finished: bool) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Member:
    """A critic that another is made of, and how its user wrote it."""

    owner: str
    text: str
    critic: Any

    def check(self) -> None:
        """Have the critic look for what would fail its runs, if it can.

        Raises:
            PeerWattError: there is something.
        """
        if hasattr(self.critic, "check"):
            with placed(self.owner, self.text):
                self.critic.check()

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 of the files that its options name.

        Raises:
            PeerWattError: one cannot be read.
        """
        if not hasattr(self.critic, "contents"):
            return {}
        with placed(self.owner, self.text):
            told: dict[str, str] = self.critic.contents()
        return told

    def forecast(self, slots: int) -> Forecast:
        """Return what the critic will cost at most for so many slots; nothing if it tells none."""
        if not hasattr(self.critic, "forecast"):
            return Forecast()
        with placed(self.owner, self.text):
            told: Forecast = self.critic.forecast(slots)
        return told


@contextlib.contextmanager
def placed(owner: str, text: str) -> Iterator[None]:
    """Have errors tell of which part of `owner` they are, and how its options are written there.

    Raises:
        PeerWattError: the block raised one.
    """
    try:
        yield
    except PeerWattError as error:
        role, option = ROLES[owner]
        name = shown(OPTIONS.split(text)[0], 80)
        said = f"{role} '{name}': {error}"
        if found := OPTION.search(said):
            own = found[1].replace("-", "_")
            said = OPTION.sub(lambda found: found[1].replace("-", "_"), said).rstrip(".")
            said += (
                f"; write --critic.{option} {name}:{own}={'NAME' if own == 'model' else 'VALUE'}."
            )
        raise PeerWattError(said) from None


def made(owner: str, text: str) -> Member:
    """Return the critic that `text` names for the critic called `owner`.

    Raises:
        PeerWattError: the text is malformed, the name unknown or an option wrong; it names a
            replay, which replays whole runs; or the rule critic would stand in for what fails,
            and its scores would be taken for those of another.
    """
    with placed(owner, text):
        plugin, critic = from_text("critic", text)
    if plugin.spec.name == "replay":
        raise PeerWattError(
            f"{owner}: '{shown(text, 80)}' replays whole runs and cannot be a part of another "
            f"critic; to replay a run with {owner}, use --critic replay."
        )
    if getattr(critic, "fallback", "") == "rule":
        raise PeerWattError(
            f"{owner}: '{shown(text, 80)}' has fallback=rule, so scores of the rule critic would "
            "be taken for its own; leave the fallback out."
        )
    return Member(owner, text, critic)


def begun(critic: Any, session: CriticSession) -> Any:
    """Return `critic`, a member or any other, at work; one without `open` counts its slots."""
    if isinstance(critic, Member):
        with placed(critic.owner, critic.text):
            return begun(critic.critic, session)
    start = getattr(critic, "open", None)
    return OpenPlain(critic.score) if start is None else start(session)


def contents_of(members: Sequence[Member]) -> str | None:
    """Return one SHA-256 of the files that `members` are made from; None if there are none."""
    told = [member.contents() for member in members]
    if not any(told):
        return None
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
