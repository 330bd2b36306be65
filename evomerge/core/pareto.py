"""Dominance, fronts and hypervolume of loss vectors (all objectives minimised)."""

import moocore
import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]
"""``(points, objectives)`` array of finite losses."""


def front_mask(points: Losses) -> NDArray[np.bool_]:
    """Which points no other point dominates; of equal points only the first is kept.

    Args:
        points: ``(n, m)`` losses; rows with a non-finite value are never on the front.

    Returns:
        ``(n,)`` booleans.
    """
    points = np.asarray(points, dtype=np.float64)
    mask = np.zeros(len(points), dtype=bool)
    finite = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(finite):
        mask[finite] = moocore.is_nondominated(points[finite], keep_weakly=False)
    return mask


def hypervolume(points: Losses, reference: NDArray[np.float64]) -> float:
    """Volume between the points and a reference point that is worse than them.

    Args:
        points: ``(n, m)`` losses; non-finite rows and rows beyond the reference add nothing.
        reference: ``(m,)`` loss vector.
    """
    points = np.asarray(points, dtype=np.float64).reshape(-1, len(reference))
    inside = points[(np.isfinite(points) & (points < reference)).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=reference)) if len(inside) else 0.0


def reference_point(points: Losses, margin: float = 0.1) -> NDArray[np.float64]:
    """The worst finite loss of each objective, moved outwards by a share of its range.

    An objective without range is moved by the margin itself, so that volume is never zero.
    """
    points = np.asarray(points, dtype=np.float64)
    finite = points[np.isfinite(points).all(axis=1)]
    worst, best = finite.max(axis=0), finite.min(axis=0)
    span = np.where(worst > best, worst - best, 1.0)
    return np.asarray(worst + margin * span, dtype=np.float64)
