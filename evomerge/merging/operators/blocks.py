"""Tensors walked in blocks that stay in the processor's cache.

Element-wise work on a block at a time through one reused buffer is several times quicker than
on whole tensors, whose intermediate results go through main memory.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, dtype

_BLOCK = 1 << 17
_REDUCED_AT_ONCE = 1 << 15
"""torch sums so few entries on one thread, so sums do not depend on the thread count."""


def blocks(like: "Tensor") -> Iterator[slice]:
    """Slices that cover the flattened tensor; one slice on an accelerator."""
    step = _BLOCK if like.device.type == "cpu" else max(1, like.numel())
    for start in range(0, like.numel(), step):
        yield slice(start, min(start + step, like.numel()))


def flat(tensor: "Tensor") -> "Tensor":
    """The tensor as one row."""
    return tensor.reshape(-1)


def buffers(like: "Tensor", count: int) -> list["Tensor"]:
    """Float32 rows as long as a block."""
    length = min(like.numel(), _BLOCK) if like.device.type == "cpu" else like.numel()
    return [like.new_empty(length, dtype=_float32()) for _ in range(count)]


def delta(tensor: "Tensor", base: "Tensor", block: slice, buffer: "Tensor") -> "Tensor":
    """``tensor - base`` of one block in float32, in the buffer; both flat."""
    out = buffer[: block.stop - block.start]
    return out.copy_(tensor[block]).sub_(base[block])


def total(row: "Tensor") -> float:
    """The sum of a float32 row, the same for any number of threads."""
    step = _REDUCED_AT_ONCE if row.device.type == "cpu" else max(1, row.numel())
    return sum(float(row[start : start + step].sum()) for start in range(0, row.numel(), step))


def _float32() -> "dtype":
    import torch  # noqa: PLC0415 - see operators.contract

    return torch.float32
