"""Independent proximal policy optimisation: every household learns alone, all at once.

Each household has its own actor-critic and sees only its own observation (de Witt et al. 2020,
arXiv 2011.09533; PPO of Schulman et al. 2017, arXiv 1707.06347). Implementation details:

1. N networks are stacked parameters; a minibatch trains all of them in a few matrix products,
   a few households at a time so that the activations stay in the cache.
2. The policy factorises into independent heads: price level, quantity, battery level.
3. Episodes end by time limit only, so the value of the last state is bootstrapped.
4. The critic predicts normalised returns (Yu et al. 2022, arXiv 2103.01955).
5. The reward may have the grid-only reward of the slot taken off. That baseline does not depend on
   any action, so it changes no optimum; it removes the noise of weather and appetite.
6. The clip may shrink with the number of households, because the joint policy moves by the product
   of N ratios (Sun et al. 2022, arXiv 2202.00082: the bound holds over all policies jointly; eps/N
   is our first-order reading of it).

`python -m peerwatt_algorithms.ippo --task pilot-v1 --critic rule --seed 1` trains one run.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from peerwatt.errors import PeerWattError
from peerwatt_algorithms.nn import (
    StackedMLP,
    ValueNormaliser,
    adam_state,
    gae,
    mask_bias,
    ppo_gradient,
    restore_adam,
    sample_heads,
)

if TYPE_CHECKING:
    from peerwatt.community import Task
    from peerwatt.runs import TrainingRun

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class IPPO:
    """Independent PPO (de Witt et al. 2020): one actor-critic per household, learning alone."""

    num_envs: int = 32
    """Communities that are played side by side."""
    rollout_slots: int = 48
    """Slots that are played between two updates."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers (ReLU)."""
    learning_rate: float = 3e-3
    """Step size of Adam at the start."""
    anneal: bool = True
    """Let the learning rate and the entropy weight fall linearly to zero over the budget."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Minibatches per pass."""
    gamma: float = 0.99
    """Discount per slot."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    clip: float = 0.2
    """Clip range of the probability ratio."""
    scale_clip_by_agents: bool = False
    """Divide the clip range by the number of households (arXiv 2202.00082)."""
    target_kl: float | None = None
    """Stop the passes over a rollout once the mean approximate KL exceeds this; None never."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus at the start."""
    value_weight: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Largest gradient norm of a household's network."""
    normalise_values: bool = True
    """Let the critic predict normalised returns."""
    subtract_grid_reward: bool = True
    """Learn from reward less grid-only reward of the slot (an action-free baseline)."""
    greedy_evaluation: bool = True
    """Play the most likely action in evaluation; otherwise sample."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work, in one sentence."""
        for name in ("num_envs", "rollout_slots", "epochs", "minibatches"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("hidden", all(width >= 1 for width in self.hidden), "widths of at least 1")
        for name in ("learning_rate", "clip", "max_grad_norm"):
            value = getattr(self, name)
            self._require(name, 0 < value < math.inf, "a positive number")
        for name in ("gamma", "gae_lambda"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        for name in ("entropy_weight", "value_weight"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        positive = self.target_kl is None or 0 < self.target_kl < math.inf
        self._require("target_kl", positive, "a positive number or None")
        if self.num_envs * self.rollout_slots < self.minibatches:
            raise PeerWattError(
                f"num_envs {self.num_envs} x rollout_slots {self.rollout_slots} gives fewer "
                f"samples than minibatches {self.minibatches}."
            )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise PeerWattError(f"ippo: {name} {getattr(self, name)!r} must be {expected}.")

    def check_budget(self, task: Task, budget: int) -> None:
        """Refuse a budget that is too small to learn anything on `task`.

        Raises:
            PeerWattError: it does not last for one rollout.
        """
        rollout = self.num_envs * task.community.size * self.rollout_slots
        if budget < rollout:
            raise PeerWattError(
                f"budget {budget:,} is less than one rollout of {rollout:,} agent-steps "
                f"({self.num_envs} communities x {task.community.size} households x "
                f"{self.rollout_slots} slots): raise the budget or lower num_envs or rollout_slots."
            )

    def train(self, run: TrainingRun) -> IPPOPolicy:
        """Train on `run` until its budget of agent-steps is spent."""
        self.check_budget(run.task, run.budget)
        torch.set_num_threads(1)
        env = run.envs(self.num_envs)
        generator = run.generator
        n, batch, steps = env.num_agents, env.num_envs, self.rollout_slots
        nvec = np.array(env.action_nvec, np.int64)
        logits, heads = int(nvec.sum()), len(nvec)
        bias = mask_bias(env.action_mask)

        # MODEL: small policy head, so that the first policy is near uniform
        gain = np.concatenate([np.full(logits, 0.01), np.ones(1)])
        network = StackedMLP(n, (env.observation_size, *self.hidden, logits + 1), generator, gain)
        optimiser = torch.optim.Adam(
            network.parameters, lr=self.learning_rate, eps=1e-5, fused=True
        )
        normaliser = ValueNormaliser(n)
        policy = IPPOPolicy(network, tuple(env.action_nvec), self.greedy_evaluation)
        clip = np.float32(self.clip / n if self.scale_clip_by_agents else self.clip)

        # STORAGE
        obs = torch.zeros(n, steps, batch, env.observation_size)
        actions = np.zeros((steps, batch, n, heads), np.int64)
        log_prob = np.zeros((steps, n, batch), np.float32)
        reward = np.zeros((steps, n, batch), np.float32)
        value = np.zeros((steps, n, batch), np.float32)
        next_value = np.zeros((steps, n, batch), np.float32)
        truncated = np.zeros((steps, batch), np.bool_)
        advantage = np.zeros((steps, n, batch), np.float32)

        # BEGIN, or go on where the run was interrupted
        done = 0
        if (kept := run.resume()) is None:
            env.reset()
        else:
            done = kept["done"]
            network.restore(kept["network"])
            restore_adam(optimiser, kept["optimiser"])
            normaliser.restore(kept["normaliser"])
        here = _by_household(env.observation)

        iterations = run.budget // (n * batch * steps)
        for iteration in range(done, iterations):
            left = 1.0 - iteration / iterations if self.anneal else 1.0
            for parameters in optimiser.param_groups:
                parameters["lr"] = self.learning_rate * left
            scale = normaliser.scale

            # ROLLOUT
            for t in range(steps):
                obs[:, t] = here
                output = network.forward(here)[-1].numpy()
                value[t] = output[:, :, -1] * scale.deviation + scale.mean
                uniforms = generator.random((n, batch, heads), np.float32)
                sample_heads(output, bias, nvec, uniforms, actions[t], log_prob[t])
                step = env.step(actions[t])
                gain_over_grid = step.reward - step.grid_reward
                reward[t] = (gain_over_grid if self.subtract_grid_reward else step.reward).T
                truncated[t] = step.truncated
                here = _by_household(step.observation)
                if t > 0:
                    next_value[t - 1] = np.where(truncated[t - 1], next_value[t - 1], value[t])
                if step.truncated.any():
                    last = network.forward(_by_household(step.final_observation))[-1].numpy()
                    next_value[t] = last[:, :, -1] * scale.deviation + scale.mean
            after = network.forward(here)[-1].numpy()[:, :, -1] * scale.deviation + scale.mean
            next_value[-1] = np.where(truncated[-1], next_value[-1], after)

            # ADVANTAGES AND RETURNS, in the units of the critic
            gae(reward, value, next_value, truncated, np.float32(self.gamma),
                np.float32(self.gae_lambda), advantage)  # fmt: skip
            b_advantage = _flatten(advantage)
            b_return = b_advantage + _flatten(value)
            if self.normalise_values:
                normaliser.update(b_return)
                new = normaliser.scale
                _rescale_values(network, scale.mean, scale.deviation, new.mean, new.deviation)
                b_return = (b_return - new.mean) / new.deviation
            b_advantage -= b_advantage.mean(axis=1, keepdims=True)
            b_advantage /= b_advantage.std(axis=1, keepdims=True) + 1e-8
            b_obs = obs.reshape(n, steps * batch, -1)
            b_actions = np.ascontiguousarray(actions.transpose(2, 0, 1, 3)).reshape(n, -1, heads)
            b_log_prob = _flatten(log_prob)

            # UPDATE
            sums = np.zeros((n, 5))
            passes = 0
            for _ in range(self.epochs):
                before = sums[:, 3].sum()
                order = generator.permutation(steps * batch)
                for mb in np.array_split(order, self.minibatches):
                    rows = torch.from_numpy(mb)
                    for group in network.groups():
                        activations = network.forward(b_obs[group].index_select(1, rows), group)
                        output = activations[-1].numpy()
                        gradient = np.empty_like(output)
                        ppo_gradient(
                            output, bias[group], nvec, b_actions[group][:, mb],
                            b_log_prob[group][:, mb], b_advantage[group][:, mb],
                            b_return[group][:, mb], clip, np.float32(self.entropy_weight * left),
                            np.float32(self.value_weight), gradient, sums[group],
                        )  # fmt: skip
                        network.backward(activations, torch.from_numpy(gradient), group)
                    network.clip_gradients(self.max_grad_norm)
                    optimiser.step()
                passes += 1
                kl = (sums[:, 3].sum() - before) / b_log_prob.size
                if self.target_kl is not None and kl > self.target_kl:
                    break
            means = sums.mean(axis=0) / (passes * steps * batch)
            names = ("policy_loss", "value_loss", "entropy", "approximate_kl", "share_clipped")
            run.report(
                policy,
                reward=float(reward.mean()),
                learning_rate=self.learning_rate * left,
                **dict(zip(names, means.tolist(), strict=True)),
            )
            run.checkpoint(
                lambda done=iteration + 1: {  # type: ignore[misc]
                    "done": done,
                    "network": network.state(),
                    "optimiser": adam_state(optimiser),
                    "normaliser": normaliser.state(),
                }
            )
        return policy


def _within(value: object, most: int) -> int:
    """Return `value` if it is a whole number from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{value!r} is no whole number from 1 to {most}")
    return value


def _by_household(observation: Floats) -> torch.Tensor:
    """Copy [B, N, F] observations to [N, B, F]."""
    return torch.from_numpy(observation.transpose(1, 0, 2).copy())


def _flatten(values: Floats) -> Floats:
    """Turn [T, N, B] into [N, T * B]."""
    return np.ascontiguousarray(values.transpose(1, 0, 2)).reshape(values.shape[1], -1)


def _rescale_values(
    network: StackedMLP, mean: Floats, deviation: Floats, new_mean: Floats, new_deviation: Floats
) -> None:
    """Keep the critic's predictions when the units of value change (van Hasselt et al. 2016)."""
    ratio = torch.from_numpy(deviation / new_deviation)
    shift = torch.from_numpy((mean - new_mean) / new_deviation)
    network.parameters[-2][:, :, -1] *= ratio
    network.parameters[-1][:, :, -1] = network.parameters[-1][:, :, -1] * ratio + shift


class IPPOPolicy:
    """N frozen networks. Files: `policy.safetensors` (parameters), `policy.json` (shape)."""

    def __init__(self, network: StackedMLP, nvec: tuple[int, ...], greedy: bool) -> None:
        self.network = network
        self.nvec = np.array(nvec, np.int64)
        self.greedy = greedy

    def act(
        self,
        observations: Floats,
        action_mask: NDArray[np.bool_],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Return actions [B, N, 3] for observations [B, N, F]."""
        batch, n, _ = observations.shape
        if sum(self.nvec) != action_mask.shape[1]:  # the kernel would read past the mask
            raise PeerWattError(
                f"the policy acts in spaces of {list(self.nvec)}, which are not those of the task."
            )
        output = self.network.forward(_by_household(observations))[-1].numpy()
        shape = (n, batch, len(self.nvec))
        uniforms = (
            np.full(shape, -1, np.float32) if self.greedy else generator.random(shape, np.float32)
        )
        actions = np.zeros((batch, n, len(self.nvec)), np.int64)
        log_prob = np.zeros((n, batch), np.float32)
        sample_heads(output, mask_bias(action_mask), self.nvec, uniforms, actions, log_prob)
        return actions

    def save(self, folder: Path) -> None:
        """Write the policy into `folder`."""
        tensors = {
            f"{i}": np.ascontiguousarray(p.numpy()) for i, p in enumerate(self.network.parameters)
        }
        save_file(tensors, folder / "policy.safetensors")
        content = {
            "households": len(self.network.parameters[0]),
            "sizes": list(self.network.sizes),
            "nvec": self.nvec.tolist(),
            "greedy": self.greedy,
        }
        (folder / "policy.json").write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the policy in `folder`.

        Raises:
            PeerWattError: a file is missing or is not what `save` writes.
        """
        try:
            content = json.loads((folder / "policy.json").read_text())
            n = _within(content["households"], 10_000)
            sizes = tuple(_within(size, 100_000) for size in content["sizes"])
            nvec = tuple(_within(size, 1_000) for size in content["nvec"])
            if not 2 <= len(sizes) <= 16 or len(nvec) != 3:
                raise ValueError(f"{len(sizes)} sizes and {len(nvec)} heads are no such policy")
            tensors = load_file(folder / "policy.safetensors")
            # As many numbers as the file holds: nothing larger is made of these sizes.
            shapes = [
                shape
                for fan_in, fan_out in pairwise(sizes)
                for shape in ((n, fan_in, fan_out), (n, 1, fan_out))
            ]
            if [tensors[str(i)].shape for i in range(len(tensors))] != shapes:
                raise ValueError(f"tensors do not have the shapes {shapes}")
            if any(not np.isfinite(tensor).all() for tensor in tensors.values()):
                raise ValueError("a parameter is not finite")
            if sizes[-1] != sum(nvec) + 1:
                raise ValueError(f"output {sizes[-1]} does not fit the heads {nvec}")
            greedy = bool(content["greedy"])
        except Exception as error:
            raise PeerWattError(f"cannot load the ippo policy in {folder}: {error}.") from None
        network = StackedMLP(1, sizes, np.random.default_rng(0))  # its parameters are replaced
        network.parameters = [
            torch.from_numpy(tensors[str(i)].astype(np.float32)) for i in range(len(tensors))
        ]
        return cls(network, nvec, greedy)


if __name__ == "__main__":
    from peerwatt.cli.single import main

    main("ippo")
