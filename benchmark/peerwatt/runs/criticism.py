"""The critic of a run: its session, its transcript, and what it tells of itself in the end."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peerwatt.errors import PeerWattError, shown, told
from peerwatt.fairness.session import CriticSession, CriticUsage, checked
from peerwatt.fairness.transcript import TRANSCRIPT_FILE, Transcript, locked
from peerwatt.runs.config import ResolvedRun

MAX_NOTE = 900
"""Characters of a note that tells what a critic did not do."""


class Criticism:
    """What a run keeps for its critic.

    The transcript lies beside the folder of the run while that lives, and in it once the run is
    done: so nothing that was paid for is lost with a run that fails or is killed.
    """

    def __init__(
        self, run: ResolvedRun, folder: Path, results: Path, head: Mapping[str, Any], again: bool
    ) -> None:
        """Prepare for `run`, whose folder will be `folder`.

        Args:
            run: the run.
            folder: where its record will be.
            results: folder of all results, where critics keep what runs share.
            head: what is known of the record, the first line of the transcript.
            again: whether the run is done anew on purpose.

        Raises:
            PeerWattError: another process is at the same run.
        """
        self._name = run.critic_record.name
        self._transcript = Transcript(_beside(folder), head)
        _set_aside(folder)
        seed = run.config.seed
        self.session = CriticSession(
            generator=np.random.default_rng([seed, 0xC417]),  # not that of the algorithm
            seed=seed,
            run=f"{run.config_hash}-{seed}",
            entry=run.config_hash,
            fresh=again,
            cumulative=True,
            store=results,
            transcript=self._transcript,
            expected_slots=_expected_slots(run),
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

    def publish(self, folder: Path) -> None:
        """Move the transcript into the finished `folder`."""
        if self._transcript.file.exists():
            os.replace(self._transcript.file, folder / TRANSCRIPT_FILE)


def _beside(folder: Path, mark: str = "") -> Path:
    """Return where the transcript of a run lies that has no folder yet."""
    stem, _, ending = TRANSCRIPT_FILE.partition(".")
    return folder.with_name(f"{folder.name}.{stem}{mark}.{ending}")


def _set_aside(folder: Path) -> None:
    """Rename the transcript that an interrupted run left."""
    left = _beside(folder)
    if not left.exists():
        return
    with left.open("a", encoding="utf-8") as file:
        if not locked(file):
            raise PeerWattError(
                f"{folder} is being made by another process: wait until it is done, or stop it."
            )
    names = (_beside(folder, f".interrupted-{n}") for n in itertools.count(1))
    left.rename(next(name for name in names if not name.exists()))


def _expected_slots(run: ResolvedRun) -> int:
    """Return how many slots are played after the warm-up of the shaping, if all goes by budget."""
    shaping = run.config.shaping
    if not any((shaping.ftg, shaping.fbs, shaping.fpp, shaping.ftb)):
        return 0
    return int(run.budget // run.task.community.size * max(0.0, 1.0 - shaping.warm))
