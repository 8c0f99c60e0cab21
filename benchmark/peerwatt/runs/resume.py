"""The checkpoints of one run: when they are due, how they are saved, which may be gone on with."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from peerwatt.errors import PeerWattError, shown, told
from peerwatt.fairness.transcript import TRANSCRIPT_FILE
from peerwatt.runs.checkpoint import CHECKPOINT_FILE, MAX_CHECKPOINT_BYTES, pack, unpack
from peerwatt.runs.files import sync_file, write_whole
from peerwatt.runs.store import CLOCK_FILE, METRICS_FILE
from peerwatt.runs.untrusted import opener, read_small

_LOG = logging.getLogger(__name__)
REPORTS = (METRICS_FILE, CLOCK_FILE)
"""What a run writes with each report; cut back to the checkpoint that it goes on from."""
Count = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Files(_Part):
    metrics: Annotated[Count, Field(alias=METRICS_FILE)]
    clock: Annotated[Count, Field(alias=CLOCK_FILE)]
    transcript: Annotated[Count, Field(alias=TRANSCRIPT_FILE)]


class _Spent(_Part):
    wall: Seconds
    cpu: Seconds


class _Training(_Part):
    markets: list[dict[str, Any]]
    generator: dict[str, Any]
    curve: list[dict[str, Any]]
    evaluation_seconds: Seconds
    seconds: Seconds


class _Kept(_Part):
    """What a checkpoint holds, as far as the harness wrote it."""

    algorithm: Any
    agent_steps: Count
    critic: dict[str, Any] | None
    training: _Training
    fingerprint: dict[str, Any]
    files: _Files
    spent: _Spent


def read_checkpoint(work: Path) -> dict[str, Any] | None:
    """Return the checkpoint in the folder `work`, None if there is none.

    Raises:
        PeerWattError: it cannot be read, or is none that PeerWatt wrote.
    """
    file = work / CHECKPOINT_FILE
    if not os.path.lexists(file):
        return None
    state = unpack(read_small(file, MAX_CHECKPOINT_BYTES))
    try:
        _Kept.model_validate(state)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise PeerWattError(
            f"the checkpoint is none that PeerWatt wrote: {shown(place, 100)} is not what it wrote."
        ) from None
    return state


class Checkpoints:
    """Saves the checkpoints of the run in a work folder, and holds the one to go on from.

    Attributes:
        kept: the state to go on from; None if the run begins.
        notes: sentences about what went wrong with checkpoints, for the record.
    """

    def __init__(
        self,
        work: Path,
        fingerprint: Mapping[str, Any],
        seconds: float,
        saved: Callable[[], None] | None = None,
    ) -> None:
        """Look for a checkpoint in `work`.

        Args:
            work: the folder of the unfinished run.
            fingerprint: what the run depends on; a checkpoint of another one is not gone on with.
            seconds: least time between two checkpoints.
            saved: called after each checkpoint.
        """
        self.notes: list[str] = []
        self.kept: dict[str, Any] | None = None
        self._file = work / CHECKPOINT_FILE
        self._fingerprint = dict(fingerprint)
        self._seconds = seconds
        self._saved = saved
        self._last = self._began = time.monotonic()
        self._cpu_began = time.process_time()
        try:
            self.kept = self._read()
        except PeerWattError as error:
            self._note(f"{str(error).removesuffix('.')}: the run begins anew")

    def _read(self) -> dict[str, Any] | None:
        state = read_checkpoint(self._file.parent)
        if state is None:
            return None
        names = {*self._fingerprint, *state["fingerprint"]}
        other = sorted(n for n in names if not self._same(n, state["fingerprint"]))
        if other:
            raise PeerWattError(
                f"the checkpoint was made with other {shown(', '.join(other), 500)}."
            )
        for name, length in state["files"].items():
            there = self._file.with_name(name)
            if (there.stat().st_size if there.exists() else 0) < length:
                raise PeerWattError(f"{name} is shorter than the checkpoint states.")
        return state

    def _same(self, name: str, then: Mapping[str, Any]) -> bool:
        """Return whether a text or number of the fingerprint is what it was."""
        one, other = self._fingerprint.get(name), then.get(name)
        return type(one) is type(other) and bool(one == other)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            _LOG.warning("%s: %s", self._file.parent, sentence)

    @property
    def agent_steps(self) -> int:
        """Agent-steps that the run had played at the checkpoint it goes on from."""
        return 0 if self.kept is None else int(self.kept["agent_steps"])

    @property
    def spent(self) -> dict[str, float]:
        """Seconds that the run took so far: `wall` and `cpu`, those up to the checkpoint included.

        What was lost with an interruption does not count.
        """
        earlier = {"wall": 0.0, "cpu": 0.0} if self.kept is None else self.kept["spent"]
        return {
            "wall": earlier["wall"] + time.monotonic() - self._began,
            "cpu": earlier["cpu"] + time.process_time() - self._cpu_began,
        }

    def cut(self) -> None:
        """Cut the reports back to what stood there when the checkpoint was saved.

        Raises:
            OSError: the disk refuses.
        """
        if self.kept is not None:
            for name in REPORTS:
                if (there := self._file.with_name(name)).exists():
                    with open(there, "r+b", opener=opener) as file:
                        os.truncate(file.fileno(), self.kept["files"][name])

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is old enough for the next."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Save `state`; where the disk refuses, the older checkpoint stays and the run goes on.

        Raises:
            PeerWattError: `state` holds what cannot be saved.
        """
        try:
            # What the checkpoint states must be on the disk before it is.
            names = (*REPORTS, TRANSCRIPT_FILE)
            files = {name: sync_file(self._file.with_name(name)) for name in names}
            content = {
                **state,
                "fingerprint": self._fingerprint,
                "files": files,
                "spent": self.spent,
            }
            data = pack(content)
            if len(data) > MAX_CHECKPOINT_BYTES:
                raise OSError(f"{len(data):,} bytes are more than {MAX_CHECKPOINT_BYTES:,}")
            write_whole(self._file, data)
        except OSError as error:
            self._note(f"a checkpoint could not be saved: {told(error)}")
        else:
            if self._saved is not None:
                self._saved()
        self._last = time.monotonic()
