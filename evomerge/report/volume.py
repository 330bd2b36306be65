"""Hypervolume of growing and resampled fronts, exact where that is affordable."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.core.pareto import Losses, front_mask, hypervolume
from evomerge.core.streams import stream

_ALWAYS_EXACT = 4
"""Objectives up to which any set of a study's size costs under a millisecond."""

_EXACT_POINTS = {5: 150, 6: 50, 7: 25, 8: 20}
"""Points up to which one set does so with more objectives (measured with moocore 0.3)."""

_CHECKPOINTS = 200


@dataclass(frozen=True)
class Volume:
    """Measures loss vectors against one fixed reference point.

    Exact hypervolume takes exponential time in the number of objectives. Where it would be
    too slow, the volume is the share of fixed sample points that are dominated; all sets of
    a study are then measured with the same samples, so their differences stay comparable.
    """

    reference: NDArray[np.float64]
    """``(m,)`` losses worse than every source and baseline."""

    samples: Losses | None
    """``(s, m)`` points of the box, or None where volumes are exact."""

    box: float = 0.0
    """Volume from which the samples are drawn."""

    @property
    def exact(self) -> bool:
        """Whether volumes carry no sampling error."""
        return self.samples is None

    def of(self, points: Losses) -> float:
        """Volume dominated by ``(n, m)`` losses."""
        if self.samples is None:
            return hypervolume(points, self.reference)
        return float(self._covers(points).any(axis=0).mean() * self.box)

    def history(self, points: Losses) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Volume after the first 1, 2, … points, at no more than a few hundred counts.

        Args:
            points: ``(n, m)`` losses in the order they were found.

        Returns:
            ``(k,)`` counts of points, the last one n, and ``(k,)`` volumes, never falling.
        """
        count = len(points)
        steps = np.unique(np.linspace(1, count, min(count, _CHECKPOINTS)).round().astype(int))
        if self.samples is None:
            return steps, self._exact_history(points, steps)
        covers = self._covers(points)
        first = np.where(covers.any(axis=0), covers.argmax(axis=0), count)
        covered = np.bincount(first, minlength=count + 1)[:count].cumsum()
        return steps, covered[steps - 1] / len(self.samples) * self.box

    def _exact_history(self, points: Losses, steps: NDArray[np.int64]) -> NDArray[np.float64]:
        kept = points[:0]
        volumes = []
        done = 0
        for step in steps:
            kept = np.concatenate([kept, points[done:step]])
            kept = kept[front_mask(kept)]
            volumes.append(self.of(kept))
            done = step
        return np.asarray(volumes)

    def _covers(self, points: Losses) -> NDArray[np.bool_]:
        samples = np.empty((0, 0)) if self.samples is None else self.samples
        covers = np.ones((len(points), len(samples)), dtype=bool)
        for objective in range(samples.shape[1]):
            covers &= points[:, objective, None] <= samples[None, :, objective]
        return covers


def measure(
    reference: NDArray[np.float64], points: Losses, seed: int, samples: int = 4096
) -> Volume:
    """A measure for sets of these points: exact, or by samples where that is too slow.

    Args:
        reference: ``(m,)`` losses worse than every source and baseline.
        points: ``(n, m)`` every finite loss vector that will be measured.
        seed: The study's; the samples come from a stream of their own.
        samples: How many points to sample where volumes are not exact.
    """
    objectives = len(reference)
    if objectives <= _ALWAYS_EXACT or len(points) <= _EXACT_POINTS.get(objectives, 0):
        return Volume(reference, None)
    ideal = np.minimum(points.min(axis=0), reference)
    units = stream(seed, "report", "volume").random((samples, objectives))
    box = float(np.prod(reference - ideal))
    return Volume(reference, ideal + units * (reference - ideal), box)
