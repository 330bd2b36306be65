"""The two untrained networks that the published code's pre-trained runs start from.

That code draws them once, with JAX 0.4.31 and key 42, for all its runs, so that its pre-trained
results belong to one pair. The numbers are drawn again here without JAX: counter-based Threefry
2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
keyed and counted as JAX's original, not "partitionable", scheme does. They agree with JAX's to
3e-7.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfinv

from experiments.m2n2_digits.digits_network import DIMENSION, INITIAL_DEVIATION, Vector

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)

Words = NDArray[np.uint32]


def threefry(key: Words, counter: Words) -> Words:
    """Return random words for a counter of shape (2, n) under a key of two words."""
    keys = [key[0], key[1], key[0] ^ key[1] ^ PARITY]
    left, right = counter[0] + keys[0], counter[1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            left = left + right
            right = (right << np.uint32(rotation)) | (right >> np.uint32(32 - rotation))
            right = right ^ left
        left = left + keys[(group + 1) % 3]
        right = right + keys[(group + 2) % 3] + np.uint32(group + 1)
    return np.stack([left, right])


def random_words(key: Words, count: int) -> Words:
    """Return `count` random words; `count` must be even."""
    return threefry(key, np.arange(count, dtype=np.uint32).reshape(2, -1)).reshape(-1)


def normals(key: Words, count: int) -> Vector:
    """Return `count` standard normal numbers by inversion of 23-bit uniforms in (-1, 1)."""
    mantissas = random_words(key, count) >> np.uint32(9) | np.float32(1).view(np.uint32)
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniforms = (mantissas.view(np.float32) - 1) * (np.float32(1) - lowest) + lowest
    uniforms = np.maximum(uniforms, lowest)
    return np.float32(np.sqrt(2)) * erfinv(uniforms).astype(np.float32)


def published_networks() -> tuple[Vector, Vector]:
    """Return the two networks before their ten training steps."""
    with np.errstate(over="ignore"):
        first, second = random_words(np.array([0, 42], np.uint32), 4).reshape(2, 2)
        deviation = np.float32(INITIAL_DEVIATION)
        return normals(first, DIMENSION) * deviation, normals(second, DIMENSION) * deviation
