"""The critic that asks a language model, at work in one run."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peerwatt.errors import PeerWattError
from peerwatt.fairness.critic import FairnessScores, SlotBatch
from peerwatt.fairness.scores import feasible, score_slots
from peerwatt.fairness.session import CriticSession, CriticUsage
from peerwatt_critics.calls.exchange import Transport
from peerwatt_critics.calls.options import CallOptions
from peerwatt_critics.calls.path import CallPath
from peerwatt_critics.calls.recorded import RecordedPath
from peerwatt_critics.calls.redact import Redact, redactor
from peerwatt_critics.prompting import load_prompt

TransportFactory = Callable[[Redact], Transport]
"""Makes the transport of one run; what it is given hides secrets in a text."""


class AskedCritic:
    """Chooses slots, puts them to a model, and stands in for answers that cannot be had."""

    def __init__(
        self, options: CallOptions, transport: TransportFactory, session: CriticSession
    ) -> None:
        """Open the critic; no request is sent yet.

        Raises:
            PeerWattError: no model is named, there is no such prompt, a cap on dollars meets
                unknown prices, or the cache cannot be used.
        """
        if not options.model:
            raise PeerWattError(
                "critic.model is empty; name the model that scores, such as --critic.model "
                "openai/gpt-4o-mini."
            )
        self._options = options
        self._generator = session.generator
        self._prompt = load_prompt(options.prompt)
        self._path: CallPath | RecordedPath
        if session.recording is not None:
            self._path = RecordedPath(session.recording, session.path, session.repeat)
        else:
            redact = redactor(options.api_key_env)
            self._path = CallPath(options, self._prompt, transport(redact), session, redact=redact)
        self._seen = 0  # slots in which trade was feasible
        self._counts: Counter[str] = Counter()
        self._abstained: Counter[str] = Counter()

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the scores of M slots, each [M] in [0, 1]; NaN where there is none.

        Raises:
            PeerWattError: no request of the run can succeed, or a limit is to end the run.
        """
        scores = np.full((4, len(slots.feed_in)), np.nan)
        defined = feasible(slots) > 0
        asked = np.flatnonzero(self._chosen(defined))
        self._counts["slots"] += len(defined)
        self._counts["undefined"] += len(defined) - int(defined.sum())
        self._counts["skipped"] += int(defined.sum()) - len(asked)
        if len(asked):
            scores[:, asked] = self._ask(slots.taken(asked))
        return FairnessScores(*scores)

    def _chosen(self, defined: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which slots to ask about, [M], of those in which trade was feasible."""
        position = self._seen + np.cumsum(defined) - 1
        self._seen += int(defined.sum())
        chosen = defined & (position % self._options.every == 0)
        if self._options.share < 1.0:
            draws = np.ones(len(defined))
            draws[defined] = self._generator.random(int(defined.sum()))
            chosen &= draws < self._options.share
        return chosen

    def _ask(self, slots: SlotBatch) -> NDArray[np.float64]:
        """Return the scores [4, M] of slots that are put to the model."""
        outcomes = self._path.ask(self._prompt.canonical(slots))
        scores = np.full((4, len(outcomes)), np.nan)
        failed = []
        for index, outcome in enumerate(outcomes):
            if outcome.scores is None:
                failed.append(index)
            else:
                scores[:, index] = outcome.scores
        # Nobody to be compared with: the score is not defined, whatever the model says.
        scores[1, (slots.surplus > 0).sum(axis=1) < 2] = np.nan
        self._counts["scored"] += len(outcomes) - len(failed)
        if failed and self._options.fallback == "rule":
            self._counts["fallback"] += len(failed)
            scores[:, failed] = score_slots(slots.taken(failed))
        else:
            self._abstained.update(outcomes[index].reason for index in failed)
        return scores

    def usage(self) -> CriticUsage:
        """Return what the critic did so far."""
        counts: dict[str, Any] = dict(self._counts)
        part = self._path.usage_part()
        return dataclasses.replace(part, **counts, abstained=dict(self._abstained))

    def state(self) -> dict[str, Any]:
        """Return all that later scores depend on, but for what the transcript tells."""
        return {
            "seen": self._seen,
            "counts": dict(self._counts),
            "abstained": dict(self._abstained),
            "generator": self._generator.bit_generator.state,
            "path": self._path.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`.

        Raises:
            PeerWattError: the transcript does not reach as far.
        """
        self._seen = state["seen"]
        self._counts = Counter(state["counts"])
        self._abstained = Counter(state["abstained"])
        self._generator.bit_generator.state = state["generator"]
        self._path.restore(state["path"])

    def close(self, finished: bool) -> None:
        """End all connections; what is under way is given up."""
        self._path.close(finished)
