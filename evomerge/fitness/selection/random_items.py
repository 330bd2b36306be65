"""Items drawn at random without replacement."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.selection.contract import Selection


def select_random(
    calibration: TaskCalibration, count: int, rng: np.random.Generator
) -> Selection:
    """A simple random sample in random order; every prefix is one too."""
    return random_selection(len(calibration.matrix.items), count, rng)


def random_selection(bank: int, count: int, rng: np.random.Generator) -> Selection:
    """The same for a bank of which only the size is known.

    Args:
        bank: Number of items.
        count: Items to draw, at most ``bank``.
        rng: Drawn from; the whole bank is permuted, so counts give prefixes of each other.
    """
    return Selection(rng.permutation(bank)[:count], method="random")
