"""Held-out scenarios: which window is played, with which random draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from peerwatt.community import Split, Task
from peerwatt.community.card import SPLITS
from peerwatt.community.random import EVALUATION, episode_key
from peerwatt.errors import PeerWattError

EVALUATION_SEED = 0
"""Every evaluation of every algorithm meets the same scenarios: common random numbers."""


class Scenarios(NamedTuple):
    """E episodes to be played side by side; read-only when `evaluation_scenarios` made them."""

    key: NDArray[np.uint64]  # [E] key of the episode's household noise and order arrivals
    start: NDArray[np.int64]  # [E] table row of the first slot


def evaluation_scenarios(task: Task, split: Split, episodes: int | None = None) -> Scenarios:
    """Return `episodes` held-out scenarios, spread evenly over the windows of `split`.

    The windows do not overlap and none is used twice.

    Raises:
        PeerWattError: there is no such split, or it has fewer windows than `episodes`.
    """
    wanted = task.card.evaluation.episodes if episodes is None else episodes
    windows = task.evaluation_starts(split)
    if not 1 <= wanted <= len(windows):
        raise PeerWattError(
            f"{wanted} evaluation episodes asked for, but the {split} split of {task.name} has "
            f"1 to {len(windows)}."
        )
    chosen = windows[np.arange(wanted) * len(windows) // wanted]
    purpose = EVALUATION + SPLITS.index(split)
    keys = [episode_key(EVALUATION_SEED, purpose, int(start), 0) for start in chosen]
    scenarios = Scenarios(np.array(keys, np.uint64), chosen)
    for array in scenarios:
        array.setflags(write=False)
    return scenarios
