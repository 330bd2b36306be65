"""What CMA-ES needs of an evolution strategy between two restarts, and pycma's."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cma
import numpy as np
from cma.restricted_gaussian_sampler import GaussVDSampler, GaussVkDSampler
from cma.sigma_adaptation import CMAAdaptSigmaCSA
from numpy.typing import NDArray

from evomerge.optimizers.cma_es.options import Covariance

Points = NDArray[np.float64]
"""``(points, dimension)`` array, unbounded."""
_OUTSIDE = 0.5
"""Standard deviations by which a mean may be outside the cube."""


@dataclass(frozen=True, eq=False)
class Start:
    """Where and how an evolution strategy begins."""

    mean: NDArray[np.float64]
    """``(dimension,)``"""

    sigma: float
    """First standard deviation along every axis."""

    population: int
    """Candidates a generation."""


def near_cube(
    mean: NDArray[np.float64], deviations: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A mean no further outside the unit cube than its standard deviation along each axis.

    Samples are clipped into the cube, so that all beyond a bound are the same. A mean far
    outside would see nothing else; so near, three in ten still tell what is better inside.
    """
    return np.clip(mean, -_OUTSIDE * deviations, 1 + _OUTSIDE * deviations)


class Strategy(Protocol):
    """One run of an evolution strategy between two restarts, its mean in or near the cube."""

    step: float
    """What the standard deviations along all axes are multiples of."""

    def ask(self, count: int) -> Points:
        """New samples, ``(count, dimension)``."""

    def tell(self, samples: Points, ranks: Sequence[float], stale: Sequence[int]) -> None:
        """Learn a whole generation.

        Args:
            samples: As asked for, ``(population, dimension)``.
            ranks: One a sample, the best lowest.
            stale: Which samples were asked for before the last ``tell``. They are taken as
                solutions from elsewhere: pulled towards the mean where they lie further out
                than its own samples do, so that one of them cannot blow the steps up
                (Hansen 2011, Injecting external solutions into CMA-ES).
        """

    def trouble(self) -> str | None:
        """Why its numbers do not allow to go on, or None where they do."""


class Pycma:
    """CMA-ES of pycma, with a covariance that is full, diagonal or of low rank.

    Reads no file, prints nothing, draws from the given generator only.

    Args:
        start: Where it begins.
        covariance: ``full``, ``diagonal``, ``vd`` (Akimoto, Auger and Hansen 2014) or ``vkd``
            (Akimoto and Hansen 2016).
        rng: What it draws from.
    """

    def __init__(self, start: Start, covariance: Covariance, rng: np.random.Generator) -> None:
        def normal(*shape: int) -> Points:
            return rng.standard_normal(shape)

        options = {
            "popsize": start.population,
            "CMA_diagonal": covariance == "diagonal",
            # Selective mirrors (Auger, Brockhoff and Hansen 2011), 1 for "as many as pays", and
            # variances that adapt faster than correlations (dd-CMA, Akimoto and Hansen 2020):
            # both save candidates at the small populations and budgets of a merge search.
            "CMA_mirrors": covariance != "vkd",
            "CMA_diagonal_decoding": int(covariance == "full"),
            # Judged by evomerge: pycma is told ranks, and bounds are not its business.
            "tolx": 0.0,
            "tolfun": 0.0,
            "tolfunhist": 0.0,
            "tolflatfitness": np.inf,
            "tolstagnation": 0,
            "maxiter": np.inf,
            "randn": normal,
            "seed": np.nan,  # "do nothing": there is no global generator to seed
            # Above 300 genes pycma's other rule draws from numpy's global generator.
            "AdaptSigma": CMAAdaptSigmaCSA,
            "signals_filename": "",  # None would mean pycma's default file
            "verbose": -10,
            "verb_log": 0,
        }
        samplers = {"vd": GaussVDSampler, "vkd": GaussVkDSampler}
        if covariance in samplers:
            options = samplers[covariance].extend_cma_options(options)
            options["CMA_sampler_options"] = {"randn": normal}
        self._strategy: Any = cma.CMAEvolutionStrategy(start.mean, start.sigma, options)

    def ask(self, count: int) -> Points:
        """Sample; see ``Strategy``."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few samples, all of them mirrors
            return np.array(self._strategy.ask(count), dtype=np.float64)

    def tell(self, samples: Points, ranks: Sequence[float], stale: Sequence[int]) -> None:
        """Learn; see ``Strategy``."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # trouble() looks at what came out
            self._strategy.tell(list(samples.copy()), list(ranks), check_points=list(stale))
            self._strategy.mean = near_cube(self._strategy.mean, self._strategy.stds)

    @property
    def step(self) -> float:
        """Pycma's sigma; see ``Strategy``."""
        return float(self._strategy.sigma)

    @step.setter
    def step(self, step: float) -> None:
        self._strategy.sigma = step

    def trouble(self) -> str | None:
        """What pycma's own criteria say; see ``Strategy``."""
        if not (np.isfinite(self._strategy.sigma) and np.isfinite(self._strategy.mean).all()):
            return "numbers out of range"
        reasons = self._strategy.stop()
        return ", ".join(sorted(reasons)) or None
