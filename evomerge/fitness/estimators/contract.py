"""BankMeanEstimator: the contract of everything that predicts a bank's mean score."""

from typing import Protocol

import numpy as np

from evomerge.core.objectives import Estimate
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.selection.contract import Selection


class BankMeanEstimator(Protocol):
    """Predicts a model's mean over all items of a bank from its answers to some.

    Fitted once on a ``TaskCalibration``; holds no torch model. Where all items of the bank
    are answered, the estimate is their mean and its standard error 0.
    """

    def estimate(self, items: np.ndarray, answers: np.ndarray) -> Estimate:
        """The predicted mean over the bank, with its standard error.

        Args:
            items: ``(n,)`` column positions in the calibration's matrix, each once, in any
                order; usually a prefix of the selection.
            answers: ``(n,)`` the model's scores on them, in 0…1.

        Raises:
            ValueError: Shapes disagree, no item, an item twice or outside the bank, or an
                answer that is not finite.
        """

    def extrapolates(self, items: np.ndarray, answers: np.ndarray) -> bool:
        """Whether the estimate lies outside of what the estimator was calibrated on.

        Always false for estimators that rest on the sampling of items alone. Arguments and
        errors as in :meth:`estimate`.
        """


class Fit(Protocol):
    """How an estimator is made."""

    def __call__(
        self, calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
    ) -> BankMeanEstimator:
        """Fit to a calibration.

        Args:
            calibration: Of the task.
            selection: The items that candidates will answer, a prefix at each rung.
            rng: Where the fit, its cross-validation or the choice of items draws anything.

        Raises:
            ConfigError: The calibration or selection lacks what the estimator needs.
        """
