"""Typed genes: float, int and choice, each with a map to the unit interval and back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from evomerge.core.outcomes import GeneValue, Genome

FLOAT_DIGITS = 6
"""Float genes have so many decimals, so that a recipe keeps its hash through YAML."""


class Gene(Protocol):
    """One thing that may vary."""

    @property
    def name(self) -> str:
        """Unique within a search space."""

    def from_unit(self, unit: float) -> GeneValue:
        """The value at a point of [0, 1]; points outside are clipped, NaN is the middle."""

    def to_unit(self, value: GeneValue) -> float:
        """A point of [0, 1] that maps to the value."""


def _clip(unit: float) -> float:
    return 0.5 if math.isnan(unit) else min(1.0, max(0.0, float(unit)))


@dataclass(frozen=True)
class FloatGene:
    """A real number in [low, high], spaced evenly or, with ``log``, by ratio."""

    name: str
    low: float
    high: float
    log: bool = False

    def from_unit(self, unit: float) -> float:
        """Interpolate, rounded to six decimals and never outside the bounds.

        Zero is never -0.0: equal genomes give recipes of equal hash.
        """
        u = _clip(unit)
        if self.log:
            value = self.low * math.pow(self.high / self.low, u)
        else:
            value = self.low + u * (self.high - self.low)
        return min(self.high, max(self.low, round(value, FLOAT_DIGITS))) + 0.0

    def to_unit(self, value: GeneValue) -> float:
        """Invert ``from_unit``; a gene without width maps to the middle."""
        if self.high == self.low:
            return 0.5
        x = min(self.high, max(self.low, float(value)))
        if self.log:
            return math.log(x / self.low) / math.log(self.high / self.low)
        return (x - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class IntGene:
    """A whole number from low to high, both included."""

    name: str
    low: int
    high: int

    def from_unit(self, unit: float) -> int:
        """Equal shares of [0, 1] for every number."""
        count = self.high - self.low + 1
        return self.low + min(count - 1, int(_clip(unit) * count))

    def to_unit(self, value: GeneValue) -> float:
        """The middle of the number's share."""
        number = min(self.high, max(self.low, round(float(value))))
        return (number - self.low + 0.5) / (self.high - self.low + 1)


@dataclass(frozen=True)
class ChoiceGene:
    """One of several options without order."""

    name: str
    options: tuple[GeneValue, ...]

    def from_unit(self, unit: float) -> GeneValue:
        """Equal shares of [0, 1] for every option."""
        return self.options[min(len(self.options) - 1, int(_clip(unit) * len(self.options)))]

    def to_unit(self, value: GeneValue) -> float:
        """The middle of the option's share."""
        return (self.options.index(value) + 0.5) / len(self.options)


def genome_from_unit(genes: Sequence[Gene], units: Sequence[float]) -> dict[str, GeneValue]:
    """The genome at a point of the unit cube, one coordinate a gene."""
    return {gene.name: gene.from_unit(u) for gene, u in zip(genes, units, strict=True)}


def genome_to_unit(genes: Sequence[Gene], genome: Genome) -> list[float]:
    """A point of the unit cube that maps to the genome."""
    return [gene.to_unit(genome[gene.name]) for gene in genes]
