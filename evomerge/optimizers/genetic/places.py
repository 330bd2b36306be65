"""The loop of methods in which each parent has a place that children compete for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.outcomes import Scored
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.genetic.options import GeneticOptions
from evomerge.optimizers.genetic.variation import ATTEMPTS, UnseenGenomes, Variation
from evomerge.optimizers.options import Parallel
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units, units_of_genomes


class Places(Generational):
    """Every child is made for one place, whose number it carries, so it may come back late.

    What both its methods have in common:

    * No genome is proposed twice in a search, since its scores would be known.
    * A failed candidate takes no place. A place that is empty gets fresh points until one of
      them is scored.
    * A feasible candidate goes before an infeasible one, and of two infeasible ones the one of
      smaller violation.
    * Places take turns in an order drawn anew for every round. A generation is one round;
      asynchronously the next place has its turn with every outcome.

    A subclass sets ``_count`` and calls ``_begin`` at the end of its own ``__init__``.

    Args:
        problem: What is searched; its initial genomes are proposed in the first generation,
            which a Latin hypercube fills up.
        options: What is proposed ahead, or whether it is asynchronous.
    """

    _stream: ClassVar[str]

    def __init__(self, problem: SearchProblem, options: Parallel) -> None:
        super().__init__(problem.genes, problem.objectives, options)
        self._parallel = options
        self._rng = stream(problem.seed, "optimizer", self._stream)
        operators = options if isinstance(options, GeneticOptions) else GeneticOptions()
        self._variation = Variation(problem.genes, self._rng, operators)
        self._unseen = UnseenGenomes(problem.genes, problem.expressed)
        self._initial = units_of_genomes(problem.genes, problem.initial)
        self._turns: list[int] = []
        self._objectives = problem.objectives
        self._make_places(0)

    def _make_places(self, count: int) -> None:
        self._count = count
        self._units = np.full((count, len(self._genes)), 0.5)
        self._losses = np.zeros((count, self._objectives))
        self._violations = np.zeros(count)
        self._taken = np.zeros(count, dtype=bool)

    @abstractmethod
    def _trials(self, places: NDArray[np.int64], *, anew: bool) -> Units:
        """``(places, genes)`` children for places that are taken.

        Args:
            places: Numbers of places.
            anew: Whether the children made before were known already.
        """

    @override
    def _propose(self) -> list[Proposal]:
        count = self._count
        if self._parallel.asynchronous:
            self._unseen.give_back(self._issued)
            count = 1 if self._taken.any() else count
        elif self._number < 0:
            count += self._parallel.ahead
        first = self._unseen.take(self._initial)
        self._initial = self._initial[:0]
        waiting = self._next_turns(max(count, len(first)))
        proposals = [Proposal(row, waiting.pop(0)) for row in first]
        for attempt in range(ATTEMPTS):
            if not waiting:
                break
            still = []
            for place, row in zip(waiting, self._drawn(waiting, attempt), strict=True):
                rows = self._unseen.take(row[None])
                proposals += [Proposal(row, place) for row in rows]
                still += [] if rows else [place]
            waiting = still
        return proposals

    def _drawn(self, places: list[int], attempt: int) -> Units:
        """Points for places; late attempts draw fresh ones, with nothing new left to breed."""
        numbers = np.array(places)
        bred = self._taken[numbers] & (attempt < ATTEMPTS // 2)
        drawn = np.empty((len(places), len(self._genes)))
        drawn[~bred] = self._variation.fresh(int((~bred).sum()))
        if bred.any():
            drawn[bred] = self._trials(numbers[bred], anew=attempt > 0)
        return drawn

    def _next_turns(self, count: int) -> list[int]:
        while len(self._turns) < count:
            self._turns += self._rng.permutation(self._count).tolist()
        turns, self._turns = self._turns[:count], self._turns[count:]
        return turns

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        for proposal, outcome in told:
            if isinstance(outcome, Scored):
                self._compete(proposal, outcome)

    @abstractmethod
    def _compete(self, proposal: Proposal, outcome: Scored) -> None:
        """Let a child take the places it deserves."""

    def _settle(self, place: int, units: Units, outcome: Scored) -> None:
        """Give a place to a child."""
        self._units[place] = units
        self._losses[place] = outcome.losses
        self._violations[place] = outcome.violation
        self._taken[place] = True


def place_of(proposal: Proposal) -> int:
    """The place that a child was made for."""
    return cast("int", proposal.note)
