"""NSGA-II (Deb et al. 2002) for one or several objectives and genes of mixed type."""

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from typing_extensions import override

from evomerge.optimizers.genetic.options import Nsga2Options
from evomerge.optimizers.genetic.survivors import Indices, Members, SurvivalOfTheBest
from evomerge.optimizers.search_problem import SearchProblem


class Nsga2(SurvivalOfTheBest):
    """Non-dominated sorting genetic algorithm with elitism over parents and children.

    Survival is pymoo's: by front, in the last front by crowding distance, and infeasible ones
    behind all fronts by their violation. ``Variation`` and ``SurvivalOfTheBest`` say what
    differs from the textbook.

    Args:
        problem: What is searched; its initial genomes are proposed in the first generation,
            which a Latin hypercube fills up.
        options: Population size, crossover and mutation.
    """

    _stream = "nsga2"

    def __init__(self, problem: SearchProblem, options: Nsga2Options) -> None:
        super().__init__(problem, options)
        self._problem = Problem(
            n_var=len(problem.genes), n_obj=problem.objectives, n_ieq_constr=1
        )
        self._survival = RankAndCrowding()
        self._begin()

    @override
    def _survivors(self, members: Members) -> tuple[Indices, NDArray[np.float64]]:
        everyone = Population.new(F=members.losses, G=members.violations[:, None])
        indices = np.array(
            self._survival.do(
                self._problem,
                everyone,
                n_survive=self._size,
                random_state=self._rng,
                return_indices=True,
            )
        )
        # Infeasible ones have neither rank nor crowding; their violation says all.
        rank, crowding = everyone[indices].get("rank", "crowding")
        criteria = [members.violations[indices], rank.astype(float), -crowding.astype(float)]
        return indices, np.column_stack(criteria)
