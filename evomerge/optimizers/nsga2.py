"""NSGA-II (Deb et al. 2002) for one or several objectives and genes of mixed type."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import cross_sbx
from pymoo.operators.mutation.pm import mut_pm
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from typing_extensions import override

from evomerge.core.outcomes import Genome, Scored
from evomerge.core.streams import stream
from evomerge.optimizers.generational import Generational, Proposal, Told
from evomerge.optimizers.options import Nsga2Options
from evomerge.optimizers.starting_points import Units, latin_hypercube, units_of_genomes
from evomerge.spaces.genes import ChoiceGene, Gene, IntGene, genome_from_unit, genome_to_unit

_ATTEMPTS = 100
"""Rounds of drawing until a generation is full of genomes not seen before."""

_SWAP = 0.5
"""Chance that a gene takes part in a crossover, as in Deb's and pymoo's code."""


class Nsga2(Generational):
    """Non-dominated sorting genetic algorithm with elitism over parents and children.

    Survival, SBX and polynomial mutation are pymoo's stateless pieces, called on the unit cube
    with this optimizer's own generator. Differences from the textbook:

    * A choice gene has no order: children swap its options, mutation draws one evenly.
    * A mutated int gene always moves by one at least; polynomial steps alone would be lost in
      rounding wherever the gene has few values.
    * No genome is proposed twice in a search, since its scores would be known.
    * A failed candidate never joins the population. The places it leaves empty are filled with
      fresh points, all of them where a whole first generation failed.

    Args:
        genes: The genes of the search space.
        objectives: Number of losses; beyond five nearly every candidate is non-dominated.
        seed: Names the random stream.
        options: Population size, crossover and mutation.
        initial: Genomes proposed in the first generation; a Latin hypercube fills it up.
    """

    def __init__(
        self,
        genes: Sequence[Gene],
        objectives: int,
        seed: int,
        options: Nsga2Options,
        initial: Sequence[Genome] = (),
    ) -> None:
        super().__init__(genes, objectives, options)
        self._options = options
        self._beyond = options.ahead
        self._rng = stream(seed, "optimizer", "nsga2")
        self._is_choice = np.array([isinstance(g, ChoiceGene) for g in genes], dtype=bool)
        self._step = np.array(
            [1 / (g.high - g.low + 1) if isinstance(g, IntGene) else 0.0 for g in genes]
        )
        self._problem = Problem(n_var=len(genes), n_obj=objectives)
        self._survival = RankAndCrowding()
        self._population = Population.create()
        self._initial = units_of_genomes(genes, initial)
        self._seen: set[tuple[object, ...]] = set()
        self._begin()

    @override
    def _learn(self, told: Sequence[Told]) -> None:
        scored = [(p.units, o.losses) for p, o in told if isinstance(o, Scored)]
        losses = [losses for _, losses in scored]
        units = np.array([units for units, _ in scored])
        children = Population.new(X=units, F=np.array(losses, dtype=np.float64))
        self._population = self._survival.do(
            self._problem,
            Population.merge(self._population, children) if losses else self._population,
            n_survive=self._options.population,
            random_state=self._rng,
        )

    @override
    def _propose(self) -> list[Proposal]:
        size = self._options.population + self._beyond
        if self._options.asynchronous and len(self._population):
            size = 1
        self._beyond = 0
        rows = self._unseen(self._initial)
        self._initial = self._initial[:0]
        vacant = max(0, size - len(self._population) - len(rows))
        rows += self._unseen(self._fresh(vacant))
        for attempt in range(_ATTEMPTS):
            if len(rows) >= size:
                break
            # Late rounds draw fresh points: mating may have nothing new left to give.
            mating = len(self._population) > 0 and attempt < _ATTEMPTS // 2
            draw = self._offspring if mating else self._fresh
            rows += self._unseen(draw(size - len(rows)))
        return [Proposal(np.array(row)) for row in rows]

    def _unseen(self, units: Units) -> list[list[float]]:
        """The rows whose genome is new, moved to the point that stands for their genome."""
        rows = []
        for row in units.tolist():
            genome = genome_from_unit(self._genes, row)
            key = tuple(genome.values())
            if key not in self._seen:
                self._seen.add(key)
                rows.append(genome_to_unit(self._genes, genome))
        return rows

    def _fresh(self, count: int) -> Units:
        return latin_hypercube(self._rng, count, len(self._genes))

    def _offspring(self, count: int) -> Units:
        pairs = (count + 1) // 2
        parents = self._population.get("X")[self._tournament(2 * pairs)]
        children = self._crossed(parents.reshape(2, pairs, -1))
        return self._mutated(children.reshape(2 * pairs, -1))[:count]

    def _tournament(self, count: int) -> NDArray[np.int64]:
        """Binary tournaments by rank, then by crowding distance, then by chance.

        Rivals are drawn by whole shuffles, so that every member competes equally often.
        """
        members = len(self._population)
        shuffles = [self._rng.permutation(members) for _ in range(2 * count // members + 1)]
        rivals = np.concatenate(shuffles)[: 2 * count].reshape(count, 2)
        rank = self._population.get("rank").astype(float)[rivals]
        crowding = self._population.get("crowding").astype(float)[rivals]
        second = (rank[:, 1] < rank[:, 0]) | (
            (rank[:, 1] == rank[:, 0]) & (crowding[:, 1] > crowding[:, 0])
        )
        return np.where(second, rivals[:, 1], rivals[:, 0])

    def _crossed(self, parents: Units) -> Units:
        """Children of ``(2, pairs, genes)`` parents: SBX of numbers, swapped choices."""
        pairs, genes = parents.shape[1:]
        blended = cross_sbx(
            parents,
            np.zeros(genes),
            np.ones(genes),
            np.full((pairs, 1), self._options.crossover_eta),
            _SWAP,
            np.full((pairs, 1), 0.5),  # which of the two children is near which parent
            random_state=self._rng,
        )
        swapped = np.where(self._rng.random((pairs, genes)) < _SWAP, parents[::-1], parents)
        children = np.where(self._is_choice, swapped, blended)
        crossing = self._rng.random((pairs, 1)) < self._options.crossover_probability
        return np.where(crossing, children, parents)

    def _mutated(self, units: Units) -> Units:
        """Polynomial mutation of numbers, an even draw for choices."""
        count, genes = units.shape
        chance = self._options.mutation_probability
        chance = 1 / max(1, genes) if chance is None else chance
        mutating = self._rng.random((count, genes)) < chance
        moved = mut_pm(
            units,
            np.zeros(genes),
            np.ones(genes),
            np.full(count, self._options.mutation_eta),
            np.ones(count),
            at_least_once=False,
            random_state=self._rng,
        )
        moved = _at_least(self._step, units, moved)
        moved = np.where(self._is_choice, self._rng.random((count, genes)), moved)
        return np.where(mutating, moved, units)


def _at_least(step: NDArray[np.float64], old: Units, new: Units) -> Units:
    """Lengthen moves to ``step`` where shorter, turned round where they would leave [0, 1]."""
    direction = np.where(new >= old, 1.0, -1.0)
    target = old + direction * step
    inside = (target >= 0) & (target <= 1)
    target = np.where(inside, target, old - direction * step)
    return np.where(np.abs(new - old) < step, np.clip(target, 0.0, 1.0), new)
