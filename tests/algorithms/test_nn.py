"""The learners' numerics against autograd and hand-worked values."""

import numpy as np
import pytest
import torch

from peerwatt_algorithms.nn import (
    StackedMLP,
    ValueNormaliser,
    gae,
    mask_bias,
    ppo_gradient,
    sample_heads,
)

N, S, F = 3, 40, 5
NVEC = np.array([4, 3, 2])
LOGITS = int(NVEC.sum())


def batch(seed):
    rng = np.random.default_rng(seed)
    mask = np.ones((N, LOGITS), bool)
    mask[1, 8] = False
    actions = np.stack([rng.integers(0, k, (N, S)) for k in NVEC], -1)
    actions[1, :, 2] = 0
    return (
        rng.standard_normal((N, S, F)).astype(np.float32),
        mask,
        actions,
        rng.normal(-3, 0.3, (N, S)).astype(np.float32),
        rng.standard_normal((N, S)).astype(np.float32),
        rng.standard_normal((N, S)).astype(np.float32),
    )


def autograd_loss(output, bias, actions, old, advantage, target, clip, entropy_w, value_w):
    log_prob, entropy, first = 0.0, 0.0, 0
    for head, size in enumerate(NVEC):
        part = slice(first, first + size)
        log_p = torch.log_softmax(output[..., part] + bias[:, None, part], -1)
        log_prob = log_prob + log_p.gather(-1, actions[..., head, None]).squeeze(-1)
        entropy = entropy - (log_p.exp() * log_p).sum(-1)
        first += size
    ratio = (log_prob - old).exp()
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    value = (output[..., -1] - target).square() / 2
    return (-surrogate - entropy_w * entropy + value_w * value).mean(1).sum()


def test_hand_written_gradient_equals_autograd():
    x, mask, actions, old, advantage, target = batch(0)
    network = StackedMLP(N, (F, 8, 8, LOGITS + 1), np.random.default_rng(1))
    bias = mask_bias(mask)
    sums = np.zeros((N, 5))
    for group in (slice(0, 2), slice(2, 3)):
        activations = network.forward(torch.from_numpy(x[group]), group)
        gradient = np.empty(activations[-1].shape, np.float32)
        ppo_gradient(
            activations[-1].numpy(), bias[group], NVEC, actions[group], old[group],
            advantage[group], target[group], np.float32(0.2), np.float32(0.05), np.float32(0.5),
            gradient, sums[group],
        )  # fmt: skip
        network.backward(activations, torch.from_numpy(gradient), group)
    ours = [gradient.clone() for gradient in network.gradients]

    leaves = [p.clone().requires_grad_() for p in network.parameters]
    h = torch.from_numpy(x)
    for layer in range(0, len(leaves), 2):
        h = torch.baddbmm(leaves[layer + 1], h, leaves[layer])
        h = torch.relu(h) if layer + 2 < len(leaves) else h
    loss = autograd_loss(
        h, *(torch.from_numpy(a) for a in (bias, actions, old, advantage, target)), 0.2, 0.05, 0.5
    )
    loss.backward()
    for mine, leaf in zip(ours, leaves, strict=True):
        assert torch.allclose(mine, leaf.grad, atol=2e-6, rtol=1e-4)
    assert 0 < sums[:, 4].sum() < N * S, "the batch must have clipped and unclipped samples"
    total = (sums[:, 0] - 0.05 * sums[:, 2] + 0.5 * sums[:, 1]).sum() / S
    assert total == pytest.approx(loss.item(), rel=1e-5)


def test_groups_cover_every_household_once():
    network = StackedMLP(10, (2, 2), np.random.default_rng(0))
    everybody = np.arange(10)
    assert np.concatenate([everybody[group] for group in network.groups()]).tolist() == [*range(10)]


def test_sampling_follows_the_softmax_and_never_a_masked_action():
    rng = np.random.default_rng(0)
    output = np.tile(rng.standard_normal((N, 1, LOGITS + 1)).astype(np.float32), (1, 20_000, 1))
    mask = np.ones((N, LOGITS), bool)
    mask[1, 5] = False
    bias = mask_bias(mask)
    actions = np.zeros((20_000, N, 3), np.int64)
    log_prob = np.zeros((N, 20_000), np.float32)
    uniforms = rng.random((N, 20_000, 3), np.float32)
    sample_heads(output, bias, NVEC, uniforms, actions, log_prob)
    first = 0
    expected = np.zeros((N, 20_000))
    for head, size in enumerate(NVEC):
        logits = output[:, 0, first : first + size] + bias[:, first : first + size]
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        for n in range(N):
            share = np.bincount(actions[:, n, head], minlength=size) / 20_000
            assert np.abs(share - p[n]).max() < 0.02
            expected[n] += np.log(p[n][actions[:, n, head]])
        first += size
    assert not (actions[:, 1, 1] == 1).any()
    np.testing.assert_allclose(log_prob, expected, atol=1e-5)
    sample_heads(output, bias, NVEC, np.full_like(uniforms, -1), actions, log_prob)
    best = (output[:, 0, :4] + bias[:, :4]).argmax(1)
    assert (actions[:, :, 0] == best).all()


def test_gae_bootstraps_through_a_time_limit_by_hand():
    """Two steps, the first ends an episode: gamma 0.5, lambda 0.5."""
    reward = np.array([1.0, 2.0], np.float32).reshape(2, 1, 1)
    value = np.array([0.5, 0.25], np.float32).reshape(2, 1, 1)
    following = np.array([4.0, 8.0], np.float32).reshape(2, 1, 1)
    out = np.zeros((2, 1, 1), np.float32)
    half = np.float32(0.5)
    gae(reward, value, following, np.array([[True], [False]]), half, half, out)
    # delta_1 = 2 + 0.5 * 8 - 0.25 = 5.75; delta_0 = 1 + 0.5 * 4 - 0.5 = 2.5, cut from delta_1
    assert out.ravel().tolist() == [2.5, 5.75]
    gae(reward, value, following, np.array([[False], [False]]), half, half, out)
    assert out.ravel().tolist() == [2.5 + 0.25 * 5.75, 5.75]


def test_value_normaliser_recovers_mean_and_deviation():
    normaliser = ValueNormaliser(2)
    assert normaliser.scale.mean.tolist() == [[0], [0]]
    assert normaliser.scale.deviation.tolist() == [[1], [1]]
    normaliser.update(np.array([[1.0, 3.0], [10.0, 10.0]], np.float32))
    assert normaliser.scale.mean.ravel().tolist() == pytest.approx([2, 10])
    assert normaliser.scale.deviation.ravel().tolist() == pytest.approx([1, 0.01])


def test_each_household_is_clipped_and_initialised_alone():
    network = StackedMLP(2, (3, 4, 2), np.random.default_rng(0))
    assert not torch.equal(network.parameters[0][0], network.parameters[0][1])
    network.gradients[0][0] = 10.0
    network.gradients[0][1] = 0.01
    network.clip_gradients(1.0)
    norms = torch.stack([p.grad.square().sum((1, 2)) for p in network.parameters]).sum(0).sqrt()
    assert norms[0] == pytest.approx(1.0, rel=1e-4)
    assert norms[1] == pytest.approx(0.01 * 12**0.5, rel=1e-4)
