"""Ranks of a task vector's entries among those of their row, which DELLA's chances follow."""

from typing import TYPE_CHECKING

from evomerge.merging.operators.contract import Inputs
from evomerge.merging.operators.kept import RANK_STEPS

if TYPE_CHECKING:
    from torch import Tensor

_ENTRIES_AT_ONCE = 1 << 22
"""Sorting takes eight bytes an entry and more, so long tensors are ranked in parts."""


def row_ranks(inputs: Inputs, model: int) -> "Tensor":
    """The rank of ``|tensor - base|`` in its row: 0 smallest, ``RANK_STEPS`` largest; uint8.

    A row is what the last dimension runs over; a vector is one row. Equal magnitudes rank in
    the order of memory. In a row of one entry the rank is the middle one. Once per study.
    """
    (ranks,) = inputs.once("row ranks", (), lambda: [_ranked(inputs, model)], model)
    return ranks


def _ranked(inputs: Inputs, model: int) -> "Tensor":
    import torch  # noqa: PLC0415 - see operators.contract

    tensor, origin = inputs.tensors[model], inputs.origin
    width = tensor.shape[-1] if tensor.dim() else 1
    rows, base = tensor.reshape(-1, width), origin.reshape(-1, width)
    ranks = torch.full(rows.shape, RANK_STEPS // 2, dtype=torch.uint8, device=tensor.device)
    if width > 1:
        steps = (
            torch.arange(width, device=tensor.device)
            .float()
            .mul_(RANK_STEPS)
            .div_(width - 1)
            .round_()
        )
        step = max(1, _ENTRIES_AT_ONCE // width)
        for first in range(0, len(rows), step):
            part = slice(first, first + step)
            order = (rows[part].float() - base[part].float()).abs_()
            ranks[part].scatter_(1, _ascending(order), steps.byte().expand_as(order))
    return ranks.reshape(-1)


def _ascending(magnitudes: "Tensor") -> "Tensor":
    """Where the entries of every row stand in rising order, equal ones in that of memory."""
    import torch  # noqa: PLC0415 - see operators.contract

    if magnitudes.device.type != "cpu":
        return magnitudes.sort(dim=1, stable=True).indices
    # Place and magnitude in one number sort several times quicker than torch's stable sort.
    keys = magnitudes.view(torch.int32).long().bitwise_left_shift_(32)
    keys.add_(torch.arange(keys.shape[1]))
    keys.numpy().sort(axis=1)
    return keys.bitwise_and_(0xFFFFFFFF)
