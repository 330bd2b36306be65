"""Sums over the entries of several models, from which all measures of their kinship follow.

One tensor of every model is read after the other, in blocks that stay in the processor's
cache; sums are float64.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evomerge.core.errors import CheckpointError
from evomerge.merging.shared_tensors import NamedModels, SharedTensor

_BLOCK = 1 << 15
"""Entries of each model that are worked on at once, unless one row is longer."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class PairwiseSums:
    """What all measures follow from, over some of the entries."""

    products: Matrix
    """Of every vector and every other."""

    totals: Matrix
    """Of every vector's entries."""

    squared_distances: Matrix
    """Of pairs, in the order of ``numpy.triu_indices``."""

    signs: Matrix
    """Entries of equal sign less those of unlike ones."""

    signed: Matrix
    """Entries that neither has at 0."""

    column_cosines: Matrix
    """Their means, summed over matrices."""

    matrices: Matrix
    """How many matrices have a column that is not zero in both."""

    base: float
    """Square of the base's norm."""

    def plus(self, other: "PairwiseSums") -> "PairwiseSums":
        """Over the entries of both."""
        mine, theirs = vars(self), vars(other)
        return PairwiseSums(**{name: mine[name] + theirs[name] for name in mine})


def pairwise_sums(
    tensors: Sequence[SharedTensor], models: NamedModels, *, has_base: bool
) -> Iterator[PairwiseSums]:
    """The sums of each tensor, in order; as many at a time as torch has threads.

    Args:
        tensors: What is compared.
        models: In the order of the tensors' names.
        has_base: Whether the first model is the base; the vectors are the others less it.

    Raises:
        CheckpointError: Weights that are not finite, or that cannot be read.
    """
    threads = torch.get_num_threads()
    # On one thread each, so that sums do not depend on how many there are.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        started = [pool.submit(_sums, tensor, models, has_base=has_base) for tensor in tensors]
        for done in started:
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _sums(tensor: SharedTensor, models: NamedModels, *, has_base: bool) -> PairwiseSums:
    pairs = zip(models, tensor.stored, strict=True)
    rows = [model.read(name).reshape(-1)[: tensor.entries] for (_, model), name in pairs]
    base = rows.pop(0) if has_base else None
    count = len(rows)
    inverse = _inverse_norms(rows, tensor.width) if tensor.matrix else None
    square = torch.zeros(count, count, dtype=torch.float64)
    products, signs, signed, cosines = (square.clone() for _ in range(4))
    totals = square.new_zeros(count)
    distances = square.new_zeros(count * (count - 1) // 2)
    base_square = 0.0
    for block, part in _walk(rows, tensor.width):
        if inverse is not None:
            scaled = part.view(count, -1, tensor.width) * inverse[:, None]
            cosines += _gram(scaled.view(count, -1))
        if base is not None:
            below = base[block].double()
            base_square += float(below.dot(below))
            part.sub_(below)
        products += _gram(part)
        totals += part.sum(dim=1)
        distances += torch.pdist(part).square_()
        sign = part.sign().float()  # so few entries are counted without rounding
        signs += _gram(sign)
        signed += _gram(sign.abs_())
    squares = [base_square] * has_base + products.diag().tolist()
    _check_finite(squares, tensor, models, has_base=has_base)
    # Columns that are zero in both say nothing.
    columns = square if inverse is None else tensor.width - _gram((inverse == 0).double())
    return PairwiseSums(
        products.numpy(),
        totals.numpy(),
        distances.numpy(),
        signs.numpy(),
        signed.numpy(),
        torch.where(columns > 0, cosines / columns.clamp(min=1), 0.0).numpy(),
        (columns > 0).double().numpy(),
        base_square,
    )


def _gram(vectors: torch.Tensor) -> torch.Tensor:
    return vectors @ vectors.T


def _inverse_norms(rows: Sequence[torch.Tensor], width: int) -> torch.Tensor:
    """``(models, columns)``: one over the norm of each column, 0 for a zero column."""
    squares = torch.zeros(len(rows), width, dtype=torch.float64)
    for _, part in _walk(rows, width):
        squares += part.square_().view(len(rows), -1, width).sum(dim=1)
    return torch.where(squares > 0, squares.rsqrt(), 0.0)


def _walk(rows: Sequence[torch.Tensor], width: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Whole rows of all models at a time in float64, ``(models, entries)``.

    The memory is the caller's until the next block.
    """
    entries = rows[0].numel()
    step = max(1, _BLOCK // width) * width
    spare = torch.empty(len(rows), min(step, entries), dtype=torch.float64)
    for start in range(0, entries, step):
        block = slice(start, min(start + step, entries))
        part = spare[:, : block.stop - start]
        for k, row in enumerate(rows):
            part[k].copy_(row[block])
        yield block, part


def _check_finite(
    squares: Sequence[float], tensor: SharedTensor, models: NamedModels, *, has_base: bool
) -> None:
    wrong = [not math.isfinite(square) for square in squares]
    if has_base and wrong[0]:
        wrong[1:] = [False] * (len(wrong) - 1)  # differences to it are not finite either
    lines = [
        f"{name}: {stored} holds NaN or infinite weights, which cannot be compared; fetch the "
        "model again, or leave it out."
        for (name, _), stored, bad in zip(models, tensor.stored, wrong, strict=True)
        if bad
    ]
    if lines:
        raise CheckpointError("\n".join(lines))
