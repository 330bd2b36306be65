"""Ridge regression whose penalty is the one with the least leave-one-out error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_PENALTIES = np.logspace(-8.0, 3.0, 23)
"""Penalties tried, as multiples of the terms' mean sum of squares."""

_SMALL = 1e-12
"""Directions with less than this share of the largest sum of squares are rounding errors."""

_ALONE = 1e-10
"""Where the others' share in a point's prediction is below this, they foretell their mean."""


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A linear function of terms and how well it foretold points left out."""

    coefficients: Array
    """``(terms,)``"""

    intercept: float

    penalty: float
    """As a multiple of the terms' mean sum of squares."""

    left_out: Array
    """``(points,)`` prediction for each point from all others."""


class RidgeProblem:
    """Terms of points, decomposed once for any number of targets.

    Terms are centred on their weighted mean, so that the intercept is not penalised. Whichever
    of the two Gram matrices is smaller is decomposed; predictions of points left out follow
    from the hat matrix without refitting (PRESS, Allen 1974).

    Args:
        terms: ``(points, terms)`` finite numbers.
        weights: ``(points,)`` above 0; equal if None.
    """

    def __init__(self, terms: Array, weights: Array | None = None) -> None:
        points = len(terms)
        weights = np.ones(points) if weights is None else weights / weights.mean()
        self._weights = weights
        self._root = np.sqrt(weights)
        self._mean = weights @ terms / points
        self._rows = self._root[:, None] * (terms - self._mean)
        self._sizes, self._basis = _left_singular(self._rows)
        self._unit = float(self._sizes.sum()) / max(1, terms.shape[1])

    def fit(self, targets: Array) -> RidgeFit:
        """The fit to ``(points,)`` finite targets."""
        points = len(targets)
        mean = float(self._weights @ targets / points)
        rest = self._root * (targets - mean)
        onto = self._basis.T @ rest
        penalties = _PENALTIES * self._unit
        # One column a penalty from here on.
        kept = self._sizes[:, None] / (self._sizes[:, None] + penalties + 1e-300)
        residuals = rest[:, None] - self._basis @ (kept * onto[:, None])
        own = self._weights[:, None] / points + self._basis**2 @ kept
        others = 1.0 - own
        from_mean = rest[:, None] * (points / max(1, points - 1))
        residuals = np.where(others < _ALONE, from_mean, residuals / np.maximum(others, _ALONE))
        best = int(np.argmin((residuals**2).sum(axis=0)))
        along = onto / (self._sizes + penalties[best] + 1e-300)
        coefficients = self._rows.T @ (self._basis @ along)
        return RidgeFit(
            coefficients,
            mean - float(self._mean @ coefficients),
            float(_PENALTIES[best]),
            targets - residuals[:, best] / self._root,
        )


def _left_singular(rows: Array) -> tuple[Array, Array]:
    """Squared singular values above rounding, and the left singular vectors to them."""
    points, terms = rows.shape
    if terms < points:
        sizes, right = np.linalg.eigh(rows.T @ rows)
    else:
        sizes, right = np.linalg.eigh(rows @ rows.T)
    kept = sizes > _SMALL * max(float(sizes[-1]), 1e-300)
    sizes, right = sizes[kept], right[:, kept]
    return sizes, (rows @ right / np.sqrt(sizes) if terms < points else right)
