"""Items chosen one by one for the smallest left-out error of the ridge estimator itself."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.response_models.factor_model import complete_responses
from evomerge.fitness.response_models.family_folds import family_folds
from evomerge.fitness.response_models.ridge import ForwardRidge
from evomerge.fitness.selection.contract import Selection

PENALTY = 1.0

FOLDS = 10

_WIDEST = 10_000
"""Items that are tried; in larger banks, as many drawn at random. The items that vary most
along with the bank mean would be a bad choice: all of their means err the same way."""


def select_greedy(
    calibration: TaskCalibration,
    count: int,
    rng: np.random.Generator,
) -> Selection:
    """Forward selection: each next item gives the smallest left-out squared error.

    Left out are whole families, in at most 10 folds. Missing responses are filled in. Of a
    bank of more than 10,000 items a random part is tried.
    """
    matrix = calibration.matrix
    values = complete_responses(matrix.values)
    means = values.mean(axis=1)
    tried = _tried(values.shape[1], max(count, _WIDEST), rng)
    forward = ForwardRidge(
        values[:, tried], means, family_folds(matrix.families, FOLDS), PENALTY
    )
    order = np.empty(count, dtype=np.intp)
    for position in range(count):
        item = int(np.argmin(forward.errors()))
        forward.choose(item)
        order[position] = tried[item]
    return Selection(order, method="greedy")


def _tried(items: int, most: int, rng: np.random.Generator) -> np.ndarray:
    """The items to choose from, in the bank's order."""
    if items <= most:
        return np.arange(items)
    return np.sort(rng.choice(items, most, replace=False))
