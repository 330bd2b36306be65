"""LRA-CMA-ES (Nomura, Akimoto and Ono 2023): it learns slower under noise; by way of cmaes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cmaes import CMA

from evomerge.core.errors import ConfigError
from evomerge.optimizers.cma_es.strategies import Points, Start, near_cube

_MOST_GENES = 200
"""Beyond, a generation takes a second and more: each sample multiplies full matrices."""


class LearningRateAdapting:
    """CMA-ES that keeps the signal-to-noise ratio of its own updates constant.

    Successive updates of mean and covariance that point in different directions lower the
    learning rates, those that agree raise them again, to 1 at most. It needs no further
    evaluation, but on scores without noise it takes about twice the candidates of CMA-ES.

    Args:
        start: Where it begins.
        rng: Its seed is drawn from here.

    Raises:
        ConfigError: There are more genes than it can do in reasonable time.
    """

    def __init__(self, start: Start, rng: np.random.Generator) -> None:
        if len(start.mean) > _MOST_GENES:
            raise ConfigError(
                f"optimizer.noise: lra takes at most {_MOST_GENES} genes, found "
                f"{len(start.mean)}; use 'noise: standard_errors', which takes any number."
            )
        self._cma = CMA(
            mean=np.array(start.mean, dtype=np.float64),
            sigma=start.sigma,
            population_size=start.population,
            seed=int(rng.integers(2**31)),
            lr_adapt=True,
        )
        self._trouble: str | None = None

    def ask(self, count: int) -> Points:
        """Sample; see ``Strategy``."""
        return np.array([self._cma.ask() for _ in range(count)])

    def tell(self, samples: Points, ranks: Sequence[float], stale: Sequence[int]) -> None:
        """Learn; see ``Strategy``."""
        points = self._pulled_in(samples, stale)
        try:
            with np.errstate(all="ignore"):  # trouble() looks at what came out
                self._cma.tell(
                    [(x, float(rank)) for x, rank in zip(points, ranks, strict=True)]
                )
        except np.linalg.LinAlgError as error:
            self._trouble = str(error)
        with np.errstate(all="ignore"):
            deviations = self.step * np.sqrt(np.diag(self._cma._C))
            self._cma._mean = near_cube(self._cma.mean, deviations)
        if not (np.isfinite(self._cma.mean).all() and np.isfinite(self.step)):
            self._trouble = "numbers out of range"

    @property
    def step(self) -> float:
        """Sigma of cmaes; see ``Strategy``."""
        # cmaes shows its mean only; the rest of its distribution is read here and below.
        return float(self._cma._sigma)

    @step.setter
    def step(self, step: float) -> None:
        self._cma._sigma = step

    def trouble(self) -> str | None:
        """What went wrong in the last update; see ``Strategy``."""
        return self._trouble

    def _pulled_in(self, samples: Points, stale: Sequence[int]) -> Points:
        """Stale samples at no more than the Mahalanobis length that Hansen 2011 allows."""
        if not stale:
            return samples
        points = samples.copy()
        rows = list(stale)
        axes: tuple[Any, Any] = self._cma._eigen_decomposition()
        basis, lengths = axes
        steps = points[rows] - self._cma.mean
        norms = np.linalg.norm((steps @ basis) / (lengths * self.step), axis=1)
        size = len(self._cma.mean)
        longest = np.sqrt(size) + 2 * size / (size + 2)
        shrink = np.minimum(1.0, longest / np.maximum(norms, np.finfo(float).tiny))
        points[rows] = self._cma.mean + steps * shrink[:, None]
        return points
