"""Points at which an acquisition value is looked at, drawn from a search's own stream."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.genetic.variation import at_least
from evomerge.optimizers.starting_points import Units, latin_hypercube
from evomerge.spaces.genes import ChoiceGene, Gene, IntGene

_MOVED_GENES = 20.0
"""Genes that a perturbation moves on average where there are more (Eriksson et al. 2019)."""

_WIDEST, _NARROWEST = 0.3, 0.003
"""Standard deviations of perturbations, as shares of a gene's range."""


class AcquisitionPoints:
    """Draws even points over the whole space, and perturbations of given ones at all scales.

    Args:
        genes: The genes, one column of the unit cube each.
        rng: Where all chance comes from.
    """

    def __init__(self, genes: Sequence[Gene], rng: np.random.Generator) -> None:
        self._rng = rng
        self._is_choice = np.array([isinstance(g, ChoiceGene) for g in genes], dtype=bool)
        self._step = np.array(
            [1 / (g.high - g.low + 1) if isinstance(g, IntGene) else 0.0 for g in genes]
        )

    def even(self, count: int) -> Units:
        """``(count, genes)`` points of a Latin hypercube."""
        return latin_hypercube(self._rng, count, len(self._step))

    def around(self, centres: Units, count: int, widest: float = _WIDEST) -> Units:
        """``(count, genes)`` perturbations of the centres by turns.

        Each has a width of its own, drawn evenly by ratio. At least one gene is moved, an int
        gene by one at least; a choice that is moved is drawn anew.
        """
        genes = len(self._step)
        units = centres[np.arange(count) % len(centres)]
        widths = self._scales(count, widest)
        moving = self._rng.random((count, genes)) < min(1.0, _MOVED_GENES / genes)
        moving[np.arange(count), self._rng.integers(genes, size=count)] = True
        steps = widths[:, None] * self._rng.standard_normal((count, genes))
        moved = at_least(self._step, units, np.clip(units + steps, 0.0, 1.0))
        drawn = self._rng.random((count, genes))
        # A choice is moved more rarely, or hardly any perturbation would keep all of them.
        rare = moving & (self._rng.random((count, genes)) < 1.0 / max(2, genes))
        moved = np.where(self._is_choice, np.where(rare, drawn, units), moved)
        return np.where(moving, moved, units)

    def _scales(self, count: int, widest: float) -> NDArray[np.float64]:
        exponents = self._rng.uniform(np.log(_NARROWEST), np.log(widest), size=count)
        return np.exp(exponents)
