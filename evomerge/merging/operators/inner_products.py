"""Inner products of models' tensors, and linear combinations of the tensors.

An operator that interpolates on a sphere gives a linear combination of its inputs, whose
coefficients follow from their inner products. Those are the same for every candidate and are
kept for the study, so that a candidate costs one pass over the tensors.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from evomerge.merging.operators.blocks import blocks, delta, total
from evomerge.merging.operators.contract import Blocks, Inputs
from evomerge.merging.operators.mixture import Mixture

if TYPE_CHECKING:
    from torch import Tensor, dtype

Vectors = Literal["tensor", "rows", "columns"]
"""What is a vector: the whole tensor, each row (last dimension), each column (first one)."""

_BLOCK = 1 << 17
"""Entries walked at once on a processor, unless one row is longer."""


def inner_products(inputs: Inputs, vectors: Vectors) -> "Tensor":
    """Every model's vectors times every model's; of differences to the base where there is one.

    Returns:
        float64 (float32 where the device has none), models × models × rows × columns, where
        rows is 1 unless rows are the vectors, and columns is 1 unless columns are.
    """

    def make() -> list["Tensor"]:
        return [_inner_products(inputs, vectors)]

    (found,) = inputs.once("inner products", (vectors, inputs.base is not None), make)
    return found


def combination(inputs: Inputs, shares: "Tensor", vectors: Vectors) -> Blocks:
    """``Σ_k shares_k x_k``, added to the base where there is one.

    Args:
        inputs: x_k are the tensors, or their differences to the base where there is one.
        shares: models × rows × columns, as of ``inner_products``.
        vectors: To which the shares belong.
    """
    base = None if inputs.base is None else inputs.base.reshape(-1)
    if vectors == "tensor":
        return Mixture(inputs.flat(), shares.flatten().tolist(), base)
    return _by_vector(inputs, shares.float(), vectors)


def walk(inputs: Inputs, vectors: Vectors = "tensor") -> Iterator[tuple[slice, list["Tensor"]]]:
    """Slices of the flattened tensor, with every model's entries there in float32.

    They are differences to the base where there is one. Slices begin and end with rows where
    rows or columns are the vectors. The memory is the caller's until the next slice.
    """
    tensors = inputs.flat()
    base = None if inputs.base is None else inputs.base.reshape(-1)
    width = _width(inputs.tensors[0], vectors)
    rows = [_row(tensor, width) for tensor in tensors]
    for block in _slices(tensors[0], vectors, width):
        parts = []
        for tensor, row in zip(tensors, rows, strict=True):
            if base is None:
                parts.append(row[: block.stop - block.start].copy_(tensor[block]))
            else:
                parts.append(delta(tensor, base, block, row))
        yield block, parts


def exact(like: "Tensor") -> "dtype":
    """float64, or float32 on devices without it."""
    import torch  # noqa: PLC0415 - see operators.contract

    return torch.float32 if like.device.type == "mps" else torch.float64


def _by_vector(inputs: Inputs, shares: "Tensor", vectors: Vectors) -> Blocks:
    base = None if inputs.base is None else inputs.base.reshape(-1)
    width = _width(inputs.tensors[0], vectors)
    for block, parts in walk(inputs, vectors):
        here = _rows(block, width) if vectors == "rows" else slice(None)
        for part, share in zip(parts, shares[:, here], strict=True):
            part.view(-1, width).mul_(share)
        mixed = parts[0]
        for part in parts[1:]:
            mixed.add_(part)
        yield block, mixed if base is None else mixed.add_(base[block])


def _inner_products(inputs: Inputs, vectors: Vectors) -> "Tensor":
    like, count = inputs.tensors[0], len(inputs.tensors)
    width = _width(like, vectors)
    rows = like.numel() // width if vectors == "rows" and like.numel() else 1
    columns = width if vectors == "columns" else 1
    products = like.new_zeros((count, count, rows, columns), dtype=exact(like))
    spare = _row(like.reshape(-1), width)
    for block, parts in walk(inputs, vectors):
        here = _rows(block, width) if vectors == "rows" else slice(None)
        for i in range(count):
            for j in range(i + 1):
                product = spare[: len(parts[i])].copy_(parts[i]).mul_(parts[j])
                if vectors == "tensor":
                    products[i, j] += total(product)
                else:
                    along = 1 if vectors == "rows" else 0
                    sums = product.view(-1, width).sum(dim=along, keepdim=True)
                    products[i, j, here] += sums
    return _symmetric(products)


def _symmetric(lower: "Tensor") -> "Tensor":
    for i in range(len(lower)):
        for j in range(i):
            lower[j, i] = lower[i, j]
    return lower


def _width(tensor: "Tensor", vectors: Vectors) -> int:
    """Length of a row; of the rows that columns are made of, for columns."""
    if vectors == "tensor" or tensor.ndim == 0 or not tensor.numel():
        return 1
    return tensor.shape[-1] if vectors == "rows" else tensor.numel() // tensor.shape[0]


def _rows(block: slice, width: int) -> slice:
    return slice(block.start // width, block.stop // width)


def _slices(row: "Tensor", vectors: Vectors, width: int) -> Iterator[slice]:
    if vectors == "tensor":
        yield from blocks(row)
        return
    at_once = max(1, _BLOCK // width) * width if row.device.type == "cpu" else row.numel()
    for start in range(0, row.numel(), max(1, at_once)):
        yield slice(start, min(start + at_once, row.numel()))


def _row(like: "Tensor", width: int) -> "Tensor":
    """Float32 memory for a slice."""
    import torch  # noqa: PLC0415 - see operators.contract

    length = like.numel()
    if like.device.type == "cpu":
        length = min(length, max(_BLOCK, width))
    return like.new_empty(length, dtype=torch.float32)
