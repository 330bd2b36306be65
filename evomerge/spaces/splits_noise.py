"""Seeded noise directions: standard normal numbers by seed, tensor and place.

A direction of as many entries as a model has is never stored. Any part of it is made on the
spot and does not depend on what else was made: the bits are those of Philox4x64-10 (Salmon et
al. 2011), which are the same on every machine, and the normals are Box and Muller's of them.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 12
"""Entries whose bits come from one counter; even, since normals are made in pairs."""

_UNIT = 2.0**-53


def normals(seed: int, tensor_name: str, first: int, count: int) -> NDArray[np.float64]:
    """A part of a noise direction.

    Args:
        seed: Names the direction.
        tensor_name: Of which tensor.
        first: The flat index in the tensor at which the part begins.
        count: Its length.

    Returns:
        ``(count,)`` standard normal numbers.
    """
    key = hashlib.sha256(repr((int(seed), tensor_name)).encode()).digest()
    stop = first + count
    blocks = [_block(key, number) for number in range(first // _BLOCK, -(-stop // _BLOCK))]
    if not blocks:
        return np.empty(0)
    start = first - first // _BLOCK * _BLOCK
    return np.concatenate(blocks)[start : start + count]


def _block(key: bytes, number: int) -> NDArray[np.float64]:
    words = np.frombuffer(key[:16], dtype="<u8").astype(np.uint64)
    bits = np.random.Philox(key=words, counter=[0, 0, 0, number]).random_raw(_BLOCK)
    uniform = (bits >> np.uint64(11)).astype(np.float64) * _UNIT
    radius = np.sqrt(-2.0 * np.log1p(-uniform[::2]))  # 1 - u is never 0
    angle = (2.0 * np.pi) * uniform[1::2]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
