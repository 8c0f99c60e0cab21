"""What became of one question."""

from __future__ import annotations

from typing import NamedTuple

from peerwatt_critics.calls.cache import Scores


class Outcome(NamedTuple):
    """Scores of one slot, or the reason why there are none."""

    scores: Scores | None
    reason: str = ""
