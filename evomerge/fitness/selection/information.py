"""Items of the greatest Fisher information about the abilities of the calibration's models."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.irt.fit import IrtFit
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.selection.contract import Selection


def select_max_information(
    calibration: TaskCalibration,
    count: int,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> Selection:
    """Items by their information averaged over the calibration's models, greatest first.

    The information of an item about θ is p (1 − p) a a'; its trace is compared. Each item is
    judged alone, so several that tell the same may be chosen. Missing responses are left out
    of the fit.
    """
    fit = fit_items(calibration.matrix.values)
    size = (fit.parameters.discrimination**2).sum(axis=1)
    information = size * mean_variances(fit)
    order = np.argsort(-information, kind="stable")[:count]
    return Selection(order, method="max_information")


def mean_variances(fit: IrtFit) -> np.ndarray:
    """Variance p (1 − p) of each item, averaged over the pool's models, ``(items,)``."""
    p = fit.parameters.probabilities(fit.abilities.theta)
    return np.asarray((p * (1 - p)).mean(axis=0))
