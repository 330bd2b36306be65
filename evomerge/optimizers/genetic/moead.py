"""MOEA/D (Zhang and Li 2007): several objectives by decomposition, genes of mixed type."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from typing_extensions import override

from evomerge.core.outcomes import Scored
from evomerge.optimizers.generational import Proposal, Told
from evomerge.optimizers.genetic.options import MoeadOptions
from evomerge.optimizers.genetic.places import Places, place_of
from evomerge.optimizers.genetic.reference_directions import Directions, at_most, rescaled
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units

_LEAST_WEIGHT = 1e-3
"""Stands for a weight of 0, at which the best value of an objective would be all or nothing."""

_NEIGHBOURS = 0.4
"""Share of the subproblems that are neighbours by default.

Twice that of the paper, whose populations are ten times as large."""


class Moead(Places):
    """One subproblem for each of many directions; neighbours breed and share children.

    Differences from the paper, beside what ``Variation`` and ``Places`` say:

    * The children of a round are made from the same parents (the parallel variant), so that
      workers need not wait for each other. Asynchronously it is the paper's: one by one.
    * Losses are rescaled to the range between the best of each objective so far and the worst
      of the current parents, since objectives come in different units.
    * Tchebycheff divides by the weights instead of multiplying, so that solutions lie along
      the directions, evenly (Qi et al. 2014).
    * Fresh points are dealt out to the subproblems that they suit, not at random.
    * With one objective all subproblems are the same; neighbours then sit in a ring, which is
      a cellular genetic algorithm.

    Args:
        problem: What is searched; its initial genomes are proposed in the first generation,
            which a Latin hypercube fills up.
        options: Subproblems, neighbours, crossover and mutation.
    """

    _stream = "moead"

    def __init__(self, problem: SearchProblem, options: MoeadOptions) -> None:
        super().__init__(problem, options)
        self._options = options
        if problem.objectives == 1:
            self._directions = np.ones((options.population, 1))
        else:
            self._directions = at_most(problem.objectives, options.population)
        self._make_places(len(self._directions))
        default = max(3, round(self._count * _NEIGHBOURS))
        nearest = np.argsort(_distances(self._directions), axis=1, kind="stable")
        self._neighbours = nearest[:, : options.neighbours or default]
        self._ideal = np.full(problem.objectives, np.inf)
        self._nadir = np.full(problem.objectives, -np.inf)
        self._begin()

    @override
    def _trials(self, places: NDArray[np.int64], *, anew: bool) -> Units:
        pairs = []
        for place in places:
            pool = self._neighbours[place]
            if self._rng.random() >= self._options.neighbour_mating:
                pool = np.arange(self._count)
            pool = pool[self._taken[pool]]
            pairs.append(self._rng.choice(pool, 2, replace=len(pool) < 2))
        parents = self._units[np.array(pairs)].transpose(1, 0, 2)
        children = self._variation.children(parents).reshape(parents.shape)
        which = self._rng.integers(2, size=len(places))
        return np.asarray(children[which, np.arange(len(places))])

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        scored = [(p, o) for p, o in told if isinstance(o, Scored)]
        competing: list[tuple[Proposal, Scored]] = []
        filled = False
        for proposal, outcome in scored:
            place = place_of(proposal)
            if self._taken[place]:
                competing.append((proposal, outcome))
            else:
                self._settle(place, proposal.units, outcome)
                filled = True
        self._find_range([o.losses for _, o in scored if o.violation == 0])
        if filled:
            self._deal_out()
        super()._learn(competing)

    def _find_range(self, losses: list[tuple[float, ...]]) -> None:
        """Follow the best of all feasible losses, and the worst of the feasible parents."""
        if losses:
            self._ideal = np.minimum(self._ideal, np.min(losses, axis=0))
        feasible = self._taken & (self._violations == 0)
        if feasible.any():
            self._nadir = self._losses[feasible].max(axis=0)

    def _deal_out(self) -> None:
        """Exchange places so that the parents suit their subproblems best, all together.

        The cost of a place is the parent's rank among all for that subproblem.
        """
        taken = np.flatnonzero(self._taken)
        scores = self._scores(self._losses[taken], self._directions[taken])
        scores[self._violations[taken] > 0] = 0.0
        ranks = np.empty(scores.shape)
        for column in range(len(taken)):
            order = np.lexsort((scores[:, column], self._violations[taken]))
            ranks[order, column] = np.arange(len(taken))
        parents, places = linear_sum_assignment(ranks)
        source, target = taken[parents], taken[places]
        for table in (self._units, self._losses, self._violations):
            table[target] = table[source]

    @override
    def _compete(self, proposal: Proposal, outcome: Scored) -> None:
        scope = self._rng.permutation(self._neighbours[place_of(proposal)])
        directions = self._directions[scope]
        losses = np.array([outcome.losses])
        child = self._scores(losses, directions)[0]
        parents = self._scores(self._losses[scope], directions).diagonal()
        violation = self._violations[scope]
        as_good = (outcome.violation > 0) | (child <= parents)
        wins = (outcome.violation < violation) | ((outcome.violation == violation) & as_good)
        scope = scope[wins | ~self._taken[scope]]
        for place in scope[: self._options.replacements]:
            self._settle(place, proposal.units, outcome)

    def _scores(self, losses: NDArray[np.float64], directions: Directions) -> Units:
        """``(candidates, directions)``: how far each is from the ideal along each direction."""
        if not np.isfinite(self._ideal).all():
            return np.zeros((len(losses), len(directions)))  # nothing feasible yet
        shares = rescaled(losses, self._ideal, self._nadir)
        if self._options.decomposition == "tchebycheff":
            weights = np.maximum(directions, _LEAST_WEIGHT)
            return np.asarray((shares[:, None] / weights).max(axis=2))
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        along = shares @ unit.T
        away = np.linalg.norm(shares[:, None] - along[:, :, None] * unit, axis=2)
        return np.asarray(along + self._options.theta * away)


def _distances(directions: Directions) -> NDArray[np.float64]:
    """Between directions, or round a ring where there is only one objective."""
    if directions.shape[1] > 1:
        return np.asarray(cdist(directions, directions))
    places = np.arange(len(directions))
    apart = np.abs(places[:, None] - places)
    return np.asarray(np.minimum(apart, len(directions) - apart), dtype=np.float64)
