"""Items that leave the smallest posterior variance of the bank's mean under a factor model."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.response_models.factor_model import FactorModel
from evomerge.fitness.selection.contract import Selection


def select_c_optimal(
    calibration: TaskCalibration,
    count: int,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> Selection:
    """Greedy c-optimal design: see :meth:`FactorModel.select`.

    Missing responses are filled from the model, and make an item less attractive.
    """
    order = FactorModel.fit(calibration.matrix.values).select(count)
    return Selection(order, method="c_optimal")
