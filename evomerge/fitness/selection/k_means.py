"""k-means: points in clusters around their means (Lloyd 1982, seeded by k-means++)."""

import numpy as np

_ITERATIONS = 50


def k_means(
    points: np.ndarray, clusters: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster points by squared Euclidean distance.

    Args:
        points: ``(points, dims)``.
        clusters: At most; coinciding points give fewer.
        rng: Chooses the first centres (Arthur & Vassilvitskii 2007).

    Returns:
        Centres ``(found, dims)`` and the cluster of each point ``(points,)``.
    """
    centres = _first_centres(points, clusters, rng)
    nearest = _nearest(points, centres)
    for _ in range(_ITERATIONS):
        count = len(centres)
        sums = np.stack([np.bincount(nearest, column, count) for column in points.T], axis=1)
        sizes = np.bincount(nearest, minlength=count)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        again = _nearest(points, centres)
        if np.array_equal(again, nearest):
            break
        nearest = again
    return centres, nearest


def squared_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """``(points, centres)``, never negative."""
    cross = points @ centres.T
    ends = (points**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    return np.asarray(np.maximum(ends - 2 * cross, 0))


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.asarray(squared_distances(points, centres).argmin(axis=1))


def _first_centres(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Each next centre is drawn with probability as its squared distance to the others."""
    chosen = [int(rng.integers(len(points)))]
    distance = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < clusters and distance.max() > 0:
        chosen.append(int(rng.choice(len(points), p=distance / distance.sum())))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return points[chosen].copy()
