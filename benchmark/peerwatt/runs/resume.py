"""The checkpoints of one run: when they are due, how they are saved, which may be gone on with."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from peerwatt.errors import PeerWattError, told
from peerwatt.fairness.transcript import TRANSCRIPT_FILE
from peerwatt.runs.checkpoint import CHECKPOINT_FILE, pack, sync_file, unpack, write_whole
from peerwatt.runs.store import CLOCK_FILE, METRICS_FILE

_LOG = logging.getLogger(__name__)
REPORTS = (METRICS_FILE, CLOCK_FILE)
"""What a run writes with each report; cut back to the checkpoint that it goes on from."""


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
        try:
            state = unpack(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PeerWattError(f"the checkpoint cannot be read: {error.strerror}.") from None
        then = state.get("fingerprint")
        if not isinstance(then, dict) or then != self._fingerprint:
            names = sorted({*self._fingerprint, *(then or {})})
            other = [n for n in names if (then or {}).get(n) != self._fingerprint.get(n)]
            raise PeerWattError(f"the checkpoint was made with other {', '.join(other)}.")
        for name, length in state["files"].items():
            there = self._file.with_name(name)
            if (there.stat().st_size if there.exists() else 0) < length:
                raise PeerWattError(f"{name} is shorter than the checkpoint states.")
        return state

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
                    os.truncate(there, self.kept["files"][name])

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
            write_whole(self._file, pack(content))
        except OSError as error:
            self._note(f"a checkpoint could not be saved: {told(error)}")
        else:
            if self._saved is not None:
                self._saved()
        self._last = time.monotonic()
