"""Which candidates are re-scored on validation items, and which of those on test items."""

from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.core.pareto import front_mask, hypervolume, reference_point


def spread(points: Mapping[int, tuple[float, ...]], limit: int) -> list[int]:
    """At most ``limit`` points of a front, chosen greedily by hypervolume.

    Args:
        points: Losses by trial number, none dominated.
        limit: How many to choose.

    Returns:
        Trial numbers in ascending order.
    """
    if len(points) <= limit:
        return sorted(points)
    numbers = sorted(points)
    losses = np.array([points[number] for number in numbers])
    reference = reference_point(losses)
    chosen: list[int] = []
    while len(chosen) < limit:
        volumes = [
            -1.0 if k in chosen else hypervolume(losses[[*chosen, k]], reference)
            for k in range(len(numbers))
        ]
        chosen.append(int(np.argmax(volumes)))
    return sorted(numbers[k] for k in chosen)


def undominated(points: Mapping[int, Sequence[float]]) -> list[int]:
    """Trial numbers of the points that no other dominates, in ascending order."""
    if not points:
        return []
    numbers = sorted(points)
    mask = front_mask(np.array([points[number] for number in numbers]))
    return [number for number, kept in zip(numbers, mask, strict=True) if kept]
