"""SMS-EMOA (Beume, Naujoks and Emmerich 2007): survival by contribution to hypervolume."""

import moocore
import numpy as np
from numpy.typing import NDArray
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from typing_extensions import override

from evomerge.optimizers.genetic.options import SmsEmoaOptions
from evomerge.optimizers.genetic.reference_directions import rescaled, steps_within
from evomerge.optimizers.genetic.survivors import Indices, Members, SurvivalOfTheBest
from evomerge.optimizers.search_problem import SearchProblem


class SmsEmoa(SurvivalOfTheBest):
    """One child at a time; of the last front that adds least hypervolume dies.

    Fronts are pymoo's, contributions moocore's. Differences from the paper, beside what
    ``Variation`` and ``SurvivalOfTheBest`` say:

    * Losses are rescaled to the range of the feasible population. The reference point lies
      beyond it by the distance between neighbours of an evenly spread front, so that the ends
      of a front add about as much as its middle (Ishibuchi et al. 2018).
    * Parents win tournaments by front, where the paper draws them evenly; budgets here are
      hundreds of candidates, not tens of thousands.
    * Of candidates with equal losses the older dies, so that the population drifts across
      plateaus. With one objective it is a plain (mu + 1) evolution strategy.

    Only one child is out at a time unless some are proposed ``ahead`` or it is
    ``asynchronous``; with several workers set one of them.

    Args:
        problem: What is searched; its initial genomes are proposed in the first generation,
            which a Latin hypercube fills up.
        options: Population size, crossover and mutation.
    """

    _stream = "sms_emoa"
    _one_child_at_a_time = True

    def __init__(self, problem: SearchProblem, options: SmsEmoaOptions) -> None:
        super().__init__(problem, options)
        self._beyond = 1 + 1 / steps_within(problem.objectives, options.population)
        self._begin()

    @override
    def _survivors(self, members: Members) -> tuple[Indices, NDArray[np.float64]]:
        feasible = np.flatnonzero(members.violations == 0)
        infeasible = np.flatnonzero(members.violations > 0)
        fronts = NonDominatedSorting().do(members.losses[feasible]) if len(feasible) else []
        groups = [feasible[np.sort(front)] for front in fronts]
        rank = np.zeros(len(members))
        for number, group in enumerate(groups):
            rank[group] = number
        shares = np.zeros_like(members.losses)
        if len(feasible):
            losses = members.losses[feasible]
            shares[feasible] = rescaled(losses, losses.min(axis=0), losses.max(axis=0))
        chosen: list[int] = []
        for group in groups:
            room = self._size - len(chosen)
            chosen += self._best_of_front(group, shares, room) if room else []
        by_violation = np.lexsort((-infeasible, members.violations[infeasible]))
        chosen += infeasible[by_violation].tolist()[: self._size - len(chosen)]
        indices = np.array(chosen)
        return indices, np.column_stack([members.violations, rank])[indices]

    def _best_of_front(
        self, front: Indices, shares: NDArray[np.float64], room: int
    ) -> list[int]:
        """As many as there is room for, the one of least contribution removed in turn."""
        kept: list[int] = front.tolist()
        while len(kept) > room:
            least = 0  # with one objective a front has one loss: all but one add nothing
            if shares.shape[1] > 1:
                reference = np.full(shares.shape[1], self._beyond)
                least = int(moocore.hv_contributions(shares[kept], ref=reference).argmin())
            del kept[least]
        return kept
