"""NSGA-III (Deb and Jain 2014) for many objectives and genes of mixed type."""

import warnings

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from typing_extensions import override

from evomerge.optimizers.genetic.options import Nsga3Options
from evomerge.optimizers.genetic.reference_directions import at_most, directions_of, rescaled
from evomerge.optimizers.genetic.survivors import (
    Indices,
    Members,
    SurvivalOfTheBest,
    stands_better,
)
from evomerge.optimizers.search_problem import SearchProblem


class Nsga3(SurvivalOfTheBest):
    """Non-dominated sorting, and even use of reference directions in the last front.

    Survival is pymoo's. Differences from the paper, beside what ``Variation`` and
    ``SurvivalOfTheBest`` say:

    * Tournaments are those of U-NSGA-III (Seada and Deb 2016): of two rivals near the same
      direction the better front wins, then the one closer to the direction; rivals of
      different directions do not compete. So it works with one and two objectives, too, where
      drawing parents evenly gives no push.
    * Losses are rescaled to the range of the population before survival, since pymoo compares
      with fixed numbers (1e-3, 1e-6) that suit no unit in particular. The ideal point is the
      best of all feasible losses so far, as in the paper; extreme points are found anew each
      time, while pymoo also keeps old ones.
    * Directions number at most as many as the population, in the largest even design that
      fits; with four objectives and more it may have an inner layer.

    Args:
        problem: What is searched; its initial genomes are proposed in the first generation,
            which a Latin hypercube fills up.
        options: Population size, directions, crossover and mutation.
    """

    _stream = "nsga3"

    def __init__(self, problem: SearchProblem, options: Nsga3Options) -> None:
        super().__init__(problem, options)
        if options.partitions is None:
            self._directions = at_most(problem.objectives, options.population)
        else:
            self._directions = directions_of(problem.objectives, options.partitions)
        self._size = max(options.population, len(self._directions))
        self._problem = Problem(
            n_var=len(problem.genes), n_obj=problem.objectives, n_ieq_constr=1
        )
        self._ideal = np.full(problem.objectives, np.inf)
        self._niche = np.empty(0)
        self._begin()

    @override
    def _survivors(self, members: Members) -> tuple[Indices, NDArray[np.float64]]:
        everyone = Population.new(F=self._in_range(members), G=members.violations[:, None])
        # pymoo switches all warnings off for good when it divides by zero.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            indices = np.array(
                ReferenceDirectionSurvival(self._directions).do(
                    self._problem,
                    everyone,
                    n_survive=self._size,
                    random_state=self._rng,
                    return_indices=True,
                )
            )
        rank, niche, distance = everyone[indices].get("rank", "niche", "dist_to_niche")
        # Infeasible ones have no niche; their violation says all.
        self._niche = niche.astype(float)
        criteria = [members.violations[indices], rank.astype(float), distance.astype(float)]
        return indices, np.column_stack(criteria)

    def _in_range(self, members: Members) -> NDArray[np.float64]:
        """Losses of feasible members from 0, the ideal, to 1, the worst of them."""
        feasible = members.violations == 0
        if not feasible.any():
            return np.zeros_like(members.losses)
        losses = members.losses[feasible]
        self._ideal = np.minimum(self._ideal, losses.min(axis=0))
        shares = np.zeros_like(members.losses)
        shares[feasible] = rescaled(losses, self._ideal, losses.max(axis=0))
        return shares

    @override
    def _second_wins(self, rivals: Indices) -> NDArray[np.bool_]:
        first, second = self._standing[rivals[:, 0]], self._standing[rivals[:, 1]]
        infeasible = (first[:, 0] > 0) | (second[:, 0] > 0)
        same_niche = self._niche[rivals[:, 0]] == self._niche[rivals[:, 1]]
        return np.asarray(stands_better(second, first) & (infeasible | same_niche))
