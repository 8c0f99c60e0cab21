"""How many slots a teacher may be asked about, as a run goes on."""

from __future__ import annotations

from collections.abc import Mapping

EARLY = 1 / 3
"""Part of what a whole run may ask that may be asked as soon as it begins."""


class Pace:
    """Keeps the slots asked about below a share of those in which trade was feasible.

    Args:
        share: that share.
        early: how many slots are wanted as soon as possible, before anything can be answered.
        expected: slots that the run will show, feasible or not; None if nobody knows.
    """

    def __init__(self, share: float, early: int, expected: int | None) -> None:
        self._share = share
        self._early = early
        self._expected = expected or 0
        self._slots = 0
        self._feasible = 0
        self.asked = 0

    def saw(self, slots: int, feasible: int) -> None:
        """Count slots that were shown."""
        self._slots += slots
        self._feasible += feasible

    def state(self) -> dict[str, int]:
        """Return the counts."""
        return {"slots": self._slots, "feasible": self._feasible, "asked": self.asked}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on from `state`."""
        self._slots, self._feasible = state["slots"], state["feasible"]
        self.asked = state["asked"]

    def room(self) -> int:
        """Return how many slots more may be asked about now.

        Where the length of the run is known, some are lent from its end, and paid back on the way:
        by then, as without a known length, no more than the share has been asked.
        """
        whole = float(self._feasible)
        if self._slots:
            whole = max(whole, self._expected * self._feasible / self._slots)
        lent = min(self._early, EARLY * self._share * whole) if whole > self._feasible else 0.0
        left = 1.0 - self._feasible / whole if whole else 0.0
        return int(self._share * self._feasible + lent * left) - self.asked
