"""A guard that leaves the global random generators of python, numpy and torch as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def untouched_generators() -> Iterator[None]:
    """Restore the global generators after the block, whatever the libraries in it drew."""
    python = random.getstate()
    legacy = np.random.get_state()  # noqa: NPY002 - kept for others, never drawn from
    cpu = torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
