"""M2N2: an archive whose members compete for items and mate with what they lack."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from evomerge.core.outcomes import Candidate, Scored
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.m2n2.archive import Archive
from evomerge.optimizers.m2n2.crossover import Crossover, Parent
from evomerge.optimizers.m2n2.options import M2n2Options
from evomerge.optimizers.search_problem import SearchProblem


class M2n2(Generational):
    """Competition and attraction (Abrantes, Lange and Tang 2025, arXiv:2508.16204).

    One child at a time. The first parent is drawn by shared fitness, the second by what it is
    better at than the first; the child is cut at a random place and mixed with other weights on
    either side; the member with the least shared fitness leaves. Where nobody is better at
    anything than the first parent, the second is drawn by shared fitness too, and where all
    fitness is 0, evenly. No child has one parent twice, since it would only repeat it.

    Over a space of kind ``splits`` the members are tables of boundaries and coefficients, which
    stand for the vectors of weights of the paper; no weights are kept. Over other genes the
    same loop works on numbers and choices.

    Args:
        problem: What is searched; its initial genomes are scored first; over a ``splits`` space
            they stand for the seeds.
        options: Size of the archive, and what is left out.

    Raises:
        ConfigError: An option does not suit the genes.
    """

    learns_from_items: ClassVar[bool] = True

    def __init__(self, problem: SearchProblem, options: M2n2Options) -> None:
        super().__init__(problem.genes, problem.objectives, options.parallel)
        self._options = options
        self._rng = stream(problem.seed, "optimizer", "m2n2")
        self._crossover = Crossover(problem.genes, options, self._rng)
        self._archive: Archive[Parent] = Archive(
            options.population, problem.objectives, options.alpha
        )
        first = self._crossover.of_genomes(problem.initial)
        vacant = options.population - len(first)
        if vacant > 0 and not (first and self._crossover.only_tables):
            first += self._crossover.fresh(vacant)
        self._first = first
        self._begun = False
        self._begin()

    @override
    def ask(self, count: int) -> list[Candidate]:
        # A table is no point of the unit cube, so its text is put in its place.
        return [
            replace(c, genome=self._crossover.genome(_parent(self._out[c.id])))
            for c in super().ask(count)
        ]

    @override
    def _propose(self) -> list[Proposal]:
        proposed = [] if self._begun else list(self._first)
        wanted = 1 if self._begun else 1 + self._options.parallel.ahead
        self._begun = True
        while len(proposed) < wanted:
            proposed.append(self._child())
        return [Proposal(parent.units, parent) for parent in proposed]

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        for proposal, outcome in told:
            if isinstance(outcome, Scored):
                self._archive.add(_parent(proposal), outcome)

    def _child(self) -> Parent:
        members = [member.content for member in self._archive.parents]
        if len(members) < 2:
            return self._crossover.anywhere(self._first)
        worth = self._archive.worth()
        fitness = worth.sum(axis=1)
        first = self._drawn(fitness)
        others = np.arange(len(members)) != first
        appeal = np.zeros(len(members))
        if self._options.attraction:
            appeal = np.maximum(0.0, worth - worth[first]).sum(axis=1) * others
            if self._options.kinship:
                appeal *= self._crossover.strangeness(members[first], members)
        choices = (appeal, fitness * others, others.astype(np.float64))
        weights = next(each for each in choices if each.any())
        return self._crossover.child(members[first], members[self._drawn(weights)])

    def _drawn(self, weights: NDArray[np.float64]) -> int:
        """A place, drawn by weight; evenly where all weights are 0."""
        whole = float(weights.sum())
        chances = weights / whole if whole > 0 else np.full(len(weights), 1 / len(weights))
        return int(self._rng.choice(len(weights), p=chances))


def _parent(proposal: Proposal) -> Parent:
    return cast(Parent, proposal.note)
