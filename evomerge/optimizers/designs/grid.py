"""Grid search: every combination of a few levels of each gene, once."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from typing_extensions import override

from evomerge.core.outcomes import Candidate, GeneValue, Genome, Outcome
from evomerge.core.streams import stream
from evomerge.optimizers.contract import Optimizer
from evomerge.optimizers.designs.options import GridOptions
from evomerge.optimizers.open_candidates import OpenCandidates
from evomerge.optimizers.search_problem import SearchProblem
from evomerge.optimizers.starting_points import units_of_genomes
from evomerge.spaces.genes import ChoiceGene, Gene, IntGene, genome_from_unit

_SHUFFLED_WHOLE = 1_000_000
"""Up to here all places are shuffled; beyond they are drawn, skipping those drawn before."""

_FINISHED = "every point of the grid has been proposed."


class Grid(Optimizer):
    """Proposes the points of a grid, none twice, until there are no more.

    Float genes take evenly spaced levels, both bounds included, int genes their numbers, choice
    genes their options; where a gene has room for one level only, the middle. The grid is never
    laid out in memory, so any number of genes goes.

    Coarse first, the levels of a gene are ordered from the ends and the middle to what lies
    between, and every point of the first few levels of all genes comes before any with a
    further level. Within that, and where the order is shuffled, points come by chance, so that
    a budget which ends early has still seen all parts of the space.

    Args:
        problem: What is searched; its initial genomes are proposed before the grid, and left
            out of it.
        options: How many points or levels, and their order.
    """

    def __init__(self, problem: SearchProblem, options: GridOptions) -> None:
        self._genes = tuple(problem.genes)
        self._candidates = OpenCandidates(problem.objectives)
        rng = stream(problem.seed, "optimizer", "grid")
        counts = _levels(problem.genes, options)
        self._levels = [_values(g, n) for g, n in zip(problem.genes, counts, strict=True)]
        lengths = [len(values) for values in self._levels]
        coarse = options.order == "coarse_first"
        self._places = _coarse_first(lengths, rng) if coarse else _shuffled(lengths, rng)
        first = [
            genome_from_unit(problem.genes, row)
            for row in units_of_genomes(problem.genes, problem.initial).tolist()
        ]
        self._points = itertools.chain(first, self._grid({_key(genome) for genome in first}))
        self._next = next(self._points, None)

    @override
    def ask(self, count: int) -> list[Candidate]:
        asked: list[Candidate] = []
        while len(asked) < count and self._next is not None:
            asked.append(self._candidates.issue(self._next))
            self._next = next(self._points, None)
        return asked

    @override
    def tell(self, outcomes: Mapping[int, Outcome]) -> None:
        self._candidates.settle(outcomes)

    @property
    @override
    def finished(self) -> str | None:
        return _FINISHED if self._next is None else None

    def _grid(self, known: set[tuple[GeneValue, ...]]) -> Iterator[dict[str, GeneValue]]:
        for place in self._places:
            genome = {
                gene.name: values[level]
                for gene, values, level in zip(self._genes, self._levels, place, strict=True)
            }
            if _key(genome) not in known:
                yield genome


def _key(genome: Genome) -> tuple[GeneValue, ...]:
    return tuple(genome.values())


def _levels(genes: Sequence[Gene], options: GridOptions) -> list[int]:
    """How many levels each gene has."""
    most = [_most_levels(gene, options.points) for gene in genes]
    if options.levels is not None:
        return [
            m if isinstance(gene, ChoiceGene) else min(m, options.levels)
            for gene, m in zip(
                genes, [_most_levels(g, options.levels) for g in genes], strict=True
            )
        ]
    counts = [1] * len(genes)
    size, grew = 1, True
    while grew:
        grew = False
        for k, count in enumerate(counts):
            larger = size // count * (count + 1)
            if count < most[k] and larger <= options.points:
                counts[k], size, grew = count + 1, larger, True
    return counts


def _most_levels(gene: Gene, limit: int) -> int:
    if isinstance(gene, ChoiceGene):
        return len(gene.options)
    return gene.high - gene.low + 1 if isinstance(gene, IntGene) else max(1, limit)


def _values(gene: Gene, count: int) -> list[GeneValue]:
    """Distinct values at so many levels, the coarse ones first."""
    if isinstance(gene, ChoiceGene):
        return list(gene.options[:count])
    units = np.linspace(0, 1, count) if count > 1 else np.array([0.5])
    ordered = [float(units[k]) for k in _coarse_order(count)]
    return list(dict.fromkeys(gene.from_unit(unit) for unit in ordered))


def _coarse_order(count: int) -> list[int]:
    """0 … count - 1: the ends, then the middle of what lies between, again and again."""
    order = list(dict.fromkeys([0, count - 1]))
    gaps = [(0, count - 1)]
    while gaps:
        split = []
        for low, high in gaps:
            middle = (low + high) // 2
            if high - low > 1:
                order.append(middle)
                split += [(low, middle), (middle, high)]
        gaps = split
    return order


def _coarse_first(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """Places by how many levels of each gene it takes to reach them: 2, 3, 5, 9 and so on."""
    inside, reach = 0, 2
    while inside < max(lengths, default=0):
        box = [min(length, reach) for length in lengths]
        for place in _shuffled(box, rng):
            if max(place) >= inside:
                yield place
        inside, reach = reach, 2 * reach - 1


def _shuffled(lengths: Sequence[int], rng: np.random.Generator) -> Iterator[list[int]]:
    """All places, one level a gene, by chance and each once."""
    for index in _indices(math.prod(lengths), rng):
        place, rest = [], index
        for length in lengths:
            rest, level = divmod(rest, length)
            place.append(level)
        yield place


def _indices(size: int, rng: np.random.Generator) -> Iterator[int]:
    """0 … size - 1 by chance and each once; ``size`` may have any number of digits."""
    if size <= _SHUFFLED_WHOLE:
        yield from rng.permutation(size).tolist()
        return
    drawn: set[int] = set()
    # 64 bits more than needed, so that the remainder is even to 2⁻⁶⁴.
    length = size.bit_length() // 8 + 9
    while len(drawn) < size:
        index = int.from_bytes(rng.bytes(length), "little") % size
        if index not in drawn:
            drawn.add(index)
            yield index
