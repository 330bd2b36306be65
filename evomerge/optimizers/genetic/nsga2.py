"""NSGA-II (Deb et al. 2002) for one or several objectives and genes of mixed type."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from typing_extensions import override

from evomerge.core.outcomes import Genome
from evomerge.optimizers.genetic.options import Nsga2Options
from evomerge.optimizers.genetic.survivors import Indices, Members, SurvivalOfTheBest
from evomerge.spaces.genes import Gene


class Nsga2(SurvivalOfTheBest):
    """Non-dominated sorting genetic algorithm with elitism over parents and children.

    Survival is pymoo's: by front, in the last front by crowding distance, and infeasible ones
    behind all fronts by their violation. ``Variation`` and ``SurvivalOfTheBest`` say what
    differs from the textbook.

    Args:
        genes: The genes of the search space.
        objectives: Number of losses; beyond five nearly every candidate is non-dominated.
        seed: Names the random stream.
        options: Population size, crossover and mutation.
        initial: Genomes proposed in the first generation; a Latin hypercube fills it up.
    """

    _stream = "nsga2"

    def __init__(
        self,
        genes: Sequence[Gene],
        objectives: int,
        seed: int,
        options: Nsga2Options,
        initial: Sequence[Genome] = (),
    ) -> None:
        super().__init__(genes, objectives, seed, options, initial)
        self._problem = Problem(n_var=len(genes), n_obj=objectives, n_ieq_constr=1)
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
