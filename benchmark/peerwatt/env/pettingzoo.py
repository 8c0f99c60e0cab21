"""The PettingZoo view: one community as a `ParallelEnv` of households."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pettingzoo
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import ArrayLike, NDArray

from peerwatt.community import Split, Task
from peerwatt.env.gymnasium import observation_space
from peerwatt.env.kernel import Slot
from peerwatt.env.vector import Floats, VectorMarket
from peerwatt.errors import PeerWattError
from peerwatt.market import Mechanism

Dicts = tuple[
    dict[str, Floats], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
]


class ParallelMarket(pettingzoo.ParallelEnv[str, Floats, NDArray[np.int64]]):
    """One community, its households as agents `household_0`, `household_1`, ...

    Observations are float32 [F], actions integers [3] (price level, quantity, battery). Infos hold
    `action_mask`: one read-only int8 array per head, for households without storage may only idle.
    An episode never terminates; it is truncated for all agents at once. The integer record of the
    slot just played (trades, payments, costs) is `market.slot`.

    A seed fixes the whole sequence of episodes. `reset()` begins the next episode of the sequence,
    `reset(seed=...)` begins the sequence of that seed.

    Args:
        task: what is played.
        seed: seed of the training episodes.
        split: weeks that the episodes come from.
        mechanism: overrides the mechanism of the task's card; a name, or an instance.
        render_mode: "rgb_array" keeps the record of the episode, so that `render` can draw it.

    Raises:
        PeerWattError: an argument is out of range.
    """

    metadata = {  # noqa: RUF012
        "name": "peerwatt",
        "render_modes": ["rgb_array"],
        "render_fps": 1,
        "is_parallelizable": True,
    }

    def __init__(
        self,
        task: Task,
        *,
        seed: int = 0,
        split: Split = "train",
        mechanism: str | Mechanism | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise PeerWattError(f"render_mode {render_mode!r} must be None or 'rgb_array'.")
        self.task = task
        self.market = VectorMarket(task, 1, seed=seed, split=split, mechanism=mechanism)
        self.render_mode = render_mode
        self.possible_agents = [f"household_{i}" for i in range(self.market.num_agents)]
        self.agents: list[str] = []
        nvec = self.market.action_nvec
        self._spaces = {
            agent: (observation_space(), MultiDiscrete(list(nvec)))
            for agent in self.possible_agents
        }
        mask = self.market.action_mask.astype(np.int8)
        mask.setflags(write=False)
        heads = np.split(mask, np.cumsum(nvec)[:-1], axis=1)
        self._masks = list(zip(self.possible_agents, zip(*heads, strict=True), strict=True))
        self._never = dict.fromkeys(self.possible_agents, False)
        self._always = dict.fromkeys(self.possible_agents, True)
        self._next_is_drawn = False  # the market has begun the next episode by itself
        self._record: list[Slot] = []
        self._first: Floats

    def observation_space(self, agent: str) -> Box:
        """Return the observation space of `agent`: the same object on each call."""
        return self._spaces[agent][0]

    def action_space(self, agent: str) -> MultiDiscrete:
        """Return the action space of `agent`: the same object on each call."""
        return self._spaces[agent][1]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Floats], dict[str, dict[str, Any]]]:
        """Begin the next episode, or with `seed` the first of that seed's sequence."""
        if seed is not None:
            self.market.reseed(seed)
            self._next_is_drawn = False
        if not self._next_is_drawn:
            self._first = self.market.reset()[0].copy()
        self._next_is_drawn = False
        self._begun = True
        self.agents = self.possible_agents.copy()
        return dict(zip(self.agents, self._first, strict=True)), self._infos()

    def step(self, actions: Mapping[str, ArrayLike]) -> Dicts:
        """Play one slot with the action [3] of every household.

        Raises:
            PeerWattError: no reset yet, a household without action or unknown, or an action outside
                its space; nothing has changed.
        """
        agents = self.agents
        if not agents:
            raise PeerWattError("the episode is over or not begun: call reset before step.")
        step = self.market.step(self._actions(actions)[None])
        over = bool(step.truncated[0])
        if self.render_mode is not None:
            if self._begun:
                self._record = []
            self._record.append(Slot(*(field.copy() for field in step.slot)))
        self._begun = False
        if over:
            self._first = step.observation[0].copy()
            self._next_is_drawn = True
            self.agents = []
        observation = (step.final_observation if over else step.observation)[0].copy()
        return (
            dict(zip(agents, observation, strict=True)),
            dict(zip(agents, step.reward[0].tolist(), strict=True)),
            self._never.copy(),
            self._always.copy() if over else self._never.copy(),
            self._infos(),
        )

    def _infos(self) -> dict[str, dict[str, Any]]:
        return {agent: {"action_mask": mask} for agent, mask in self._masks}

    def _actions(self, actions: Mapping[str, ArrayLike]) -> NDArray[Any]:
        try:
            chosen = [actions[agent] for agent in self.agents]
        except KeyError as error:
            raise PeerWattError(f"the action of {error.args[0]} is missing.") from None
        if len(actions) > len(chosen):
            unknown = next(agent for agent in actions if agent not in self._never)
            raise PeerWattError(f"there is an action of {unknown!r}, who is not in the community.")
        try:
            return np.array(chosen)
        except ValueError:
            raise PeerWattError("each action must be 3 integers.") from None

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture [height, width, 3] of the current episode so far, or of the last one.

        Without a render mode it is None.

        Raises:
            PeerWattError: no slot has been played.
        """
        if self.render_mode is None:
            return None
        from peerwatt.env.render import episode_figure, rgb_array

        if not self._record:
            raise PeerWattError("there is nothing to draw before the first step.")
        record = Slot(*map(np.concatenate, zip(*self._record, strict=True)))
        return rgb_array(episode_figure(self.task, record))

    def close(self) -> None:
        """Release nothing: there is nothing to release."""
