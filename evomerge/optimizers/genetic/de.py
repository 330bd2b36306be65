"""Differential evolution (Storn and Price 1997) for one objective and genes of mixed type."""

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.outcomes import Scored
from evomerge.optimizers.generational import Proposal
from evomerge.optimizers.genetic.options import DeOptions
from evomerge.optimizers.genetic.places import Places, place_of
from evomerge.optimizers.genetic.variation import at_least
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units

_DONORS = 3


class De(Places):
    """Adds differences between parents to a parent; a trial replaces its own parent only.

    rand/1/bin, or current-to-best/1/bin, on the unit cube. Differences from the textbook,
    beside what ``Places`` says:

    * The factor on differences is drawn anew for every trial (dither), from a range.
    * A coordinate beyond the cube is set halfway between the parent's and the bound.
    * A choice gene has no order: where two parents differ in their option, the trial takes
      that of the first with the chance of the factor; now and then, on average in one gene a
      trial if all are choices, it takes any option, since differences never bring back one
      that has died out.
    * An int gene that moves, moves by one at least.
    * A trial whose genome is known is mutated (polynomial mutation), so that a population that
      has come together over int and choice genes goes on searching around itself.
    * With fewer scored parents than differences need, the same parent serves twice.

    Args:
        problem: What is searched, with one loss; its initial genomes are proposed in the
            first generation, which a Latin hypercube fills up.
        options: Population size, strategy, and factors on differences.
    """

    _stream = "de"

    def __init__(self, problem: SearchProblem, options: DeOptions) -> None:
        super().__init__(problem, options)
        self._options = options
        self._make_places(options.population)
        self._begin()

    @override
    def _trials(self, places: NDArray[np.int64], *, anew: bool) -> Units:
        own = self._units[places]
        count, genes = own.shape
        first, second, third = self._units[self._donors(places)].transpose(1, 0, 2)
        scale = self._options.scale_low, self._options.scale_high
        factor = self._rng.uniform(*scale, (count, 1))
        if self._options.strategy == "rand":
            mutant = self._moved(first, second, third, factor)
        else:
            towards = self._moved(own, self._units[self._some_best(count)], own, factor)
            mutant = self._moved(towards, first, second, factor)
        mutant = np.where(mutant < 0, own / 2, np.where(mutant > 1, (own + 1) / 2, mutant))
        redrawn = self._rng.random((count, genes)) < 1 / genes
        drawn = self._rng.random((count, genes))
        mutant = np.where(self._variation.is_choice & redrawn, drawn, mutant)
        crossing = self._rng.random((count, genes)) < self._options.crossover_rate
        crossing[np.arange(count), self._rng.integers(genes, size=count)] = True
        trials = np.where(crossing, mutant, own)
        return self._variation.mutated(trials) if anew else trials

    def _moved(
        self, start: Units, towards: Units, away: Units, factor: NDArray[np.float64]
    ) -> Units:
        """Move along the difference of two parents; choices take the first one's option."""
        end = start + factor * (towards - away)
        end = np.where(towards != away, at_least(self._variation.step, start, end), end)
        taking = (towards != away) & (self._rng.random(start.shape) < factor)
        return np.where(self._variation.is_choice, np.where(taking, towards, start), end)

    def _donors(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """``(places, 3)`` different places that are taken, none of them its own."""
        taken = np.flatnonzero(self._taken)
        rows = []
        for place in places:
            others = taken[taken != place] if len(taken) > 1 else taken
            enough = len(others) >= _DONORS
            rows.append(self._rng.choice(others, _DONORS, replace=not enough))
        return np.array(rows)

    def _some_best(self, count: int) -> NDArray[np.int64]:
        """Places of parents that none is better than, drawn evenly among equals."""
        losses = self._losses_that_count()
        best = np.lexsort((losses, self._violations, ~self._taken))[0]
        as_good = (self._violations == self._violations[best]) & (losses == losses[best])
        return self._rng.choice(np.flatnonzero(self._taken & as_good), count)

    def _losses_that_count(self) -> NDArray[np.float64]:
        """Losses of feasible parents; those of others decide nothing."""
        return np.where(self._violations == 0, self._losses[:, 0], 0.0)

    @override
    def _compete(self, proposal: Proposal, outcome: Scored) -> None:
        place = place_of(proposal)
        child = (outcome.violation, 0.0 if outcome.violation else outcome.losses[0])
        parent = (self._violations[place], self._losses_that_count()[place])
        if not self._taken[place] or child <= parent:
            self._settle(place, proposal.units, outcome)
