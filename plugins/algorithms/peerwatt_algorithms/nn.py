"""Shared numerics of the learners: stacked networks, factorised action heads, GAE.

N independent networks are one set of stacked parameters driven by `torch.baddbmm`; a loop over N
modules costs 4 to 24 times as much. The gradient of the PPO loss with respect to the network's
output is written out by hand in one numba pass over the samples (autograd spends more time on the
softmax of the heads than on the matrix products); a test holds it against autograd.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

jit = njit(cache=True, error_model="numpy", nogil=True)
MASKED = np.float32(-1e9)
EVERYBODY = slice(None)


HOUSEHOLDS_AT_ONCE = 4
"""Networks that pass a minibatch together: so few that their activations stay in the cache."""


class StackedMLP:
    """N independent multi-layer perceptrons with ReLU, as stacked parameters.

    Args:
        households: number of networks N.
        sizes: widths of input, hidden layers and output.
        generator: source of the orthogonal initialisation.
        head_gain: gain of the last layer's columns, one number per output.
    """

    def __init__(
        self,
        households: int,
        sizes: tuple[int, ...],
        generator: np.random.Generator,
        head_gain: NDArray[np.float64] | None = None,
    ) -> None:
        self.sizes = sizes
        self.parameters: list[torch.Tensor] = []
        for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            last = layer == len(sizes) - 2
            gain = head_gain if last and head_gain is not None else np.sqrt(2.0)
            weights = np.stack([_orthogonal(generator, fan_in, fan_out) for _ in range(households)])
            # C order: stacking transposed matrices does not give it, and files are written in it.
            self.parameters.append(torch.from_numpy((weights * gain).astype(np.float32, "C")))
            self.parameters.append(torch.zeros(households, 1, fan_out))
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient

    def state(self) -> list[NDArray[np.float32]]:
        """Return copies of the parameters."""
        return [parameter.numpy().copy() for parameter in self.parameters]

    def restore(self, state: Sequence[NDArray[np.float32]]) -> None:
        """Take back what `state` returned, into the storage that gradients and Adam know."""
        for parameter, then in zip(self.parameters, state, strict=True):
            parameter.copy_(torch.from_numpy(then))

    def groups(self) -> Iterator[slice]:
        """Yield the households in slices that are worth passing together."""
        households = len(self.parameters[0])
        for first in range(0, households, HOUSEHOLDS_AT_ONCE):
            yield slice(first, min(first + HOUSEHOLDS_AT_ONCE, households))

    def forward(self, x: torch.Tensor, group: slice = EVERYBODY) -> list[torch.Tensor]:
        """Return the activations of all layers, input first, output last; `x` is [n, S, F].

        `group` names the n households whose networks are meant.
        """
        activations = [x]
        for layer in range(0, len(self.parameters), 2):
            weight, bias = self.parameters[layer][group], self.parameters[layer + 1][group]
            x = torch.baddbmm(bias, x, weight)
            if layer + 2 < len(self.parameters):
                x = torch.relu_(x)
            activations.append(x)
        return activations

    def backward(
        self, activations: list[torch.Tensor], gradient: torch.Tensor, group: slice = EVERYBODY
    ) -> None:
        """Write the parameter gradients of the group from the loss gradient at the output."""
        for layer in range(len(self.parameters) - 2, -1, -2):
            below = activations[layer // 2]
            torch.bmm(below.transpose(1, 2), gradient, out=self.gradients[layer][group])
            torch.sum(gradient, dim=1, keepdim=True, out=self.gradients[layer + 1][group])
            if layer:
                weight = self.parameters[layer][group]
                gradient = torch.bmm(gradient, weight.transpose(1, 2))
                gradient = torch.ops.aten.threshold_backward(gradient, below, 0)  # of ReLU

    def clip_gradients(self, norm: float) -> None:
        """Scale the gradient of each of the N networks to at most `norm`."""
        squares = torch.stack([g.square().sum(dim=(1, 2)) for g in self.gradients]).sum(dim=0)
        scale = (norm / (squares.sqrt() + 1e-6)).clamp(max=1.0)[:, None, None]
        for gradient in self.gradients:
            gradient.mul_(scale)


def adam_state(optimiser: torch.optim.Adam) -> list[dict[str, Any]]:
    """Return copies of step count and moments of each parameter; nothing before the first step."""
    return [
        {name: tensor.numpy().copy() for name, tensor in moments.items()}
        for moments in optimiser.state.values()
    ]


def restore_adam(optimiser: torch.optim.Adam, state: Sequence[Mapping[str, Any]]) -> None:
    """Take back what `adam_state` returned, as the first step would have made it."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    if not state:
        return
    for parameter, then in zip(parameters, state, strict=True):
        optimiser.state[parameter] = {
            "step": torch.tensor(float(then["step"]), dtype=torch.float32),
            "exp_avg": torch.empty_like(parameter).copy_(torch.from_numpy(then["exp_avg"])),
            "exp_avg_sq": torch.empty_like(parameter).copy_(torch.from_numpy(then["exp_avg_sq"])),
        }


def _orthogonal(generator: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Return a [rows, columns] matrix with orthonormal rows or columns (Saxe et al. 2013)."""
    long, short = max(rows, columns), min(rows, columns)
    q, r = np.linalg.qr(generator.standard_normal((long, short)))
    q = q * np.sign(np.diag(r))
    return q if rows >= columns else q.T


def mask_bias(mask: NDArray[np.bool_]) -> Floats:
    """Return [N, L]: 0 where an action is allowed, a large negative number where not."""
    return np.where(mask, np.float32(0), MASKED).astype(np.float32)


@jit
def sample_heads(output, bias, nvec, uniforms, actions, log_prob):
    """Sample from the factorised heads by inverting their cumulative distributions.

    `output` [N, B, L + 1] logits then value, `bias` [N, L] of the mask, `uniforms` [N, B, H] in
    [0, 1), a negative one asks for the most likely action; fills `actions` [B, N, H] and
    `log_prob` [N, B].
    """
    agents, batch, _ = output.shape
    heads = nvec.size
    weight = np.empty(nvec.max(), np.float32)
    for n in range(agents):
        for b in range(batch):
            total_log = np.float32(0)
            first = 0
            for h in range(heads):
                size = nvec[h]
                top = np.float32(-np.inf)
                best = 0
                for j in range(size):
                    logit = output[n, b, first + j] + bias[n, first + j]
                    if logit > top:
                        top = logit
                        best = j
                total = np.float32(0)
                for j in range(size):
                    weight[j] = np.exp(output[n, b, first + j] + bias[n, first + j] - top)
                    total += weight[j]
                chosen = best
                if uniforms[n, b, h] >= 0:
                    threshold = uniforms[n, b, h] * total
                    reached = np.float32(0)
                    for j in range(size):
                        if weight[j] > 0:
                            reached += weight[j]
                            chosen = j
                            if reached > threshold:
                                break
                actions[b, n, h] = chosen
                total_log += np.log(weight[chosen] / total)
                first += size
            log_prob[n, b] = total_log


@jit
def ppo_gradient(
    output, bias, nvec, actions, old_log_prob, advantage, target, clip, entropy_weight,
    value_weight, gradient, sums,
):  # fmt: skip
    """Gradient of the PPO loss at the network's output, and diagnostics.

    Loss per household, averaged over the S samples of the minibatch: clipped surrogate
    -min(r A, clip(r, 1 - eps, 1 + eps) A) - entropy_weight H + value_weight (V - target)^2 / 2
    (Schulman et al. 2017), where the heads are independent, so log-probabilities and entropies
    add up. Shapes: `output` and `gradient` [N, S, L + 1], `actions` [N, S, H], the others [N, S].
    Adds to `sums` [N, 5]: policy loss, value loss, entropy, approximate KL, share clipped.
    """
    agents, batch, _ = output.shape
    heads = nvec.size
    logits = bias.shape[1]
    per = np.float32(1.0 / batch)
    log_p = np.empty(logits, np.float32)
    prob = np.empty(logits, np.float32)
    entropies = np.empty(heads, np.float32)
    for n in range(agents):
        for s in range(batch):
            chosen_log = np.float32(0)
            first = 0
            for h in range(heads):
                size = nvec[h]
                top = np.float32(-np.inf)
                for j in range(first, first + size):
                    log_p[j] = output[n, s, j] + bias[n, j]
                    top = max(top, log_p[j])
                total = np.float32(0)
                for j in range(first, first + size):
                    log_p[j] -= top
                    prob[j] = np.exp(log_p[j])
                    total += prob[j]
                log_total = np.log(total)
                entropy = np.float32(0)
                for j in range(first, first + size):
                    log_p[j] -= log_total
                    prob[j] /= total
                    entropy -= prob[j] * log_p[j] if prob[j] > 0 else np.float32(0)
                entropies[h] = entropy
                chosen_log += log_p[first + actions[n, s, h]]
                first += size
            log_ratio = chosen_log - old_log_prob[n, s]
            ratio = np.exp(log_ratio)
            a = advantage[n, s]
            clipped = min(max(ratio, np.float32(1) - clip), np.float32(1) + clip)
            # Where the clipped branch is the smaller one, its gradient is zero.
            active = ratio * a <= clipped * a
            weight = -a * ratio * per if active else np.float32(0)
            first = 0
            for h in range(heads):
                for j in range(first, first + nvec[h]):
                    slope = prob[j] * (log_p[j] + entropies[h]) if prob[j] > 0 else np.float32(0)
                    gradient[n, s, j] = entropy_weight * per * slope - weight * prob[j]
                gradient[n, s, first + actions[n, s, h]] += weight
                first += nvec[h]
                sums[n, 2] += entropies[h]
            error = output[n, s, logits] - target[n, s]
            gradient[n, s, logits] = value_weight * error * per
            sums[n, 0] -= min(ratio * a, clipped * a)
            sums[n, 1] += np.float32(0.5) * error * error
            sums[n, 3] += ratio - np.float32(1) - log_ratio
            sums[n, 4] += abs(ratio - np.float32(1)) > clip


@jit
def gae(reward, value, next_value, truncated, gamma, lam, advantage):
    """Generalised advantage estimation (Schulman et al. 2016) with time limits.

    `reward`, `value`, `next_value` and `advantage` are [T, N, B], `truncated` [T, B].
    `next_value[t]` is the value of the state that followed, which at a truncation is the last
    state of the old episode: a time limit cuts the sum, not the bootstrap.
    """
    steps, agents, batch = reward.shape
    for n in range(agents):
        for b in range(batch):
            running = np.float32(0)
            for t in range(steps - 1, -1, -1):
                delta = reward[t, n, b] + gamma * next_value[t, n, b] - value[t, n, b]
                if truncated[t, b]:
                    running = np.float32(0)
                running = delta + gamma * lam * running
                advantage[t, n, b] = running


class ValueScale(NamedTuple):
    """Running mean and standard deviation of the returns of each household, [N, 1]."""

    mean: Floats
    deviation: Floats


class ValueNormaliser:
    """Value normalisation (Yu et al. 2022): networks predict returns in running units."""

    def __init__(self, households: int, decay: float = 0.9) -> None:
        self.decay = decay
        self._weight = 0.0
        self._mean = np.zeros((households, 1))
        self._square = np.zeros((households, 1))

    def state(self) -> dict[str, Any]:
        """Return copies of the running sums."""
        return {"weight": self._weight, "mean": self._mean.copy(), "square": self._square.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._weight = state["weight"]
        self._mean[...] = state["mean"]
        self._square[...] = state["square"]

    def update(self, returns: Floats) -> None:
        """Take in the returns [N, S] of a rollout."""
        self._weight = self.decay * self._weight + (1 - self.decay)
        values = returns.astype(np.float64)
        self._mean = self.decay * self._mean + (1 - self.decay) * values.mean(1, keepdims=True)
        self._square = self.decay * self._square + (1 - self.decay) * np.square(values).mean(
            1, keepdims=True
        )

    @property
    def scale(self) -> ValueScale:
        """Current mean and standard deviation; 0 and 1 before the first update."""
        if self._weight == 0.0:
            ones = np.ones_like(self._mean, np.float32)
            return ValueScale(0 * ones, ones)
        mean = self._mean / self._weight
        variance = np.maximum(self._square / self._weight - mean * mean, 1e-4)
        return ValueScale(mean.astype(np.float32), np.sqrt(variance).astype(np.float32))
