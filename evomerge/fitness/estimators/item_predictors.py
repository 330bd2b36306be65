"""Predicted responses of a model to every item of a bank, from its answers to some."""

from typing import Protocol

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.irt.ability import fit_ability
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.response_models.factor_model import (
    SINGLE_RESPONSES,
    FactorModel,
    complete_responses,
)
from evomerge.fitness.response_models.item_fits import fit_items

_PENALTY = 1.0
"""Of the endpoints' coefficients: noise variance of a response (about .2) over the prior
variance of a coefficient (about .2)."""


class ItemPredictor(Protocol):
    """Predicts one model's responses."""

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Responses to the bank's items, ``(items of the bank,)``, in 0…1.

        Args:
            items: ``(n,)`` item positions, at least one.
            answers: ``(n,)``.
        """


class FactorItems:
    """Expected responses under a factor model of earlier responses."""

    def __init__(self, calibration: TaskCalibration) -> None:
        """Fit; missing responses are filled from the model."""
        self._model = FactorModel.fit(calibration.matrix.values, SINGLE_RESPONSES)

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """See ``ItemPredictor``."""
        return np.asarray(np.clip(self._model.item_means(items, answers), 0, 1))


class IrtItems:
    """Probabilities of right answers at the ability that the answers show."""

    def __init__(self, calibration: TaskCalibration) -> None:
        """Fit; missing responses are left out of the likelihood."""
        self._parameters: ItemParameters = fit_items(calibration.matrix.values).parameters

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """See ``ItemPredictor``."""
        ability = fit_ability(self._parameters.subset(items), answers[None])
        return np.asarray(self._parameters.probabilities(ability.theta)[0])


class EndpointItems:
    """Regression of the answers on the endpoints' responses to the same items.

    Coefficients are drawn towards 1/K for each of K endpoints and an intercept of 0: before
    any answer, a merge is expected to solve what its parents solve on average.
    """

    def __init__(self, calibration: TaskCalibration) -> None:
        """Keep the endpoints' rows; missing responses are filled in.

        Raises:
            ConfigError: The calibration names no endpoints.
        """
        if not calibration.endpoints:
            raise ConfigError(
                "calibration: names no endpoints; ppi_endpoints needs the rows of the source "
                "models, so score the sources on the whole bank or use ppi."
            )
        rows = complete_responses(calibration.matrix.values)[list(calibration.endpoints)]
        self._features = np.vstack([rows, np.ones(rows.shape[1])])
        self._prior = np.append(np.full(len(rows), 1 / len(rows)), 0.0)

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """See ``ItemPredictor``."""
        seen = self._features[:, items]
        precision = seen @ seen.T + _PENALTY * np.eye(len(seen))
        coefficients = self._prior + np.linalg.solve(
            precision, seen @ (answers - self._prior @ seen)
        )
        return np.asarray(np.clip(coefficients @ self._features, 0, 1))
