"""How children are made from parents in the unit cube, whatever the type of each gene."""

import hashlib
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from pymoo.operators.crossover.sbx import cross_sbx
from pymoo.operators.mutation.pm import mut_pm

from evomerge.core.outcomes import Genome
from evomerge.optimizers.genetic.options import GeneticOptions
from evomerge.optimizers.starting_points import Units, latin_hypercube
from evomerge.spaces.genes import ChoiceGene, Gene, IntGene, genome_from_unit, genome_to_unit

ATTEMPTS = 100
"""Rounds of drawing until a generation is full of genomes not seen before."""

_SWAP = 0.5
"""Chance that a gene takes part in a crossover, as in Deb's and pymoo's code."""


class Variation:
    """SBX crossover and polynomial mutation (Deb and Agrawal 1995) for mixed genes.

    Both are pymoo's functions, called on the unit cube with the generator given. Differences
    from the textbook:

    * A choice gene has no order: children swap its options, mutation draws one evenly.
    * A mutated int gene always moves by one at least; polynomial steps alone would be lost in
      rounding wherever the gene has few values.

    Args:
        genes: The genes, one column of the unit cube each.
        rng: Where all chance comes from.
        options: Chances and widths of crossover and mutation.
    """

    def __init__(
        self, genes: Sequence[Gene], rng: np.random.Generator, options: GeneticOptions
    ) -> None:
        self._rng = rng
        self._options = options
        self.is_choice = np.array([isinstance(g, ChoiceGene) for g in genes], dtype=bool)
        """``(genes,)``: which have options without order."""
        self.step = np.array(
            [1 / (g.high - g.low + 1) if isinstance(g, IntGene) else 0.0 for g in genes]
        )
        """``(genes,)``: by how much an int gene moves at least; 0 for others."""
        chance = options.mutation_probability
        self.mutation_chance = 1 / max(1, len(genes)) if chance is None else chance

    def fresh(self, count: int) -> Units:
        """``(count, genes)`` points of a Latin hypercube, descended from nobody."""
        return latin_hypercube(self._rng, count, len(self.step))

    def children(self, parents: Units) -> Units:
        """``(2 * pairs, genes)`` children of ``(2, pairs, genes)`` parents."""
        crossed = self.crossed(parents)
        return self.mutated(crossed.reshape(-1, parents.shape[2]))

    def crossed(self, parents: Units) -> Units:
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
        children = np.where(self.is_choice, swapped, blended)
        crossing = self._rng.random((pairs, 1)) < self._options.crossover_probability
        return np.where(crossing, children, parents)

    def mutated(self, units: Units) -> Units:
        """``(points, genes)`` with polynomial steps of numbers and evenly drawn choices."""
        count, genes = units.shape
        mutating = self._rng.random((count, genes)) < self.mutation_chance
        moved = mut_pm(
            units,
            np.zeros(genes),
            np.ones(genes),
            np.full(count, self._options.mutation_eta),
            np.ones(count),
            at_least_once=False,
            random_state=self._rng,
        )
        moved = at_least(self.step, units, moved)
        moved = np.where(self.is_choice, self._rng.random((count, genes)), moved)
        return np.where(mutating, moved, units)


def at_least(step: NDArray[np.float64], old: Units, new: Units) -> Units:
    """Lengthen moves to ``step`` where shorter, turned round where they would leave [0, 1]."""
    direction = np.where(new >= old, 1.0, -1.0)
    target = old + direction * step
    inside = (target >= 0) & (target <= 1)
    target = np.where(inside, target, old - direction * step)
    return np.where(np.abs(new - old) < step, np.clip(target, 0.0, 1.0), new)


class UnseenGenomes:
    """Lets every genome of a search pass once, since a second time its scores are known.

    Where genomes can differ in what has no effect, of all that come to the same one passes.

    Args:
        genes: The genes, one column of the unit cube each.
        expressed: What of a genome has an effect; None: all of it.
    """

    def __init__(
        self, genes: Sequence[Gene], expressed: Callable[[Genome], Hashable] | None
    ) -> None:
        self._genes = tuple(genes)
        self._expressed = expressed
        self._seen: set[Hashable] = set()
        self._latest: list[Hashable] = []  # in the order in which they passed
        self._issued = 0

    def take(self, units: Units) -> list[Units]:
        """The rows whose genome is new, moved to the point that stands for their genome."""
        rows = []
        for row in units.tolist():
            genome = genome_from_unit(self._genes, row)
            point = np.array(genome_to_unit(self._genes, genome))
            key = self._key(genome, point)
            if key not in self._seen:
                self._seen.add(key)
                self._latest.append(key)
                rows.append(point)
        return rows

    def _key(self, genome: Genome, point: Units) -> Hashable:
        if self._expressed is not None:
            return self._expressed(genome)
        # A digest: genomes may have thousands of genes.
        return hashlib.blake2b(point.tobytes(), digest_size=16).digest()

    def give_back(self, issued: int) -> None:
        """Forget what passed since the last call but was dropped without being asked for.

        Asynchronous optimizers replace proposals that nobody has asked for when they learn
        more. Without this, genomes would be lost to the search.

        Args:
            issued: Candidates that were asked for so far, in the order in which they passed.
        """
        self._seen.difference_update(self._latest[issued - self._issued :])
        self._latest = []
        self._issued = issued
