"""The critic that asks several critics, or one several times, and takes the median."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError
from peerwatt.fairness.critic import FairnessScores, SlotBatch
from peerwatt.fairness.session import CriticSession, CriticUsage, Forecast, savable
from peerwatt_critics.members import (
    NAMES_CRITICS,
    OpenPlain,
    begun,
    contents_of,
    made,
    undefined,
)
from peerwatt_critics.usage import merged

MOST = 64
NO_VOTE = "no member answered"


@dataclass(frozen=True)
class EnsembleCritic:
    """Gives the median of its members' scores, each score for itself.

    A member that abstains has no vote; where all abstain, the ensemble does.
    """

    members: tuple[str, ...] = field(default=("rule",), metadata=NAMES_CRITICS)
    """Critics with their options: rule, llm:model=openai/gpt-4o-mini,prompt=summary-v1."""
    repeats: int = 1
    """How often each member is asked about a slot, each time anew."""

    def __post_init__(self) -> None:
        """Refuse an ensemble of nobody, or of a crowd."""
        if not self.members or self.repeats < 1 or len(self.members) * self.repeats > MOST:
            raise PeerWattError(
                f"ensemble: {len(self.members)} members asked {self.repeats} times each; name at "
                f"least one member and one repeat, and at most {MOST} together."
            )

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 of the files that the members' options name."""
        digest = contents_of([made("ensemble", text) for text in self.members])
        return {} if digest is None else {"members": digest}

    def check(self) -> None:
        """Have all members look for what would fail a run.

        Raises:
            PeerWattError: there is something.
        """
        for text in self.members:
            made("ensemble", text).check()

    def forecast(self, slots: int) -> Forecast:
        """Return what all members will cost at most; all repeats of one share what it may spend."""
        members = (made("ensemble", text) for text in self.members)
        return sum((member.forecast(slots * self.repeats) for member in members), Forecast())

    def open(self, session: CriticSession) -> OpenEnsemble:
        """Return the ensemble at work, all its members opened.

        Raises:
            PeerWattError: a member is unknown, or its options are wrong.
        """
        return OpenEnsemble(self, session)


class OpenEnsemble:
    """The members at work; those that may have to wait for an answer wait side by side."""

    def __init__(self, options: EnsembleCritic, session: CriticSession) -> None:
        critics = [made("ensemble", text) for text in options.members]
        self._members: list[Any] = []
        self._slots = self._feasible = self._scored = 0
        for number, critic in enumerate(c for c in critics for _ in range(options.repeats)):
            # A repeat of its own for each, so that no answer from a cache counts twice.
            repeat = session.repeat * options.repeats + number % options.repeats
            child = session.child(f"members.{number}")
            # What a member may spend is for all its repeats together.
            own = f"members.{number - number % options.repeats}"
            account = ".".join(filter(None, (session.account or session.path, own)))
            child = dataclasses.replace(child, repeat=repeat, account=account)
            try:
                self._members.append(begun(critic, child))
            except BaseException:
                self._close(False)
                raise
        self._threads = ThreadPoolExecutor(len(self._members), "ensemble")

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the medians, each [M]; NaN where a score is undefined or nobody gave one."""
        waiting = {
            number: self._threads.submit(member.score, slots)
            for number, member in enumerate(self._members)
            if not isinstance(member, OpenPlain)
        }
        votes = [
            waiting[number].result() if number in waiting else member.score(slots)
            for number, member in enumerate(self._members)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of slots without any vote
            median = np.nanmedian(np.array(votes), axis=0)
        blank = undefined(slots)
        self._slots += blank.shape[1]
        self._feasible += int((~np.isnan(blank[0])).sum())
        scores = median + blank
        self._scored += int((~np.isnan(scores)).any(axis=0).sum())
        return FairnessScores(*scores)

    def usage(self) -> CriticUsage:
        """Return how many slots got a score, and what the members cost together."""
        members = [member.usage() for member in self._members]
        # Without a score is a slot that nobody gave one: some left it out on purpose, some failed.
        unscored = self._feasible - self._scored
        failed = min(unscored, max(sum(member.abstained.values()) for member in members))
        return dataclasses.replace(
            merged(members),
            slots=self._slots,
            undefined=self._slots - self._feasible,
            skipped=unscored - failed,
            scored=self._scored,
            abstained={NO_VOTE: failed} if failed else {},
        )

    @property
    def savable(self) -> bool:
        """Whether all members can be saved."""
        return all(map(savable, self._members))

    def state(self) -> dict[str, Any]:
        """Return the counts and the members' states."""
        return {
            "slots": self._slots,
            "feasible": self._feasible,
            "scored": self._scored,
            "members": [member.state() for member in self._members],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._slots, self._feasible = state["slots"], state["feasible"]
        self._scored = state["scored"]
        for member, its in zip(self._members, state["members"], strict=True):
            member.restore(its)

    def close(self, finished: bool) -> None:
        """Close the members."""
        self._threads.shutdown(wait=finished, cancel_futures=True)
        self._close(finished)

    def _close(self, finished: bool) -> None:
        errors = []
        for member in self._members:
            try:
                member.close(finished)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
