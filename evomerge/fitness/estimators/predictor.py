"""Predictors of a bank's mean that have no standard error of their own."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import numpy as np

_KEPT = 512
"""Sets of items whose weights are kept."""


class Predictor(Protocol):
    """Predicts bank means of models from their answers to the same items."""

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Bank means.

        Args:
            items: ``(n,)`` item positions.
            answers: ``(models, n)``, none missing.

        Returns:
            ``(models,)``.
        """


class LinearPredictor:
    """Weights times answers plus an intercept; the weights of a set of items are kept."""

    def __init__(self, weights: Callable[[np.ndarray], tuple[np.ndarray, float]]) -> None:
        """Wrap what computes weights ``(n,)`` and an intercept for item positions ``(n,)``."""
        self._weights = weights
        self._kept: OrderedDict[bytes, tuple[np.ndarray, float]] = OrderedDict()

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """See ``Predictor``."""
        key = items.tobytes()
        if key not in self._kept:
            self._kept[key] = self._weights(items)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        weights, intercept = self._kept[key]
        return np.asarray(answers @ weights + intercept)
