"""ItemPrior: what items look like before their answers are seen."""

from dataclasses import dataclass

import numpy as np

_SPREAD = (0.5, 1.5)
"""Weak belief on the standard deviations of discriminations and difficulties."""

_WORTH = 10.0
"""How many models' answers that belief counts for."""

STEEPEST = 3.0
"""Standard deviation of a fixed normal belief around 0 that tempers every discrimination, so
that items which a pool answers without any exception have finite slopes."""


@dataclass(frozen=True, eq=False)
class ItemPrior:
    """A normal distribution of one item's coefficients (a_1 … a_D, b)."""

    mean: np.ndarray
    """``(dims + 1,)``."""

    covariance: np.ndarray
    """``(dims + 1, dims + 1)``."""

    @classmethod
    def flat(cls, dims: int) -> "ItemPrior":
        """So wide (standard deviation 10) that it matters only where answers say nothing."""
        mean = np.append(np.full(dims, 1 / np.sqrt(dims)), 0.0)
        return cls(mean, 100.0 * np.eye(dims + 1))

    @classmethod
    def start(cls, dims: int) -> "ItemPrior":
        """Where the empirical prior begins."""
        mean = np.append(np.full(dims, 1 / np.sqrt(dims)), 0.0)
        return cls(mean, np.diag([1.0] * dims + [9.0]))

    @classmethod
    def empirical(
        cls, coefficients: np.ndarray, covariances: np.ndarray, models: int
    ) -> "ItemPrior":
        """The distribution that these items were drawn from, given how uncertain each is.

        One step of empirical Bayes by EM: the mean of the coefficients, and their scatter plus
        their posterior covariances, mixed with a belief on both spreads. The full covariance
        (discriminations with each other and with difficulty) makes the prior follow any
        rotation and shift of the abilities, so none of them is preferred.

        Args:
            coefficients: ``(items, dims + 1)`` a and b.
            covariances: ``(items, dims + 1, dims + 1)`` posterior covariances.
            models: That answered; the belief counts as much as the answers of a few models.
        """
        count, width = coefficients.shape
        mean = coefficients.mean(axis=0)
        centred = coefficients - mean
        scatter = centred.T @ centred + covariances.sum(axis=0)
        belief = np.diag([_SPREAD[0] ** 2] * (width - 1) + [_SPREAD[1] ** 2])
        freedom = width + 2 + count * _WORTH / models
        return cls(mean, (scatter + freedom * belief) / (count + freedom))
