"""When a run of CMA-ES is over, and how the next one begins: IPOP and BIPOP."""

from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.cma_es.options import Restarts

_SAME_MODEL = 1e-5
"""Spread, as a share of every gene's range, below which all candidates are one model."""

_FLAT_GENERATIONS = 3
"""Generations whose better three quarters score alike before the search moves elsewhere.

pycma gives up after one; accuracies over few items tie often.
"""

FLAT = (
    f"all candidates of {_FLAT_GENERATIONS} generations scored alike, the worst few apart: the "
    "scores do not tell these models apart, so there is nothing to follow; more items, or "
    "wider ranges, would show differences"
)
CONVERGED = "converged: the candidates of a generation are one model, all but rounding"
STAGNATED = "scores have stopped getting better"


class Convergence:
    """Watches the generations of one run, and says when it has nothing more to find.

    Args:
        dimension: Of the search.
        population: Candidates a generation.
    """

    def __init__(self, dimension: int, population: int) -> None:
        self._flat = 0
        self._history: list[tuple[float, float]] = []
        self._shortest = 120 + int(30 * dimension / population)

    def reason(
        self, units: NDArray[np.float64], ranks: Sequence[float], losses: Sequence[float]
    ) -> str | None:
        """Why the run is over after this generation, or None while it goes on.

        Args:
            units: ``(population, genes)`` in the unit cube.
            ranks: One a candidate, equals sharing theirs.
            losses: Of the feasible ones.
        """
        if losses:
            self._history.append((min(losses), median(losses)))
        ordered = sorted(ranks)
        is_flat = ordered[0] == ordered[int(0.75 * len(ordered))]
        self._flat = self._flat + 1 if is_flat else 0
        if units.std(axis=0).max() < _SAME_MODEL:
            return CONVERGED
        if self._flat >= _FLAT_GENERATIONS:
            return FLAT
        return STAGNATED if self._is_stagnant() else None

    def _is_stagnant(self) -> bool:
        """Hansen 2009, BI-population CMA-ES, section 2.2: best and median of a generation.

        Neither is better in the last 30 % than in the first 30 % of the last fifth of all
        generations, or of the last 120 + 30 n / λ where those are more.
        """
        window = max(self._shortest, len(self._history) // 5)
        if len(self._history) < window:
            return False
        recent = self._history[-window:]
        part = max(1, int(0.3 * window))
        first, last = recent[:part], recent[-part:]
        return all(median(h[k] for h in last) >= median(h[k] for h in first) for k in (0, 1))


class RestartSchedule:
    """Population and first step of each run.

    IPOP (Auger and Hansen 2005): each run has twice the population of the one before.

    BIPOP (Hansen 2009): two kinds of runs, the next always being of the kind that has spent
    fewer candidates. Those of the one kind double the population. Those of the other have λ ·
    (λ_large / 2 λ)^(U²) candidates a generation, with U even in [0, 1], a first step between 1
    and 1/100 of the usual one, and end after half the candidates that the last large run took.
    The first run counts for neither.

    Args:
        kind: ``ipop`` or ``bipop``; ``none`` where only failed runs are begun again.
        population: Candidates a generation of the first run.
        sigma: First step of the first run.
        rng: BIPOP draws the sizes of small runs from it.
    """

    def __init__(
        self, kind: Restarts, population: int, sigma: float, rng: np.random.Generator
    ) -> None:
        self._kind = kind
        self._rng = rng
        self._usual = (population, sigma)
        self._largest = population
        self._spent = {"large": 0, "small": 0}
        self._run = "first"
        self._run_spent = 0
        self._last_large = 0
        self.population = population
        """Candidates a generation of the present run."""
        self.sigma = sigma
        """First step of the present run."""

    def spend(self, candidates: int) -> str | None:
        """Count candidates of the present run; says why it is over if it has had its share."""
        self._run_spent += candidates
        if self._run in self._spent:
            self._spent[self._run] += candidates
        if self._run == "small" and self._run_spent >= self._last_large / 2:
            return "a small run has had half the candidates of the last large one"
        return None

    def begin_next(self) -> None:
        """Set population and first step of the run after a converged one."""
        if self._run != "small":
            self._last_large = self._run_spent
        self._run_spent = 0
        large = self._kind != "bipop" or self._spent["large"] <= self._spent["small"]
        self._run = "large" if large else "small"
        usual, sigma = self._usual
        if large:
            self._largest *= 2
            self.population, self.sigma = self._largest, sigma
            return
        exponent, shrink = self._rng.random(2)
        share = (0.5 * self._largest / usual) ** (exponent**2)
        self.population = max(usual, int(usual * share))
        self.sigma = sigma * 10 ** (-2 * shrink)
