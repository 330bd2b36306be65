"""Selection: items in the order in which candidates answer them, and how they were chosen."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evomerge.fitness.calibration import TaskCalibration


@dataclass(frozen=True, eq=False)
class Selection:
    """Items of a bank, the most useful first, so that every prefix is a selection too."""

    order: np.ndarray
    """``(n,)`` column positions in the calibration's matrix, each once."""

    weights: np.ndarray | None = None
    """``(n,)`` share of the bank that each item stands for where all n are answered; sums
    to 1. None: the selection gives no weights."""

    method: str | None = None
    """Key of ``SELECTIONS`` by which the order was made, so that cross-validation can make it
    anew without the models held out. None: given, and not chosen by looking at the matrix."""

    embedding: np.ndarray | None = None
    """``(items, dims)`` where the bank's items lie, for methods that let each item stand for
    its neighbours."""

    strata: np.ndarray | None = None
    """``(items,)`` stratum 0, 1, … of every item of the bank, in an order of the strata in
    which neighbours are alike, where each stratum's items come in a random order."""


class Select(Protocol):
    """One way of choosing items."""

    def __call__(
        self, calibration: TaskCalibration, count: int, rng: np.random.Generator
    ) -> Selection:
        """Choose items.

        Args:
            calibration: Of the task.
            count: Items to choose, 1 … all; a smaller count chooses a prefix of what a larger
                one does, anchors aside, where a prefix is as good as its length allows.
            rng: Where the method draws anything.
        """
