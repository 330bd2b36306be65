"""Genes as columns of numbers for models of the losses: a column a number, one an option."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.starting_points import Units
from evomerge.spaces.genes import ChoiceGene, Gene, IntGene

Columns = NDArray[np.float64]
"""``(points, columns)`` array, every entry from -1 to 1."""


class EncodedGenes:
    """Maps points of the unit cube to what a surrogate is fitted in.

    Args:
        genes: The genes, one column of the unit cube each.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        self.shares = np.array([_shares(gene) for gene in genes], dtype=np.int64)
        """``(genes,)`` values that a gene has; 0 where it is continuous."""

        self.is_choice = np.array([isinstance(g, ChoiceGene) for g in genes], dtype=bool)
        """``(genes,)`` whether the values have no order."""

        options = np.where(self.is_choice, self.shares, 1)
        self.gene_of_column = np.repeat(np.arange(len(options)), options)
        """``(columns,)`` the gene that a column belongs to."""

        firsts = np.repeat(np.cumsum(options) - options, options)
        self._option = np.arange(len(firsts)) - firsts

    @property
    def degrees(self) -> int:
        """Directions in which points can differ: one a number, options less one a choice."""
        return int(np.where(self.is_choice, self.shares - 1, 1).sum())

    def snapped(self, units: Units) -> Units:
        """Points moved to the middle of the share of their whole number or option."""
        shares = np.maximum(self.shares, 1)
        middles = (np.minimum(np.floor(units * shares), shares - 1) + 0.5) / shares
        return np.where(self.shares > 0, middles, units)

    def columns(self, units: Units) -> Columns:
        """``(points, columns)``: numbers from -1 to 1; options less their share of a choice."""
        of_gene = self.snapped(units)[:, self.gene_of_column]
        shares = np.maximum(self.shares, 1)[self.gene_of_column]
        chosen = np.floor(of_gene * shares) == self._option
        coded = chosen - 1.0 / shares
        return np.where(self.is_choice[self.gene_of_column], coded, 2.0 * of_gene - 1.0)


def _shares(gene: Gene) -> int:
    if isinstance(gene, ChoiceGene):
        return len(gene.options)
    return gene.high - gene.low + 1 if isinstance(gene, IntGene) else 0
