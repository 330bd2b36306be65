"""Singular triplets, polar factors and inverses of matrices, in float64.

A task vector of a linear layer is decomposed through the smaller of its two Gram matrices; for
an embedding of 49152 × 576 this takes seconds. Squaring halves the digits, so float64 gives
singular values to about 1e-8 of the largest one: far below the rounding of the float32 task
vectors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_FLOAT32_ROUNDING = 2.0**-23
_ROWS_AT_ONCE = 1 << 12
"""Of a tall matrix, so that its float64 copy stays small."""


@dataclass(frozen=True)
class SingularTriplets:
    """``matrix = left · diag(values) · right``, without the numerical null space."""

    left: "Tensor"
    """(rows, rank), orthonormal columns, float64."""

    values: "Tensor"
    """(rank,), positive and falling."""

    right: "Tensor"
    """(rank, columns), orthonormal rows."""

    @property
    def rank(self) -> int:
        """How many triplets there are."""
        return self.values.numel()

    def first(self, count: int) -> "SingularTriplets":
        """The largest ones, at most ``count`` of them."""
        return SingularTriplets(self.left[:, :count], self.values[:count], self.right[:count])

    def product(self, values: "Tensor") -> "Tensor":
        """The matrix with these values in place of its own."""
        return (self.left * values) @ self.right


def singular_triplets(matrix: "Tensor", most: int | None = None) -> SingularTriplets:
    """Singular values above rounding, with their vectors, largest first.

    The null space is left out instead of given arbitrary vectors, so that methods which raise
    small singular values or orthogonalise vectors do not add noise where a task vector is of
    low rank. Rounding is ``max(shape) · 2^-23`` of the largest value, the usual measure of rank
    for float32 entries. The signs of a pair of vectors are arbitrary: use only what is the same
    if both change.

    Args:
        matrix: 2-D, finite, not empty, any floating dtype.
        most: How many triplets are wanted; all by default.
    """
    import torch  # noqa: PLC0415 - see operators.contract

    wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if wide else matrix
    squares, vectors = torch.linalg.eigh(gram(tall))
    values = squares.clamp_min(0).sqrt().flip(0)
    above = values > values[0] * (max(matrix.shape) * _FLOAT32_ROUNDING)
    rank = int(above.sum())
    rank = rank if most is None else min(rank, most)
    values, vectors = values[:rank], vectors.flip(1)[:, :rank]
    images = tall.new_empty(tall.shape[0], rank, dtype=vectors.dtype)
    for rows in _row_chunks(tall):
        images[rows] = tall[rows].double() @ vectors
    images /= values
    left, right = (vectors, images.T) if wide else (images, vectors.T)
    return SingularTriplets(left, values, right)


def polar_factor(matrix: "Tensor") -> "Tensor":
    """The nearest matrix whose singular values are all 1, or 0 in the null space.

    Columns that coincide share one direction among them.
    """
    triplets = singular_triplets(matrix)
    return triplets.left @ triplets.right


def gram(matrix: "Tensor") -> "Tensor":
    """``matrixᵀ · matrix`` in float64, (columns, columns)."""
    columns = matrix.shape[1]
    result = matrix.new_zeros(columns, columns).double()
    for rows in _row_chunks(matrix):
        part = matrix[rows].double()
        result += part.T @ part
    return result


def definite_inverse(matrix: "Tensor") -> "Tensor":
    """The inverse of a positive definite float64 matrix."""
    import torch  # noqa: PLC0415 - see operators.contract

    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))


def _row_chunks(matrix: "Tensor") -> Iterator[slice]:
    step = _ROWS_AT_ONCE if matrix.device.type == "cpu" else max(1, matrix.shape[0])
    for start in range(0, matrix.shape[0], step):
        yield slice(start, start + step)
