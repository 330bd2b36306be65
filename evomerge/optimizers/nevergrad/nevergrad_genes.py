"""Genes as a nevergrad parametrization, and its values back in the unit cube."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nevergrad import p as parameters
from numpy.typing import NDArray

from evomerge.spaces.genes import ChoiceGene, FloatGene, Gene, IntGene

_NUMBERS, _WHOLE_NUMBERS = "numbers", "whole_numbers"


class NevergradGenes:
    """The genes grouped into a few arrays, since one parameter a gene would take seconds.

    Float genes are an array bounded to the unit interval, in which ``log`` genes are even by
    ratio; int genes an array of whole numbers between their bounds; choice genes of as many
    options are one unordered choice with repetitions. Genes of a single value are left out.

    Args:
        genes: The genes of the search space.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        self._genes = tuple(genes)
        self._groups: dict[str, list[int]] = {}
        for column, gene in enumerate(genes):
            group = _group(gene)
            if group is not None:
                self._groups.setdefault(group, []).append(column)

    def parametrization(self, seed: int) -> Any:  # noqa: ANN401 - nevergrad has no types
        """A fresh ``Instrumentation`` that draws from a generator of this seed."""
        parts: dict[str, Any] = {}
        for group, columns in self._groups.items():
            genes = [self._genes[column] for column in columns]
            if group == _NUMBERS:
                parts[group] = parameters.Array(
                    init=np.full(len(genes), 0.5), lower=0.0, upper=1.0
                )
            elif group == _WHOLE_NUMBERS:
                parts[group] = _whole_numbers([g for g in genes if isinstance(g, IntGene)])
            else:
                options = len(genes[0].options) if isinstance(genes[0], ChoiceGene) else 0
                parts[group] = parameters.Choice(range(options), repetitions=len(genes))
        # Something has to vary, even where every gene has a single value.
        made = parameters.Instrumentation(**(parts or {"nothing": parameters.Scalar()}))
        made.random_state = np.random.RandomState(seed)  # nevergrad knows this kind only
        return made

    def units(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """``(genes,)`` in the unit cube, of a candidate's keyword arguments."""
        units = np.full(len(self._genes), 0.5)
        for group, columns in self._groups.items():
            value = np.atleast_1d(np.asarray(values[group], dtype=np.float64))
            if group == _NUMBERS:
                units[columns] = value
                continue
            for column, number in zip(columns, value.tolist(), strict=True):
                units[column] = _unit(self._genes[column], int(number))
        return np.asarray(np.clip(units, 0.0, 1.0))

    def values(self, units: NDArray[np.float64]) -> dict[str, Any]:
        """Keyword arguments of a point, such as ``spawn_child`` takes."""
        made: dict[str, Any] = {}
        for group, columns in self._groups.items():
            if group == _NUMBERS:
                made[group] = np.array(units[columns])
                continue
            numbers = [_number(self._genes[c], float(units[c])) for c in columns]
            made[group] = np.array(numbers) if group == _WHOLE_NUMBERS else tuple(numbers)
        return made or {"nothing": 0.0}


def _group(gene: Gene) -> str | None:
    if isinstance(gene, ChoiceGene):
        return f"choices_{len(gene.options)}" if len(gene.options) > 1 else None
    if isinstance(gene, IntGene):
        return _WHOLE_NUMBERS if gene.high > gene.low else None
    return None if isinstance(gene, FloatGene) and gene.high == gene.low else _NUMBERS


def _whole_numbers(genes: Sequence[IntGene]) -> Any:  # noqa: ANN401 - nevergrad has no types
    # Half a number wider, so that the bounds have whole shares; what rounds beyond is clipped.
    low = np.array([gene.low - 0.5 for gene in genes])
    high = np.array([gene.high + 0.5 for gene in genes])
    middle = np.floor((low + high) / 2)
    return parameters.Array(init=middle, lower=low, upper=high).set_integer_casting()


def _unit(gene: Gene, number: int) -> float:
    """The unit of a whole number, or of the option of that index."""
    if isinstance(gene, ChoiceGene):
        return (number + 0.5) / len(gene.options)
    return gene.to_unit(number)


def _number(gene: Gene, unit: float) -> int:
    """The whole number at a unit, or the index of the option there."""
    if isinstance(gene, ChoiceGene):
        return min(len(gene.options) - 1, int(unit * len(gene.options)))
    return int(gene.from_unit(unit))
