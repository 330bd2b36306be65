"""Layers left out of a model: how many, which ones, and the orders worth trying first."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Annotated

from pydantic import BeforeValidator

from evomerge.core.outcomes import Genome
from evomerge.core.recipe import Recipe, Rule, Slice
from evomerge.spaces.genes import FloatGene, Gene, IntGene
from evomerge.spaces.space import SourceModels

REMOVED = "removed"
"""The gene that says how many layers are left out."""

_SHARE = re.compile(r"\d+(\.\d+)?%", re.ASCII)

_KEPT, _LEFT_OUT = 0.75, 0.25
"""What the genes of layers become where a recipe says only which ones are left out."""


def _checked(given: object) -> object:
    """A whole number of layers, or a share of them such as ``25%``.

    Raises:
        ValueError: It is neither.
    """
    if type(given) is int and given >= 0:
        return given
    if isinstance(given, str) and _SHARE.fullmatch(given) and Fraction(given[:-1]) < 100:
        return given
    raise ValueError(
        f"expected a number of layers, or a share from 0% to below 100%, found {given!r}"
    )


Amount = Annotated[int | str, BeforeValidator(_checked)]
"""So many layers, or a share of them as text: ``25%``."""


def number_of_layers(amount: int | str, layers: int) -> int:
    """How many of so many layers an amount means; shares are rounded up."""
    if isinstance(amount, int):
        return amount
    # Of floats, 10 % of 30 layers would be above 3.
    return math.ceil(Fraction(amount[:-1]) * layers / 100)


@dataclass(frozen=True)
class Removal:
    """Which layers are left out, in a code where every genome means a model.

    Each layer that can be left out has a real gene, ``keep layer 3``; the layers with the
    smallest values are left out, of equal ones the later first. GPTailor (Su et al.
    2025, arXiv 2506.20480) has a list of layer numbers instead: there ``n`` removed layers
    have ``n!`` codes, and lists that name a layer twice have no meaning.
    """

    layers: int
    """Of the sources."""

    low: int
    """Fewest layers left out."""

    high: int
    """Most layers left out; below ``layers``."""

    keep_ends: bool = False
    """Whether the first and last layer always stay."""

    @property
    def removable(self) -> range:
        """The layers that can be left out."""
        return range(1, self.layers - 1) if self.keep_ends else range(self.layers)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """``removed`` where the number varies; one a layer where layers can be chosen."""
        genes: list[Gene] = []
        if self.low < self.high:
            genes.append(IntGene(REMOVED, self.low, self.high))
        if self.high > 0 and self.low < len(self.removable):
            genes += [FloatGene(keep_gene(layer), 0.0, 1.0) for layer in self.removable]
        return tuple(genes)

    def kept(self, genome: Genome) -> tuple[int, ...]:
        """The sources' layers that stay, in order."""
        count = int(genome.get(REMOVED, self.low))
        order = sorted(
            self.removable,
            key=lambda layer: (float(genome.get(keep_gene(layer), 0.0)), -layer),
        )
        left_out = set(order[:count])
        return tuple(layer for layer in range(self.layers) if layer not in left_out)

    def genome_of(self, kept: Sequence[int]) -> dict[str, float | int | str] | None:
        """Genes by which these layers stay; None where they cannot be just these."""
        left_out = set(range(self.layers)) - set(kept)
        if not self.low <= len(left_out) <= self.high or left_out - {*self.removable}:
            return None
        values: dict[str, float | int | str] = {REMOVED: len(left_out)}
        for layer in self.removable:
            values[keep_gene(layer)] = _LEFT_OUT if layer in left_out else _KEPT
        return {gene.name: values[gene.name] for gene in self.genes}

    def genome_in_order(self, order: Sequence[int], count: int) -> dict[str, float | int | str]:
        """Genes that leave out the first layers of an order of all layers.

        Values rise along the order, so that with another count more or fewer layers of the
        same order are left out.
        """
        possible = [layer for layer in order if layer in self.removable]
        units = {
            keep_gene(layer): (place + 0.5) / len(possible)
            for place, layer in enumerate(possible)
        }
        return {
            gene.name: count if gene.name == REMOVED else gene.from_unit(units[gene.name])
            for gene in self.genes
        }


def keep_gene(layer: int) -> str:
    """The gene of a layer, counted from 0: the smaller, the sooner it is left out."""
    return f"keep layer {layer}"


def removal_orders(layers: int) -> tuple[tuple[int, ...], ...]:
    """Orders in which to leave layers out; the first and last layer come last in each.

    GPTailor's warm starts: down from the layer before the last (deep layers change the hidden
    state least; a number up to half of the layers so leaves out one block), from the middle
    outward, and alternating between the upper and the lower end.
    """
    inner = range(1, layers - 1)
    down = sorted(inner, reverse=True)
    middle = (layers - 1) / 2
    outward = sorted(inner, key=lambda layer: (abs(layer - middle), -layer))
    alternating = [layer for pair in zip(down, inner, strict=True) for layer in pair]
    ends = list(dict.fromkeys([layers - 1, 0]))
    orders = [[*order, *ends] for order in (down, outward, dict.fromkeys(alternating))]
    return tuple(dict.fromkeys(map(tuple, orders)))


def naive_removals(models: SourceModels, count: int) -> Mapping[str, Recipe]:
    """Every source without so many of its layers, chosen without a search, by name.

    What a search for layers to leave out must beat: without the last ones, without ones
    spread evenly over the depth, and without the ones in the middle.

    Raises:
        ValueError: No layer would be left out, or none would stay.
    """
    depth = models.layers
    if not 0 < count < depth:
        raise ValueError(
            f"naive_removals: expected 1 to {depth - 1} layers of {depth} to leave out, "
            f"found {count}."
        )
    first = (depth - count + 1) // 2
    many = so_many_layers(count)
    ways = {
        f"its last {many}": range(depth - count, depth),
        f"{count} evenly spaced {many.split()[-1]}": [
            (2 * k + 1) * depth // (2 * count) for k in range(count)
        ],
        f"its middle {many}": range(first, first + count),
    }
    return {
        f"{source.name} without {name}": without_layers(models, source.name, left_out)
        for source in models.sources
        for name, left_out in ways.items()
    }


def so_many_layers(count: int) -> str:
    """How a number of layers reads after ``its last``."""
    return "layer" if count == 1 else f"{count} layers"


def without_layers(models: SourceModels, source: str, left_out: Sequence[int]) -> Recipe:
    """One source without some of its layers, of which at least one stays."""
    kept = [layer for layer in range(models.layers) if layer not in left_out]
    whole = models.recipe([Rule("passthrough", {source: {}})])
    return replace(whole, slices=tuple(Slice({source: run}) for run in runs(kept)))


def runs(layers: Sequence[int]) -> list[tuple[int, int]]:
    """Half-open ranges of the layers that follow each other."""
    found: list[tuple[int, int]] = []
    for layer in layers:
        if found and found[-1][1] == layer:
            found[-1] = (found[-1][0], layer + 1)
        else:
            found.append((layer, layer + 1))
    return found
