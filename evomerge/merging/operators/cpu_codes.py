"""Numbers on which compiled loops and the code around them agree, without numba or torch."""

FLOAT32, BFLOAT16, FLOAT16, FLOAT64 = range(4)
"""Dtypes of tensors at addresses."""

ALL, MAGNITUDES, RANDOM, RANKED = range(4)
"""What is kept of a task vector, see ``cpu_kernels.KEPT``."""

FINE = 12
"""Low bits of a float32 magnitude that a histogram's bins do not tell apart."""

BLOCK = 1 << 13
"""Entries worked on at a time: a float32 row of each of some ten models stays in cache."""
