"""The mean of randomly drawn items."""

import numpy as np

from evomerge.core.objectives import Estimate
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.answers import checked_answers, exact
from evomerge.fitness.estimators.sampling_design import SamplingDesign
from evomerge.fitness.selection.contract import Selection


class SampleMean:
    """Mean of a random sample, by strata where it has any; needs no calibration.

    Unbiased over the draw of items. The standard error has the correction for a finite bank,
    and two pseudo-answers (see :meth:`SamplingDesign.standard_error`).
    """

    def __init__(self, design: SamplingDesign) -> None:
        self._design = design

    def estimate(self, items: np.ndarray, answers: np.ndarray) -> Estimate:
        """See ``BankMeanEstimator``; a single item of several is a ``ConfigError``."""
        items, answers = checked_answers(items, answers, self._design.bank)
        if len(items) == self._design.bank:
            return exact(answers)
        value = self._design.mean(items, answers)
        return Estimate(value, self._design.standard_error(items, answers, answers))

    def extrapolates(self, items: np.ndarray, answers: np.ndarray) -> bool:
        """Never: nothing is assumed of the model."""
        checked_answers(items, answers, self._design.bank)
        return False


def fit_mean(
    calibration: TaskCalibration,
    selection: Selection,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> SampleMean:
    """The mean over a calibration's bank; of the matrix only the number of items is used."""
    return SampleMean(SamplingDesign.of(selection, len(calibration.matrix.items)))
