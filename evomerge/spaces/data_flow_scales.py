"""Scales of the hidden state between the layers of a path: a gene a slot, a matrix, a network.

Sakana multiplies the hidden state by W[i, j] on its way from layer i to layer j (Akiba et al.
2024, arXiv 2403.13187, section 3.2), or by what a small network says of i, j and the step.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from evomerge.core.outcomes import GeneValue, Genome
from evomerge.spaces.data_flow_path import PoolLayer, Slots, Step
from evomerge.spaces.genes import FLOAT_DIGITS, FloatGene, Gene

LARGEST_FACTOR = 1e3
"""What output projections are multiplied by stays between this and its inverse."""

FACTOR_DIGITS = 9
"""Significant digits of the factors: few enough to be read, and to come out the same wherever
they are computed; enough that the scales, of six decimals, can be read off them."""

WEIGHT_REACH = 3.0
"""What a network's genes, in [-1, 1], are multiplied by: tanh is nearly flat beyond."""


def factors(scales: Sequence[float]) -> list[float]:
    """What the output projections of a path's layers are multiplied by.

    A layer that normalises its input does not see the input's scale. So instead of the hidden
    state being multiplied by w before a layer, what this layer and all later ones add to it is
    divided by w: by the product of all scales so far.

    Args:
        scales: What the hidden state is multiplied by before each layer but the first.

    Returns:
        One factor a layer, the first 1; kept within ``LARGEST_FACTOR`` and its inverse and
        rounded, each from the one before.
    """
    found = [1.0]
    for scale in scales:
        factor = min(LARGEST_FACTOR, max(1 / LARGEST_FACTOR, found[-1] / scale))
        found.append(float(f"{factor:.{FACTOR_DIGITS}g}"))
    return found


def possible_scales(found: Sequence[float]) -> list[tuple[float, float]]:
    """Between which bounds each scale lay, by the factors that came of them.

    The two are the same but where a factor is the largest or the smallest that there may be.
    """
    step = 10.0**FLOAT_DIGITS
    bounds = []
    for k in range(1, len(found)):
        ratio = found[k - 1] / found[k]
        low = high = round(ratio, FLOAT_DIGITS)
        if found[k] >= LARGEST_FACTOR:
            low, high = 0.0, math.floor(ratio * step) / step
        elif found[k] <= 1 / LARGEST_FACTOR:
            low, high = math.ceil(ratio * step) / step, math.inf
        bounds.append((low, high))
    return bounds


class Scales(ABC):
    """Where the scales along a path come from."""

    @property
    @abstractmethod
    def genes(self) -> tuple[Gene, ...]:
        """The genes that give them."""

    @abstractmethod
    def along(self, genome: Genome, path: Sequence[Step]) -> list[float]:
        """What the hidden state is multiplied by before each layer of a path but the first."""

    @abstractmethod
    def values(
        self, path: Sequence[Step], bounds: Sequence[tuple[float, float]]
    ) -> dict[str, GeneValue] | None:
        """Genes that give scales within bounds along a path; None where there are none."""


class NoScales(Scales):
    """The hidden state is passed on as it is."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """None."""
        return ()

    def along(self, genome: Genome, path: Sequence[Step]) -> list[float]:  # noqa: ARG002
        """All 1."""
        return [1.0] * (len(path) - 1)

    def values(
        self,
        path: Sequence[Step],  # noqa: ARG002
        bounds: Sequence[tuple[float, float]],
    ) -> dict[str, GeneValue] | None:
        """Nothing, where every scale may be 1."""
        return {} if all(low <= 1 <= high for low, high in bounds) else None


@dataclass(frozen=True)
class NamedScales(Scales):
    """A gene for each of the scales, which are used again where a path comes to them again."""

    named: tuple[FloatGene, ...]

    bounds: tuple[float, float]
    """Smallest and largest scale."""

    @property
    def genes(self) -> tuple[Gene, ...]:
        """One a slot, or one a pair of layers."""
        return self.named

    @abstractmethod
    def name(self, before: Step, after: Step) -> str:
        """The gene that gives the scale on the way from one layer to the next."""

    def along(self, genome: Genome, path: Sequence[Step]) -> list[float]:
        """Each gene's value."""
        return [float(genome[self.name(*pair)]) for pair in pairwise(path)]

    def values(
        self, path: Sequence[Step], bounds: Sequence[tuple[float, float]]
    ) -> dict[str, GeneValue] | None:
        """Genes as near to 1 as the bounds let them; 1 where the path does not come by."""
        wanted: dict[str, tuple[float, float]] = {}
        for pair, (least, most) in zip(pairwise(path), bounds, strict=False):
            name = self.name(*pair)
            known = wanted.get(name, self.bounds)
            wanted[name] = max(known[0], least), min(known[1], most)
        if any(least > most for least, most in wanted.values()):
            return None
        values: dict[str, GeneValue] = {gene.name: 1.0 for gene in self.named}
        return values | {n: min(most, max(least, 1.0)) for n, (least, most) in wanted.items()}


@dataclass(frozen=True)
class SlotScales(NamedScales):
    """A gene for each slot: the scale before its layer, whatever comes before it."""

    names: tuple[str, ...]

    def name(self, before: Step, after: Step) -> str:  # noqa: ARG002
        """The slot's gene; the kept last layer has one too."""
        return "scale last" if after.slot is None else self.names[after.slot]


@dataclass(frozen=True)
class MatrixScales(NamedScales):
    """A gene for each pair of layers that can follow one another."""

    names: Mapping[tuple[int, int], str]

    def name(self, before: Step, after: Step) -> str:
        """The pair's gene."""
        return self.names[before.layer.place, after.layer.place]


@dataclass(frozen=True)
class NetworkScales(Scales):
    """A small network: from two layers' places and the step to the scale between them.

    ``x = (i, j, t, 1)``, places and step spread over [-1, 1]; ``y = tanh(v · (tanh(U x), 1))``;
    the scale is ``high ** y``, or ``low ** -y`` where y is below 0. Weights of 0 mean 1.
    """

    pool: int
    """How many layers the pool has."""

    most_layers: int
    hidden: int
    bounds: tuple[float, float]

    @property
    def genes(self) -> tuple[Gene, ...]:
        """The weights, ``hidden × 4`` and ``hidden + 1``, each a ``WEIGHT_REACH``-th."""
        return tuple(FloatGene(name, -1.0, 1.0) for name in self._names)

    @property
    def _names(self) -> list[str]:
        inputs = ("from", "to", "step", "bias")
        units = range(1, self.hidden + 1)
        into = [f"scale unit {unit} {given}" for unit in units for given in inputs]
        return [*into, *(f"scale out {unit}" for unit in units), "scale out bias"]

    def along(self, genome: Genome, path: Sequence[Step]) -> list[float]:
        """What the network says at each step, to six decimals."""
        weights = [WEIGHT_REACH * float(genome[name]) for name in self._names]
        units = [weights[4 * k : 4 * k + 4] for k in range(self.hidden)]
        out = weights[4 * self.hidden :]
        found = []
        for step in range(1, len(path)):
            before, after = path[step - 1].layer, path[step].layer
            given = (
                _spread(before.place, self.pool),
                _spread(after.place, self.pool),
                _spread(step, self.most_layers),
                1.0,
            )
            inner = [math.tanh(_product(unit, given)) for unit in units]
            found.append(self._scale(math.tanh(_product(out, (*inner, 1.0)))))
        return found

    def values(
        self,
        path: Sequence[Step],  # noqa: ARG002
        bounds: Sequence[tuple[float, float]],
    ) -> dict[str, GeneValue] | None:
        """Weights of 0, where every scale may be 1; others cannot be told from scales."""
        if all(low <= 1 <= high for low, high in bounds):
            return dict.fromkeys(self._names, 0.0)
        return None

    def _scale(self, said: float) -> float:
        low, high = self.bounds
        return round(math.pow(high, said) if said > 0 else math.pow(low, -said), FLOAT_DIGITS)


def slot_scales(slots: Slots, bounds: tuple[float, float]) -> SlotScales:
    """A gene a slot, and one for the last layer where that is kept."""
    names = tuple(f"scale {label}" for label in slots.labels)
    last = ("scale last",) if slots.ends else ()
    return SlotScales(_genes((*names, *last), bounds), bounds, names)


def matrix_scales(slots: Slots, bounds: tuple[float, float]) -> MatrixScales:
    """A gene a pair of layers, without the pairs that no path can have."""
    names = {(a.place, b.place): _between(a, b) for a, b in slots.neighbours()}
    return MatrixScales(_genes(tuple(names.values()), bounds), bounds, names)


def network_scales(slots: Slots, hidden: int, bounds: tuple[float, float]) -> NetworkScales:
    """A network over the slots' pool."""
    return NetworkScales(len(slots.pool), slots.deepest, hidden, bounds)


def _genes(names: Sequence[str], bounds: tuple[float, float]) -> tuple[FloatGene, ...]:
    return tuple(FloatGene(name, *bounds, log=True) for name in names)


def _between(before: PoolLayer, after: PoolLayer) -> str:
    return f"scale {before.label} > {after.label}"


def _product(weights: Sequence[float], given: Sequence[float]) -> float:
    return math.fsum(w * x for w, x in zip(weights, given, strict=True))


def _spread(place: int, count: int) -> float:
    """Places 0 … count - 1 evenly over [-1, 1]."""
    return 2 * place / (count - 1) - 1 if count > 1 else 0.0
