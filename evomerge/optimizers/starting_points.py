"""Where a search begins: given genomes, or points spread evenly over the unit cube."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.core.errors import ConfigError
from evomerge.core.outcomes import Genome
from evomerge.spaces.genes import Gene, genome_to_unit

Units = NDArray[np.float64]
"""``(points, genes)`` array in [0, 1], one column a gene."""


def latin_hypercube(rng: np.random.Generator, count: int, dimension: int) -> Units:
    """Points of which, along every axis, each of ``count`` equal slices holds exactly one.

    McKay, Beckman and Conover 1979. Number genes get even coverage and choices equal shares
    at any count, which Sobol points give at powers of two only.

    Returns:
        ``(count, dimension)`` array in [0, 1).
    """
    slices = rng.permuted(np.tile(np.arange(count), (dimension, 1)), axis=1).T
    return np.asarray((slices + rng.random((count, dimension))) / max(count, 1))


def units_of_genomes(genes: Sequence[Gene], genomes: Sequence[Genome]) -> Units:
    """Points that map to the genomes; numbers beyond a gene's range are clipped into it.

    Raises:
        ConfigError: A genome lacks a gene, has one too many, or a value no option equals.
    """
    names = [gene.name for gene in genes]
    rows = []
    for number, genome in enumerate(genomes):
        if sorted(genome) != sorted(names):
            raise ConfigError(
                f"initial genome {number}: expected genes {names}, found {list(genome)}."
            )
        try:
            rows.append(genome_to_unit(genes, genome))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"initial genome {number}: {dict(genome)} does not fit the genes: {error}."
            ) from error
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
