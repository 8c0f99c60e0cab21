"""Counter-based random numbers for the kernels.

Every draw is a hash of what it is for (seed, purpose, community, episode, slot, household), never
a step of shared state. So community b of a batch is the same whatever the batch size, an
evaluation cannot disturb training, and all algorithms meet the same scenarios. The hash is the
finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from peerwatt.errors import PeerWattError

TRAINING = 1
EVALUATION = 2

jit = njit(cache=True, error_model="numpy", nogil=True)

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)
_S16, _S48 = np.uint64(16), np.uint64(48)
_LOW16, _LOW32 = np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)


@jit
def mix(key, counter):
    """Return the 64-bit hash of (key, counter), both unsigned 64-bit."""
    z = key + (np.uint64(counter) + np.uint64(1)) * _STEP
    z = (z ^ (z >> _S30)) * _MIX1
    z = (z ^ (z >> _S27)) * _MIX2
    return z ^ (z >> _S31)


@jit
def episode_key(seed, purpose, community, episode):
    """Return the key from which all draws of one episode of one community derive."""
    return mix(mix(mix(mix(np.uint64(0), seed), purpose), community), episode)


@jit
def below(bits, bound):
    """Map 64 random bits to 0..bound-1 by multiply and shift (bias under bound / 2**32)."""
    return np.int64(((bits >> _S32) * np.uint64(bound)) >> _S32)


@jit
def centred(bits):
    """Map 64 random bits to the centred sum of four 16-bit uniforms (Irwin-Hall, near normal).

    The standard deviation is 65536 / sqrt(3), so that the scaled noise stays in integers.
    """
    total = (bits & _LOW16) + ((bits >> _S16) & _LOW16)
    total += ((bits >> _S32) & _LOW16) + (bits >> _S48)
    return np.int64(total) - np.int64(131070)


@jit
def shuffle(key, n, out):
    """Write a random permutation of 0..n-1 into `out[0:n]` (Fisher-Yates, inside out)."""
    for i in range(n):
        j = below(mix(key, i), i + 1)
        out[i] = out[j]
        out[j] = i


def check_seed(seed: int) -> int:
    """Return `seed` if it is a whole number from 0 to 2**63 - 1.

    Raises:
        PeerWattError: it is not.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise PeerWattError(f"seed {seed!r} must be a whole number from 0 to 2**63 - 1.")
    return int(seed)
