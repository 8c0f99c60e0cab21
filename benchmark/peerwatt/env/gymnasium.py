"""The Gymnasium view: B communities of N households as a vector of B * N single-agent environments.

For single-agent libraries: every household is an environment of its own whose rivals happen to be
its neighbours in the vector.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from peerwatt.community import Split, Task
from peerwatt.env.kernel import OBSERVATION_BOUNDS
from peerwatt.env.vector import Floats, VectorMarket
from peerwatt.errors import PeerWattError
from peerwatt.market import Mechanism

Stepped = tuple[Floats, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


def observation_space() -> Box:
    """Return the space of one household's observation: float32 [F], see `OBSERVATION_NAMES`."""
    low, high = np.array(OBSERVATION_BOUNDS, np.float32).T
    return Box(low, high, dtype=np.float32)


class HouseholdVectorEnv(VectorEnv[Floats, NDArray[np.int64], NDArray[Any]]):
    """B communities of N households as B * N environments; environment b * N + i is household i.

    A community is truncated as a whole and begins its next episode in the same step
    (`AutoresetMode.SAME_STEP`): `infos["final_obs"]` then holds the last observations of the
    episode, valid where `infos["_final_obs"]`. All returned arrays are copies.

    A seed fixes the whole sequence of episodes; `reset(seed=...)` begins the sequence of that seed.

    Args:
        task: what is played.
        num_envs: number of communities B, as in `VectorMarket`; the view has B * N environments.
        seed: seed of the training episodes.
        split: weeks that the episodes come from.
        mechanism: overrides the mechanism of the task's card; a name, or an instance.

    Attributes:
        action_mask: [B * N, sum(nvec)] bool, false where a household without storage would have to
            use it.

    Raises:
        PeerWattError: an argument is out of range.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        seed: int = 0,
        split: Split = "train",
        mechanism: str | Mechanism | None = None,
    ) -> None:
        self.task = task
        self.market = VectorMarket(task, num_envs, seed=seed, split=split, mechanism=mechanism)
        self.num_envs = self.market.num_envs * self.market.num_agents
        self.single_observation_space = observation_space()
        self.single_action_space = MultiDiscrete(list(self.market.action_nvec))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.action_mask = np.tile(self.market.action_mask, (self.market.num_envs, 1))

    def _rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a copy of an array [B, N, ...] as [B * N, ...]."""
        return array.reshape(self.num_envs, *array.shape[2:]).copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Floats, dict[str, Any]]:
        """Begin an episode everywhere, or where `options["reset_mask"]` [B * N] is true.

        Returns observations [B * N, F] and empty infos.

        Raises:
            PeerWattError: the mask covers a community in part, or comes with a seed.
        """
        mask = (options or {}).get("reset_mask")
        if mask is not None:
            communities = self._communities(np.asarray(mask))
            if seed is not None:
                raise PeerWattError("a seed begins all communities anew: give no reset_mask.")
            return self._rows(self.market.reset(communities)), {}
        if seed is not None:
            self.market.reseed(seed)
        return self._rows(self.market.reset()), {}

    def _communities(self, mask: NDArray[Any]) -> NDArray[np.bool_]:
        if mask.shape != (self.num_envs,) or mask.dtype != np.bool_ or not mask.any():
            raise PeerWattError(
                f"reset_mask is {mask.dtype} {mask.shape}, expected bool ({self.num_envs},) with "
                "at least one true value."
            )
        mask = mask.reshape(self.market.num_envs, self.market.num_agents)
        if (mask != mask[:, :1]).any():
            raise PeerWattError(
                f"reset_mask must cover whole communities of {self.market.num_agents} households."
            )
        return mask[:, 0]

    def step(self, actions: ArrayLike) -> Stepped:
        """Play one slot with `actions` [B * N, 3].

        Returns observations [B * N, F], rewards, terminations (none) and truncations [B * N], and
        infos.

        Raises:
            PeerWattError: no reset yet, or an action outside its space; nothing has changed.
        """
        array = np.asarray(actions)
        if array.shape != (self.num_envs, 3):
            raise PeerWattError(f"actions are {array.shape}, expected ({self.num_envs}, 3).")
        step = self.market.step(array.reshape(self.market.num_envs, -1, 3))
        truncated = np.repeat(step.truncated, self.market.num_agents)
        infos: dict[str, Any] = {}
        if truncated.any():
            final = np.full(self.num_envs, None, dtype=object)
            rows = self._rows(step.final_observation)
            for k in np.flatnonzero(truncated):
                final[k] = rows[k]
            infos = {"final_obs": final, "_final_obs": truncated.copy()}
            infos |= {"final_info": {}, "_final_info": truncated.copy()}
        return (
            self._rows(step.observation),
            self._rows(step.reward).astype(np.float64),
            np.zeros(self.num_envs, np.bool_),
            truncated,
            infos,
        )
