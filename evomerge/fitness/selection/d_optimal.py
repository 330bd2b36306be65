"""Items that make the volume of doubt about a model's abilities smallest (D-optimal)."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.selection.contract import Selection
from evomerge.fitness.selection.information import mean_variances


def select_d_optimal(
    calibration: TaskCalibration,
    count: int,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> Selection:
    """Greedily maximise log det(I + Σ_i w_i a_i a_i'), w_i the mean p (1 − p) over the pool.

    I is the precision of the abilities' prior. By the matrix determinant lemma, an item adds
    log(1 + w a' C a), where C is the covariance so far. Missing responses are left out of
    the fit.
    """
    fit = fit_items(calibration.matrix.values)
    rows = fit.parameters.discrimination * np.sqrt(mean_variances(fit))[:, None]
    covariance = np.eye(rows.shape[1])
    free = np.ones(len(rows), dtype=bool)
    order = np.empty(count, dtype=np.intp)
    for position in range(count):
        gain = np.einsum("nd,de,ne->n", rows, covariance, rows)
        item = int(np.argmax(np.where(free, gain, -np.inf)))
        free[item] = False
        order[position] = item
        seen = covariance @ rows[item]
        covariance = covariance - np.outer(seen, seen) / (1 + rows[item] @ seen)
    return Selection(order, method="d_optimal")
