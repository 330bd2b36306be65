"""Split-slerp: M2N2's crossover of two flat weight vectors.

The vectors are cut at one coordinate; the second parent gets the weight `w` before the cut and
`1 - w` from the cut on, as a spherical interpolation whose angle is that between the *whole*
vectors (Abrantes, Lange and Tang, "Competition and Attraction Improve Model Fusion", GECCO
2025, arXiv 2508.16204, and its published code). In float64 throughout, so that it can serve as
the reference of implementations that work on coefficients of the seeds instead of on weights.
"""

import math

import numpy as np
from numpy.typing import NDArray

SMALLEST_SINE = 1e-6
"""At or below this sine of the angle, linear interpolation replaces the spherical one."""


def split_slerp_coefficients(cosine: float, weight: float) -> NDArray[np.float64]:
    """Return what both parents are multiplied by, before and after the cut.

    Args:
        cosine: Cosine of the angle between the whole parents; NaN where one of them is zero.
        weight: The second parent's weight `w` before the cut, in [0, 1].

    Returns:
        Shape (2, 2): row 0 before the cut, row 1 from it on; column 0 the first parent's
        factor, column 1 the second's.
    """
    angle = math.acos(min(1.0, max(-1.0, cosine))) if math.isfinite(cosine) else 0.0
    sine = math.sin(angle)
    second = np.array([weight, 1.0 - weight])
    first = 1.0 - second
    if sine <= SMALLEST_SINE:
        return np.stack([first, second], axis=1)
    return np.stack([np.sin(first * angle), np.sin(second * angle)], axis=1) / sine


def split_slerp(
    first: NDArray[np.floating], second: NDArray[np.floating], cut: int, weight: float
) -> NDArray[np.float64]:
    """Cross two flat weight vectors.

    Args:
        first: The first parent, shape (d,).
        second: The second parent, shape (d,).
        cut: The first coordinate that the second rule holds for, in 0..d. With `d` all
            coordinates follow `weight`, which is plain slerp.
        weight: The second parent's weight before the cut, in [0, 1].

    Returns:
        The child, shape (d,), float64.

    Raises:
        ValueError: The vectors differ in shape or are not flat, or the cut lies outside.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"the parents must be flat and of one length, got {first.shape} and {second.shape}"
        )
    if not 0 <= cut <= first.size:
        raise ValueError(f"the cut must lie in 0..{first.size}, got {cut}")
    x = first.astype(np.float64)
    y = second.astype(np.float64)
    norms = math.sqrt(float(x @ x) * float(y @ y))
    cosine = float(x @ y) / norms if norms > 0 else math.nan
    before, after = split_slerp_coefficients(cosine, weight)
    return np.concatenate(
        [
            before[0] * x[:cut] + before[1] * y[:cut],
            after[0] * x[cut:] + after[1] * y[cut:],
        ]
    )
