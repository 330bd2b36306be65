"""CalibratedEstimator: a predictor with the standard error that cross-validation shows."""

import numpy as np

from evomerge.core.objectives import Estimate
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.answers import bounded, checked_answers, exact
from evomerge.fitness.estimators.family_cross_validation import (
    BY_FAMILY,
    FamilyCrossValidation,
    FitPredictor,
    HoldOut,
)
from evomerge.fitness.response_models.factor_model import complete_responses
from evomerge.fitness.selection.contract import Selection


class CalibratedEstimator:
    """Predicted bank mean ± root mean square error on held-out families (a little wider).

    The standard error is that of models such as the calibration's. It does not see that one
    candidate is unlike all of them: ``extrapolates`` tells some of that.
    """

    def __init__(
        self,
        calibration: TaskCalibration,
        selection: Selection,
        fit: FitPredictor,
        rng: np.random.Generator,
        hold_out: HoldOut = BY_FAMILY,
    ) -> None:
        """Fit the predictor; cross-validation waits until a standard error is asked for.

        Args and errors as in ``FamilyCrossValidation``.
        """
        self._bank = len(calibration.matrix.items)
        self._errors = FamilyCrossValidation(calibration, selection, fit, rng, hold_out)
        self._predictor = fit(calibration, selection)
        means = complete_responses(calibration.matrix.values).mean(axis=1)
        self._range = float(means.min()), float(means.max())

    def estimate(self, items: np.ndarray, answers: np.ndarray) -> Estimate:
        """See ``BankMeanEstimator``."""
        items, answers = checked_answers(items, answers, self._bank)
        if len(items) == self._bank:
            return exact(answers)
        return Estimate(self._value(items, answers), self._errors.error(items))

    def extrapolates(self, items: np.ndarray, answers: np.ndarray) -> bool:
        """Whether the value lies outside the calibration's bank means by a standard error.

        Never where every item is answered: nothing is predicted then.
        """
        estimate = self.estimate(items, answers)
        if len(items) == self._bank:
            return False
        low, high = self._range
        margin = estimate.standard_error
        return not low - margin <= estimate.value <= high + margin

    def _value(self, items: np.ndarray, answers: np.ndarray) -> float:
        row = answers[None]
        return float(bounded(self._predictor.predict(items, row), row, self._bank)[0])
