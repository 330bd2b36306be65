"""The children of M2N2: split-slerp of tables, and the same with numbers and choices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import GeneValue, Genome
from evomerge.optimizers.m2n2.options import M2n2Options
from evomerge.optimizers.starting_points import Units, latin_hypercube, units_of_genomes
from evomerge.spaces.genes import ChoiceGene, Gene
from evomerge.spaces.splits_gene import Mutation, SplitsGene
from evomerge.spaces.splits_table import SplitTable

_MUTATED_GENES = 3
"""Number genes of a child that mutate on average; all where there are fewer."""

_MUTATED_CHOICES = 0.1
"""The largest share of choices that is drawn anew; where there are many genes, one a child."""

_NOISE_SEEDS = 2**48
"""Few enough to be exact in any number format."""


@dataclass(frozen=True, eq=False)
class Parent:
    """A genome in the form that children are made of."""

    units: Units
    """``(genes,)`` in the unit cube; those of tables are not used."""

    tables: Mapping[int, SplitTable]
    """By place of the gene."""


class Crossover:
    """Makes children of one genome or two.

    Number genes of a child lie on the line between its parents, choices come from the nearer
    one, and a few genes mutate. Tables are recombined as the vectors of weights that they
    stand for.

    Args:
        genes: The genes.
        options: What to do.
        rng: What chance is drawn from.
    """

    def __init__(
        self, genes: Sequence[Gene], options: M2n2Options, rng: np.random.Generator
    ) -> None:
        self._genes = tuple(genes)
        self._options = options
        self._rng = rng
        self._splits = {k: g for k, g in enumerate(genes) if isinstance(g, SplitsGene)}
        self._is_choice = np.array([isinstance(g, ChoiceGene) for g in genes], dtype=bool)
        self._plain = len(self._genes) - len(self._splits)
        if options.kinship and len(self._splits) != 1:
            raise ConfigError(
                "optimizer.kinship: compares the weights that 'splits' tables stand for; use a "
                "space of kind 'splits', or leave it 0."
            )
        changes = options.mutation if self._splits else options.gene_mutation
        if not (options.crossover or changes):
            key = "mutation" if self._splits else "gene_mutation"
            raise ConfigError(f"optimizer.crossover: without it, '{key}' must be above 0.")

    @property
    def only_tables(self) -> bool:
        """Whether there are no numbers or choices among the genes."""
        return self._plain == 0

    def of_genomes(self, genomes: Sequence[Genome]) -> list[Parent]:
        """Given genomes as parents.

        Raises:
            ConfigError: One does not fit the genes.
        """
        units = units_of_genomes(self._genes, genomes)
        return [
            Parent(row, {k: g.table(genome[g.name]) for k, g in self._splits.items()})
            for row, genome in zip(units, genomes, strict=True)
        ]

    def fresh(self, count: int) -> list[Parent]:
        """Points evenly spread; with tables among the genes, at least every seed by itself."""
        seeds = [
            [SplitTable.uniform(row) for row in np.eye(len(gene.seeds)).tolist()]
            for gene in self._splits.values()
        ]
        most = max([len(own) for own in seeds], default=count)
        count = max(count, most) if self._plain else most
        return [
            Parent(
                row, {k: own[n % len(own)] for k, own in zip(self._splits, seeds, strict=True)}
            )
            for n, row in enumerate(latin_hypercube(self._rng, count, len(self._genes)))
        ]

    def anywhere(self, known: Sequence[Parent]) -> Parent:
        """A genome drawn evenly; tables are those of known genomes, or children of them."""
        place = int(self._rng.integers(len(known)))
        other = (place + 1 + int(self._rng.integers(max(1, len(known) - 1)))) % len(known)
        first, second = known[place], known[other]
        return Parent(self._rng.random(len(self._genes)), self.child(first, second).tables)

    def child(self, first: Parent, second: Parent) -> Parent:
        """A child of two parents, or a mutant of the first where there is no crossover."""
        share, weight = self._rng.random(2)
        units = self._mutated(self._between(first.units, second.units, share, weight))
        tables = {
            k: self._table(gene, (first.tables[k], second.tables[k]), share, weight)
            for k, gene in self._splits.items()
        }
        return Parent(units, tables)

    def genome(self, parent: Parent) -> dict[str, GeneValue]:
        """What the parent stands for."""
        return {
            gene.name: parent.tables[k].text
            if k in parent.tables
            else gene.from_unit(float(parent.units[k]))
            for k, gene in enumerate(self._genes)
        }

    def strangeness(self, first: Parent, others: Sequence[Parent]) -> Units:
        """From 0 for vectors in one direction to 1 for opposite ones, to the chosen power."""
        ((k, gene),) = self._splits.items()
        kin = [gene.geometry.kinship(first.tables[k], other.tables[k]) for other in others]
        cosines = np.nan_to_num(np.array(kin), nan=0.0)
        return np.asarray(((1.0 - cosines) / 2.0) ** self._options.kinship)

    def _between(self, first: Units, second: Units, share: float, weight: float) -> Units:
        if not self._options.crossover:
            return first
        cut = int(share * len(first)) if self._options.split_point else 0
        shares = np.where(np.arange(len(first)) < cut, weight, 1.0 - weight)
        nearer = np.where(shares > 0.5, second, first)
        return np.where(self._is_choice, nearer, (1.0 - shares) * first + shares * second)

    def _mutated(self, units: Units) -> Units:
        if not (self._plain and self._options.gene_mutation):
            return units
        numbers = min(1.0, _MUTATED_GENES / self._plain)
        choices = min(_MUTATED_CHOICES, 1.0 / self._plain)
        chances = np.where(self._is_choice, choices, numbers)
        mutating = self._rng.random(len(units)) < chances
        steps = self._options.gene_mutation * self._rng.standard_normal(len(units))
        moved = np.abs(units + steps) % 2.0  # reflected at both ends
        moved = np.where(moved > 1.0, 2.0 - moved, moved)
        moved = np.where(self._is_choice, self._rng.random(len(units)), moved)
        return np.where(mutating, moved, units)

    def _table(
        self,
        gene: SplitsGene,
        parents: tuple[SplitTable, SplitTable],
        share: float,
        weight: float,
    ) -> SplitTable:
        size = self._options.mutation
        mutation = Mutation(int(self._rng.integers(_NOISE_SEEDS)), size) if size else None
        if self._options.crossover:
            cut = gene.row_at(share) if self._options.split_point else 0
            return gene.child(*parents, cut, weight, mutation)
        return parents[0] if mutation is None else gene.noisy(parents[0], mutation)
