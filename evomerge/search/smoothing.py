"""Smoothing: estimates of candidates in the light of those of similar genomes."""

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

_FEWEST = 8
"""Candidates that a surrogate needs."""

_SURE = 1e-3
"""Smallest standard error, in standard deviations of the values: exact values stay so."""


def smoothed(points: np.ndarray, values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Posterior means at the points themselves of a Gaussian process through noisy values.

    The best of many noisy estimates is mostly a lucky one. Neighbours that were estimated on
    their own tell how much of it is luck: kriging with a squared exponential kernel, whose
    scale and length are fitted by marginal likelihood (Rasmussen and Williams 2006, ch. 5),
    and with each estimate's own standard error as noise.

    Args:
        points: ``(n, genes)`` in the unit cube.
        values: ``(n,)`` estimates.
        errors: ``(n,)`` their standard errors.

    Returns:
        ``(n,)``; the values as they are where they are too few or all equal.
    """
    spread = float(values.std())
    if len(values) < _FEWEST or spread == 0 or not points.shape[1]:
        return values
    length = 0.4 * np.sqrt(points.shape[1] / 3)  # distances grow with the root of dimension
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * RBF(length, (length / 5, length * 10))
    noise = np.maximum(errors / spread, _SURE) ** 2
    process = GaussianProcessRegressor(kernel, alpha=noise)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a bound is reached: good enough
        process.fit(points, (values - values.mean()) / spread)
    return np.asarray(process.predict(points) * spread + values.mean())


def smoothed_losses(
    points: np.ndarray, losses: np.ndarray, errors: Sequence[Sequence[float]]
) -> np.ndarray:
    """The same for several objectives, each by itself: ``(n, objectives)``."""
    noise = np.asarray(errors, dtype=np.float64).reshape(losses.shape)
    columns = [smoothed(points, losses[:, k], noise[:, k]) for k in range(losses.shape[1])]
    return np.stack(columns, axis=1)
