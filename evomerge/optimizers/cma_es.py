"""CMA-ES (Hansen and Ostermeier 2001) with restarts, for one objective, by way of pycma."""

import logging
from collections.abc import Sequence
from typing import Any

import cma
import numpy as np
from cma.sigma_adaptation import CMAAdaptSigmaCSA
from typing_extensions import override

from evomerge.core.outcomes import Genome
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.options import CmaEsOptions
from evomerge.optimizers.ranking import best_of, ranks
from evomerge.optimizers.starting_points import Units, units_of_genomes
from evomerge.spaces.genes import Gene

_logger = logging.getLogger(__name__)

_SAME_MODEL = 1e-5
"""Spread, as a share of every gene's range, below which all candidates are one model."""

_FLAT_GENERATIONS = 3
"""Generations whose better three quarters score alike before the search moves elsewhere.

pycma gives up after one; accuracies over few items tie often.
"""


class CmaEs(Generational):
    """Samples around a mean and adapts mean, step and covariance to the ranking of samples.

    It works on the unit cube: bounds by pycma's smooth fold, int and choice genes by equal
    shares of their axis. Since that gives options an order which they do not have, NSGA-II
    suits spaces of many choice genes better.

    The first mean is the best-scored of the ``initial`` genomes, which form a generation of
    their own, or the middle of the cube. When pycma has converged or stagnates, or scores stay
    equal, the search starts again from a random point with twice the population (IPOP, Auger
    and Hansen 2005), so that any budget can be spent. After a generation in which everything
    failed it starts again with the same population.

    Args:
        genes: The genes of the search space.
        objectives: Must be 1.
        seed: Names the random stream.
        options: Population size, first step and where correlations are given up.
        initial: Genomes scored first.
    """

    def __init__(
        self,
        genes: Sequence[Gene],
        objectives: int,
        seed: int,
        options: CmaEsOptions,
        initial: Sequence[Genome] = (),
    ) -> None:
        super().__init__(genes, objectives, options)
        self._options = options
        self._rng = stream(seed, "optimizer", "cma_es")
        # pycma is not made for one dimension; a coordinate without effect is added.
        self._dimension = max(2, len(self._genes))
        self._size = options.population or int(4 + 3 * np.log(self._dimension))
        self._strategy = self._strategy_at(np.full(self._dimension, 0.5))
        self._initial: Units | None = units_of_genomes(genes, initial) if initial else None
        self.restarts: list[str] = []
        """Why the search started again, once for every restart, in pycma's words."""
        self._begin()

    @override
    def _propose(self) -> list[Proposal]:
        if self._initial is not None:
            return [Proposal(row) for row in self._initial]
        samples = np.array(self._strategy.ask(self._size))
        return [Proposal(row[: len(self._genes)], row) for row in samples]

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        outcomes = [outcome for _, outcome in told]
        best = best_of(outcomes)
        if self._initial is not None:
            self._initial = None
            if best is not None:
                self._move_to(told[best][0].units)
        elif best is None:
            self._restart("every candidate of a generation failed", self._size)
        else:
            self._strategy.tell([p.note for p, _ in told], ranks(outcomes))
            reasons = self._strategy.stop()
            if reasons:
                self._restart(", ".join(sorted(reasons)), 2 * self._size)

    def _move_to(self, mean: Units) -> None:
        padding = np.full(self._dimension - len(mean), 0.5)
        self._strategy = self._strategy_at(np.concatenate([mean, padding]))

    def _restart(self, reason: str, size: int) -> None:
        _logger.info("CMA-ES starts again (%s), %d candidates a generation", reason, size)
        self.restarts.append(reason)
        self._size = size
        self._strategy = self._strategy_at(self._rng.random(self._dimension))

    def _strategy_at(self, mean: Units) -> Any:  # noqa: ANN401 - pycma has no types
        """A fresh strategy that reads no file, prints nothing, and draws from our stream."""
        return cma.CMAEvolutionStrategy(
            mean,
            self._options.sigma,
            {
                "bounds": [0.0, 1.0],
                "popsize": self._size,
                "CMA_diagonal": self._dimension > self._options.diagonal_above,
                "tolx": _SAME_MODEL,
                "tolflatfitness": _FLAT_GENERATIONS,
                # These two stop at the first flat generation, in units of the loss.
                "tolfun": 0.0,
                "tolfunhist": 0.0,
                "randn": lambda rows, columns: self._rng.standard_normal((rows, columns)),
                "seed": np.nan,  # "do nothing": there is no global generator to seed
                # Above 300 genes pycma's other rule draws from numpy's global generator.
                "AdaptSigma": CMAAdaptSigmaCSA,
                "signals_filename": "",  # None would mean pycma's default file
                "verbose": -10,
                "verb_log": 0,
            },
        )
