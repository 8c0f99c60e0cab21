"""The critic that gives the answers of an earlier run again, without asking anybody."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerwatt.errors import PeerWattError, shown
from peerwatt.fairness.critic import FairnessScores, SlotBatch
from peerwatt.fairness.session import CriticSession, CriticUsage, savable
from peerwatt.fairness.transcript import TRANSCRIPT_FILE, Recording
from peerwatt.plugins.loader import build, find
from peerwatt_critics.members import begun


@dataclass(frozen=True)
class ReplayCritic:
    """Replays a recorded run: same task, algorithm, options and seed give the same policy.

    The critic that the transcript names is made anew, with its options, and answers as it did then;
    no request is sent. Whatever asks another question than the recorded run is refused.
    """

    transcript: str = ""
    """A run's transcript (critic.jsonl), its folder, or the folder of an entry with its runs."""

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 of the transcript, or of all transcripts of an entry."""
        if not self.transcript:
            return {}
        digest = hashlib.sha256()
        for file in self._files():
            try:
                content = file.read_bytes()
            except OSError as error:
                raise PeerWattError(
                    f"transcript {file}: cannot be read ({error.strerror})."
                ) from None
            digest.update(hashlib.sha256(content).digest())
        return {"transcript": digest.hexdigest()}

    def check(self) -> None:
        """Look for a transcript, and whether it tells of a critic.

        Raises:
            PeerWattError: there is none, or it is of no known critic.
        """
        self._named()
        _critic_of(Recording(self._files()[0]))

    def open(self, session: CriticSession) -> OpenReplay:
        """Return the recorded critic at work.

        Raises:
            PeerWattError: there is no transcript, or it is of another seed or of no known critic.
        """
        recording = Recording(self._file(session.seed))
        critic = _critic_of(recording)
        if recording.head.get("seed") != session.seed:
            theirs = shown(str(recording.head.get("seed")), 20)
            raise PeerWattError(
                f"transcript {recording.file}: is of seed {theirs}, not of seed {session.seed}."
            )
        return OpenReplay(critic, recording, session)

    def _named(self) -> None:
        """Raise if no transcript is named."""
        if not self.transcript:
            raise PeerWattError(
                "replay.transcript is empty; name a transcript, as in --critic.transcript "
                f"results/TASK/ENTRY/seed-000/{TRANSCRIPT_FILE}."
            )

    def _files(self) -> list[Path]:
        place = Path(self.transcript).expanduser()
        if not place.is_dir():
            return [place]
        if (place / TRANSCRIPT_FILE).exists():
            return [place / TRANSCRIPT_FILE]
        files = sorted(place.glob(f"seed-*/{TRANSCRIPT_FILE}"))
        if not files:
            raise PeerWattError(
                f"replay.transcript: no {TRANSCRIPT_FILE} is in the folder {place} or in the runs "
                "in it; name the folder of a run whose critic asked a model."
            )
        return files

    def _file(self, seed: int) -> Path:
        """Return the transcript of the run with `seed`."""
        self._named()
        files = self._files()
        place = Path(self.transcript).expanduser()
        if files[0] in (place, place / TRANSCRIPT_FILE):
            return files[0]
        own = place / f"seed-{seed:03d}" / TRANSCRIPT_FILE
        if own not in files:
            raise PeerWattError(
                f"replay.transcript: {place} holds no transcript of seed {seed}; replay the seeds "
                f"{', '.join(str(int(file.parent.name[5:])) for file in files)}."
            )
        return own


def _critic_of(recording: Recording) -> object:
    """Return the critic that the head of a transcript names."""
    record = recording.head.get("critic")
    options = record.get("options") if isinstance(record, dict) else None
    name = record.get("name") if isinstance(record, dict) else None
    if not isinstance(name, str) or not isinstance(options, dict):
        raise PeerWattError(f"transcript {recording.file}: its first line names no critic.")
    if name.rpartition(":")[2] == "replay":
        raise PeerWattError(
            f"transcript {recording.file}: is of a replay; name the transcript that was replayed."
        )
    return build("critic", find("critic", name), options)


class OpenReplay:
    """The recorded critic at work."""

    def __init__(self, critic: object, recording: Recording, session: CriticSession) -> None:
        self._recording = recording
        self._work = begun(
            critic, dataclasses.replace(session, recording=recording, tail=None, store=None)
        )

    def score(self, slots: SlotBatch) -> FairnessScores:
        """Return the recorded scores.

        Raises:
            PeerWattError: the run asks something that the recorded one did not.
        """
        scores: FairnessScores = self._work.score(slots)
        return scores

    def usage(self) -> CriticUsage:
        """Return what the recorded critic did this time; it paid for nothing."""
        usage: CriticUsage = self._work.usage()
        return usage

    @property
    def savable(self) -> bool:
        """Whether the recorded critic can be saved."""
        return savable(self._work)

    def state(self) -> Mapping[str, Any]:
        """Return the state of the recorded critic."""
        state: Mapping[str, Any] = self._work.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        self._work.restore(state)

    def close(self, finished: bool) -> None:
        """End the work.

        Raises:
            PeerWattError: the run is over and asked less than the recorded one.
        """
        self._work.close(finished)
        if finished and (left := self._recording.left()):
            raise PeerWattError(
                f"transcript {self._recording.file}: the run ended and never asked {left:,} of the "
                "recorded questions; replay it with the task, algorithm, options, seed, budget and "
                "version that made it."
            )
