"""Losses as Gaussian processes want them: larger is better, of mean 0 and variance 1."""

import numpy as np
from numpy.typing import NDArray

from evomerge.core.pareto import front_mask

Array = NDArray[np.float64]

_MOST_BEST = 12
"""Points that stand for what is known when an improvement is looked for."""

_SMALLEST_VARIANCE = 1e-4
"""Of measurements, where losses have variance 1; BoTorch's floor too."""

_CUT = 3.0
"""Losses farther above the median than so many times its distance from the best are moved
there: by how much a broken model is broken is nothing to model."""


def targets_of(losses: Array, errors: Array | None) -> tuple[Array, Array | None]:
    """Losses to be maximised, of mean 0 and variance 1, and the variances of measurement."""
    scale = np.abs(losses).max(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    shares = losses / scale
    median = np.median(shares, axis=0)
    above = _CUT * (median - shares.min(axis=0))
    shares = np.where((above > 0) & (shares > median + above), median + above, shares)
    spread = shares.std(axis=0)
    spread = np.where(spread > 1e-12, spread, 1.0)  # noise of rounding is no variation
    targets = (shares.mean(axis=0) - shares) / spread
    if errors is None:
        return targets, None
    relative = np.clip(errors / scale / spread, 0.0, 1e3)
    return targets, np.maximum(relative**2, _SMALLEST_VARIANCE)


def hardest_to_improve(targets: Array) -> NDArray[np.int64]:
    """Indices of the points that are hardest to improve on: the front, or the highest few."""
    if targets.shape[1] == 1:
        return np.argsort(-targets[:, 0], kind="stable")[:_MOST_BEST]
    front = np.flatnonzero(front_mask(-targets))
    spread = np.linspace(0, len(front) - 1, min(_MOST_BEST, len(front))).round()
    order = np.argsort(targets[front, 0], kind="stable")
    return front[order[spread.astype(np.int64)]]


def reference_of(targets: Array) -> list[float]:
    """A tenth of the front's range beyond its worst value in each objective."""
    front = targets[front_mask(-targets)]
    low, high = front.min(axis=0), front.max(axis=0)
    width = np.where(high > low, high - low, 1.0)
    return [float(v) for v in low - 0.1 * width]
