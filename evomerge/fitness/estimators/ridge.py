"""Ridge regression of the bank mean on the answered items' responses."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.calibrated import CalibratedEstimator
from evomerge.fitness.estimators.predictor import LinearPredictor
from evomerge.fitness.response_models.factor_model import complete_responses
from evomerge.fitness.response_models.family_folds import family_folds
from evomerge.fitness.response_models.ridge import fit_ridge
from evomerge.fitness.selection.contract import Selection

FOLDS = 10


def fit_ridge_estimator(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """The calibrated regression for any items; those of ``greedy`` suit it best.

    The penalty is that of the smallest error on left-out families (left-out models, where
    each is its own family, in at most 10 folds), for each set of items. Missing responses are
    filled in beforehand.
    """
    return CalibratedEstimator(calibration, selection, _predictor, rng)


def _predictor(
    calibration: TaskCalibration,
    selection: Selection,  # noqa: ARG001 (any items will do)
) -> LinearPredictor:
    values = complete_responses(calibration.matrix.values)
    means = values.mean(axis=1)
    folds = family_folds(calibration.matrix.families, FOLDS)

    def weights(items: np.ndarray) -> tuple[np.ndarray, float]:
        fit = fit_ridge(values[:, items], means, folds)
        return fit.weights, fit.intercept

    return LinearPredictor(weights)
