"""The critic of a run: its session, its transcript, and what it tells of itself in the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError, shown, told
from peerwatt.fairness.session import CriticSession, CriticUsage, checked
from peerwatt.fairness.transcript import TRANSCRIPT_FILE, Transcript
from peerwatt.runs.config import ResolvedRun

MAX_NOTE = 900
"""Characters of a note that tells what a critic did not do."""


class Criticism:
    """What a run keeps for its critic.

    The transcript lies in the folder of the unfinished run, so nothing that was paid for is lost
    with a run that fails or is killed.
    """

    def __init__(
        self,
        run: ResolvedRun,
        work: Path,
        results: Path,
        head: Mapping[str, Any],
        *,
        fresh: bool,
        going_on: bool,
    ) -> None:
        """Prepare for `run`.

        Args:
            run: the run.
            work: folder of the unfinished run.
            results: folder of all results, where critics keep what runs share.
            head: what is known of the record, the first line of the transcript.
            fresh: whether the run is done anew on purpose, and begins now.
            going_on: whether it goes on from a checkpoint, and with the transcript that is there.

        Raises:
            PeerWattError: another process is at the same run.
        """
        self._name = run.critic_record.name
        self._transcript = Transcript(work / TRANSCRIPT_FILE, head, going_on=going_on)
        seed = run.config.seed
        self.session = CriticSession(
            generator=np.random.default_rng([seed, 0xC417]),  # not that of the algorithm
            seed=seed,
            run=f"{run.config_hash}-{seed}",
            entry=run.config_hash,
            fresh=fresh,
            cumulative=True,
            store=results,
            transcript=self._transcript,
            tail=self._transcript.tail,
            expected_slots=slots_to_score(run),
        )

    def usage(self, critic: Any) -> tuple[CriticUsage | None, list[str]]:
        """Return what the closed `critic` did, and sentences about what did not go as asked for.

        A critic that tells nonsense fails no run that is trained already: that is a sentence, too.
        """
        try:
            usage = critic.usage()
            if usage is None:  # a critic without memory
                return None, []
            usage = checked(usage)
        except Exception as error:
            known = isinstance(error, PeerWattError)
            problem = str(error).removesuffix(".") if known else f"usage failed: {told(error)}"
            return None, [shown(f"critic {self._name!r}: {problem}", MAX_NOTE)]
        usage = dataclasses.replace(usage, transcript=self._transcript.digest())
        return usage, [shown(sentence, MAX_NOTE) for sentence in usage.told]

    def close(self) -> None:
        """Close the transcript, which stays where it is."""
        self._transcript.close()


def slots_to_score(run: ResolvedRun) -> int:
    """Return how many slots are played after the warm-up of the shaping, if all goes by budget."""
    shaping = run.config.shaping
    if not any((shaping.ftg, shaping.fbs, shaping.fpp, shaping.ftb)):
        return 0
    return int(run.budget // run.task.community.size * max(0.0, 1.0 - shaping.warm))
