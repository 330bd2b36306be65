"""The loop of genetic algorithms that keep the best of parents and children."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.outcomes import Scored
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.genetic.options import GeneticOptions
from evomerge.optimizers.genetic.variation import ATTEMPTS, UnseenGenomes, Variation
from evomerge.optimizers.ranking import losses_of, violations_of
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import Units, units_of_genomes

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Members:
    """Scored candidates, one row each."""

    units: Units
    losses: NDArray[np.float64]
    """``(members, objectives)``"""
    violations: NDArray[np.float64]
    """``(members,)``, 0 where feasible."""

    def __len__(self) -> int:
        """How many."""
        return len(self.violations)

    def joined(self, others: "Members") -> "Members":
        """These, then the others."""
        return Members(
            np.concatenate([self.units, others.units]),
            np.concatenate([self.losses, others.losses]),
            np.concatenate([self.violations, others.violations]),
        )

    def chosen(self, indices: Indices) -> "Members":
        """Some of them, in the order of the indices."""
        return Members(self.units[indices], self.losses[indices], self.violations[indices])


class SurvivalOfTheBest(Generational):
    """Parents win tournaments, children join them, and the best of all survive.

    What all its methods have in common, beside mixed genes (``Variation``):

    * No genome is proposed twice in a search, since its scores would be known.
    * A failed candidate never joins the population. The places it leaves empty are filled with
      fresh points, all of them where a whole first generation failed.
    * A feasible candidate goes before an infeasible one, and of two infeasible ones the one of
      smaller violation (Deb's constrained domination), in tournaments and in survival.
    * Asynchronously each outcome is one generation of one child: (population + 1).

    A subclass says which members survive and how well they stand. It calls ``_begin`` at the
    end of its own ``__init__``.

    Args:
        problem: What is searched; its initial genomes are proposed in the first generation,
            which a Latin hypercube fills up.
        options: Population size, crossover and mutation.
    """

    _stream: ClassVar[str]
    _one_child_at_a_time: ClassVar[bool] = False

    def __init__(self, problem: SearchProblem, options: GeneticOptions) -> None:
        super().__init__(problem.genes, problem.objectives, options)
        self._parallel = options
        self._rng = stream(problem.seed, "optimizer", self._stream)
        self._variation = Variation(problem.genes, self._rng, options)
        self._unseen = UnseenGenomes(problem.genes, problem.expressed)
        self._initial = units_of_genomes(problem.genes, problem.initial)
        self._size = options.population
        self._members = Members(
            np.empty((0, len(problem.genes))), np.empty((0, problem.objectives)), np.empty(0)
        )
        self._standing = np.empty((0, 1))

    @abstractmethod
    def _survivors(self, members: Members) -> tuple[Indices, NDArray[np.float64]]:
        """At most ``_size`` members that live on, and how well each of them stands.

        Returns:
            Indices, and ``(survivors, criteria)``: smaller is better, and a criterion decides
            only between members that are equal in all before it.
        """

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        scored = [(p.units, o) for p, o in told if isinstance(o, Scored)]
        if not scored:
            return
        outcomes = [outcome for _, outcome in scored]
        units = np.array([units for units, _ in scored])
        children = Members(units, losses_of(outcomes), violations_of(outcomes))
        everyone = self._members.joined(children)
        indices, self._standing = self._survivors(everyone)
        self._members = everyone.chosen(indices)

    @override
    def _propose(self) -> list[Proposal]:
        if self._parallel.asynchronous:
            self._unseen.give_back(self._issued)
        size, vacant = self._wanted()
        rows = self._unseen.take(self._initial)
        self._initial = self._initial[:0]
        rows += self._unseen.take(self._variation.fresh(max(0, vacant - len(rows))))
        for attempt in range(ATTEMPTS):
            if len(rows) >= size:
                break
            # Late rounds draw fresh points: mating may have nothing new left to give.
            mating = len(self._members) > 0 and attempt < ATTEMPTS // 2
            draw = self._offspring if mating else self._variation.fresh
            rows += self._unseen.take(draw(size - len(rows)))
        return [Proposal(row) for row in rows]

    def _wanted(self) -> tuple[int, int]:
        """How many to propose, and how many of those descend from nobody."""
        vacant = self._size - len(self._members)
        if not len(self._members):
            size = self._size + (self._parallel.ahead if self._number < 0 else 0)
            return size, size
        if self._parallel.asynchronous:
            return 1, min(1, vacant)
        size = max(1, vacant) if self._one_child_at_a_time else self._size
        return size, vacant

    def _offspring(self, count: int) -> Units:
        pairs = (count + 1) // 2
        parents = self._members.units[self._tournament(2 * pairs)]
        return self._variation.children(parents.reshape(2, pairs, -1))[:count]

    def _tournament(self, count: int) -> Indices:
        """Winners of binary tournaments, by chance where neither rival is better.

        Rivals are drawn by whole shuffles, so that every member competes equally often.
        """
        members = len(self._members)
        shuffles = [self._rng.permutation(members) for _ in range(2 * count // members + 1)]
        rivals = np.concatenate(shuffles)[: 2 * count].reshape(count, 2)
        return np.where(self._second_wins(rivals), rivals[:, 1], rivals[:, 0])

    def _second_wins(self, rivals: Indices) -> NDArray[np.bool_]:
        """Which second members of ``(pairs, 2)`` stand better than the first."""
        return stands_better(self._standing[rivals[:, 1]], self._standing[rivals[:, 0]])


def stands_better(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Row by row, whether the first criterion that differs is smaller in the first array."""
    better = np.zeros(len(one), dtype=bool)
    for column in reversed(range(one.shape[1])):
        equal = one[:, column] == other[:, column]
        better = (one[:, column] < other[:, column]) | (equal & better)
    return better
