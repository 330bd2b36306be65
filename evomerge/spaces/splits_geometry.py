"""Norms and angles of split tables, from inner products of the seeds over runs of rows.

A vector that is piecewise ``Σ c_k θ_k`` has inner products ``Σ_segments c · G · c'``, where G
holds the inner products of the seeds over the segment: the difference of two prefix sums. So
no weights are read, however many tables there are. Noise directions have no prefix sums; tables
with noise are multiplied out, block of rows by block of rows, which suits small models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.spaces.splits_layout import FlatLayout
from evomerge.spaces.splits_noise import normals
from evomerge.spaces.splits_table import SplitTable

Gram = NDArray[np.float64]
"""``(rows + 1, models, models)``: at row r the inner products over all rows before r."""


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Neighbouring rows of one tensor."""

    first_row: int
    """Counted over the whole layout."""

    tensor: str
    first_entry: int
    """The flat index in the tensor at which the block begins."""

    models: Sequence[NDArray[np.float64]]
    """``(rows, width)``, one a model."""


class SeedWeights(Protocol):
    """The weights of the models that a search starts from, read when asked for."""

    def layout(self, names: Sequence[str]) -> FlatLayout:
        """How merges of the named models are laid out; only headers are read."""

    def blocks(self, names: Sequence[str]) -> Iterator[RowBlock]:
        """All rows of the named models in the layout's order; each is read once."""

    def gram(self, names: Sequence[str]) -> Gram:
        """Prefix sums over rows of the inner products of the named models."""


class SplitGeometry:
    """Inner products of split tables.

    Args:
        weights: The weights.
        seeds: Names of the seed models, in the order of the tables' coefficients.
        base: Name of the base model, for differences to it.
    """

    def __init__(self, weights: SeedWeights, seeds: Sequence[str], base: str | None) -> None:
        self._weights = weights
        self._seeds = tuple(seeds)
        self._base = base

    @cached_property
    def layout(self) -> FlatLayout:
        """The order of rows."""
        return self._weights.layout(self._seeds)

    @cached_property
    def _gram(self) -> Gram:
        return self._weights.gram(self._seeds)

    @cached_property
    def _based(self) -> Gram:
        """With the base as one model more."""
        return self._weights.gram((*self._seeds, *([self._base] if self._base else [])))

    def cosine(self, first: SplitTable, second: SplitTable) -> float:
        """Of the angle between two tables' whole vectors; NaN where one of them is 0."""
        tables = [first, second]
        if first.noise_seeds or second.noise_seeds:
            return _cosine(self._streamed(tables))
        return _cosine(_products(self._gram, [*map(self._of_seeds, tables)]))

    def kinship(self, first: SplitTable, second: SplitTable) -> float:
        """Cosine of two tables' task vectors, or of the vectors where there is no base.

        Noise is left out: random directions are at right angles to everything.
        """
        parts = [self._of_seeds(table) for table in (first, second)]
        if self._base is not None:
            parts = [
                _Part(part.starts, np.column_stack([part.values, -np.ones(len(part.starts))]))
                for part in parts
            ]
        return _cosine(_products(self._based, parts))

    def _of_seeds(self, table: SplitTable) -> "_Part":
        return _Part(table.starts, np.array(table.coefficients)[:, : table.seeds])

    def _streamed(self, tables: Sequence[SplitTable]) -> NDArray[np.float64]:
        """``(2, 2)`` inner products, every entry of both vectors computed."""
        products = np.zeros((2, 2))
        noise = sorted({seed for table in tables for seed in table.noise_seeds})
        for block in self._weights.blocks(self._seeds):
            rows, width = block.models[0].shape
            numbers = range(block.first_row, block.first_row + rows)
            wide = [table.expanded(numbers, noise) for table in tables]
            vectors = np.zeros((2, rows, width))
            for k, weights in enumerate(block.models):
                for vector, own in zip(vectors, wide, strict=True):
                    vector += own[:, k, None] * weights
            for k, seed in enumerate(noise, len(block.models)):
                made = normals(seed, block.tensor, block.first_entry, rows * width)
                for vector, own in zip(vectors, wide, strict=True):
                    vector += own[:, k, None] * made.reshape(rows, width)
            flat = vectors.reshape(2, -1)
            products += np.einsum("ie,je->ij", flat, flat)
        return products


@dataclass(frozen=True, eq=False)
class _Part:
    """A vector as runs of rows."""

    starts: Sequence[int]
    values: NDArray[np.float64]
    """``(segments, models)``."""


def _products(gram: Gram, parts: Sequence[_Part]) -> NDArray[np.float64]:
    """``(2, 2)`` inner products of two vectors."""
    starts = sorted({start for part in parts for start in part.starts})
    sums = gram[[*starts, len(gram) - 1]]
    segments = sums[1:] - sums[:-1]
    wide = np.stack(
        [p.values[np.searchsorted(p.starts, starts, side="right") - 1] for p in parts]
    )
    return np.asarray(np.einsum("isk,skl,jsl->ij", wide, segments, wide))


def _cosine(products: NDArray[np.float64]) -> float:
    squares = np.array([products[0, 0], products[1, 1]])
    if not (squares > 0).all():
        return float("nan")
    return float(np.clip(products[0, 1] / np.sqrt(squares).prod(), -1.0, 1.0))
