"""A genetic algorithm (mu + lambda) for one objective and genes of mixed type."""

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.optimizers.genetic.options import GaOptions
from evomerge.optimizers.genetic.survivors import Indices, Members, SurvivalOfTheBest
from evomerge.optimizers.search_problem import SearchProblem


class Ga(SurvivalOfTheBest):
    """Binary tournaments, crossover, mutation, and the best of parents and children survive.

    Differs from the textbook, beside what ``Variation`` and ``SurvivalOfTheBest`` say: of
    candidates with equal scores the younger survive. Accuracies over few items tie often, and
    so the population drifts across a plateau instead of staying where it came upon it.

    Args:
        problem: What is searched, with one loss; its initial genomes are proposed in the
            first generation, which a Latin hypercube fills up.
        options: Population size, crossover and mutation.
    """

    _stream = "ga"

    def __init__(self, problem: SearchProblem, options: GaOptions) -> None:
        super().__init__(problem, options)
        self._begin()

    @override
    def _survivors(self, members: Members) -> tuple[Indices, NDArray[np.float64]]:
        feasible = members.violations == 0
        losses = np.where(feasible, members.losses[:, 0], 0.0)
        age = -np.arange(len(members))
        indices = np.lexsort((age, losses, members.violations))[: self._size]
        return indices, np.column_stack([members.violations, losses])[indices]
