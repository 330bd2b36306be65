"""The best linear predictor of the bank mean under a shrunken factor model."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.calibrated import CalibratedEstimator
from evomerge.fitness.estimators.predictor import LinearPredictor
from evomerge.fitness.response_models.factor_model import FactorModel
from evomerge.fitness.selection.contract import Selection


def fit_factor(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """The factor estimator for any items; those of ``c_optimal`` suit it best.

    Missing responses are filled from the model (see :class:`FactorModel`).
    """
    return CalibratedEstimator(calibration, selection, _predictor, rng)


def _predictor(
    calibration: TaskCalibration,
    selection: Selection,  # noqa: ARG001 (any items will do)
) -> LinearPredictor:
    return LinearPredictor(FactorModel.fit(calibration.matrix.values).weights)
