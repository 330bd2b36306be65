"""One study seed in, named independent random streams out."""

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A generator of its own for each name path under one seed.

    Streams of different names are independent, and the same seed and names give the same
    stream in every process, so that adding a consumer never shifts another's numbers.

    Args:
        seed: The study's seed, any integer.
        names: What the stream is for, e.g. ``"optimizer", "nsga2"``.
    """
    key = hashlib.sha256(repr((int(seed), names)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))


def derived_seed(seed: int, *names: str | int) -> int:
    """A seed in [1, 2³¹) for a library that wants an integer.

    Never 0, since pycma takes 0 for "use the time".
    """
    return int(stream(seed, *names).integers(1, 2**31))
