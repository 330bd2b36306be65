"""Weights of whole models as points of the unit cube, by the names of the genes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.soups.soups import models_of
from evomerge.optimizers.starting_points import Units
from evomerge.spaces.genes import ChoiceGene, Gene, genome_from_unit


class ModelShares:
    """Places weighted sums of models: genes named ``<model>.weight …`` take the model's weight.

    A weight that a gene's range does not hold becomes the nearest that it does. Other number
    genes stay as near to 1 as they can (a density or scale of 1 leaves things alone), choices
    at their first option.

    Args:
        genes: The genes, one column of the unit cube each.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        self._genes = tuple(genes)
        weights = [gene for gene in genes if ".weight" in gene.name]
        by_model = models_of(weights)
        self.models = tuple(by_model)
        """Names, in the order of the genes."""
        number = {gene: k for k, own in enumerate(by_model.values()) for gene in own}
        self._model_of = [number.get(gene.name) for gene in genes]

    def units(self, shares: NDArray[np.float64]) -> Units:
        """``(genes,)`` point that stands for ``(models,)`` weights."""
        return np.array(
            [
                0.5 / len(gene.options)
                if isinstance(gene, ChoiceGene)
                else gene.to_unit(1.0 if model is None else float(shares[model]))
                for gene, model in zip(self._genes, self._model_of, strict=True)
            ]
        ).clip(0.0, 1.0)

    def key(self, units: Units) -> tuple[object, ...]:
        """The values at a point, equal for points that are one genome."""
        return tuple(genome_from_unit(self._genes, units.tolist()).values())
