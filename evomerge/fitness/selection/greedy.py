"""Items chosen one by one for the smallest left-out error of the ridge estimator itself."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.response_models.factor_model import complete_responses
from evomerge.fitness.response_models.family_folds import family_folds
from evomerge.fitness.response_models.ridge import ForwardRidge
from evomerge.fitness.selection.contract import Selection

PENALTY = 1.0

FOLDS = 10

_WIDEST = 2000
"""Items that are tried; in larger banks, those that vary most along with the bank mean."""


def select_greedy(
    calibration: TaskCalibration,
    count: int,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> Selection:
    """Forward selection: each next item gives the smallest left-out squared error.

    Left out are whole families, in at most 10 folds. Missing responses are filled in.
    """
    matrix = calibration.matrix
    values = complete_responses(matrix.values)
    means = values.mean(axis=1)
    tried = _tried(values, means, max(count, _WIDEST))
    forward = ForwardRidge(
        values[:, tried], means, family_folds(matrix.families, FOLDS), PENALTY
    )
    order = np.empty(count, dtype=np.intp)
    for position in range(count):
        item = int(np.argmin(forward.errors()))
        forward.choose(item)
        order[position] = tried[item]
    return Selection(order, method="greedy")


def _tried(values: np.ndarray, means: np.ndarray, most: int) -> np.ndarray:
    """The items to choose from, in the bank's order."""
    items = values.shape[1]
    if items <= most:
        return np.arange(items)
    shared = (means - means.mean()) @ values
    return np.sort(np.argsort(-np.abs(shared), kind="stable")[:most])
