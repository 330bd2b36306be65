"""Average of models, each entry weighted by the model's Fisher information."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.averaging import SHARE, average, shares
from evomerge.merging.operators.blocks import blocks, buffers
from evomerge.merging.operators.contract import Blocks, Inputs, Operator, Parameter

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 1e-30
"""Less information than this counts as none."""


def merge(inputs: Inputs) -> Blocks:
    """``Σ w_k F_k θ_k / Σ w_k F_k`` entry by entry, ``floor`` added to every ``F_k``.

    ``F_k`` is the diagonal of model k's Fisher information, with mean 1 over the model. Where
    no model has any the result is the plain average, and so it is for tensors of which a model
    has no statistic.
    """
    known = [fisher for fisher in inputs.statistics if fisher is not None]
    if len(known) < len(inputs.tensors):
        return average(inputs)
    device = inputs.tensors[0].device
    return _weighted(inputs, [fisher.to(device).reshape(-1) for fisher in known])


def _weighted(inputs: Inputs, fishers: "Sequence[Tensor]") -> "Iterator[tuple[slice, Tensor]]":
    """The plain average and what differs from it, so that equal models give themselves."""
    weights = shares(inputs.settings.of_models("weight"))
    rows, floor = inputs.flat(), inputs.settings.number("floor")
    mean, top, bottom, information, difference = buffers(rows[0], 5)
    for block in blocks(rows[0]):
        size = block.stop - block.start
        merged = mean[:size].zero_()
        for row, weight in zip(rows, weights, strict=True):
            merged.add_(row[block], alpha=weight)
        numerator, divisor = top[:size].zero_(), bottom[:size].zero_()
        for row, fisher, weight in zip(rows, fishers, weights, strict=True):
            share = information[:size].copy_(fisher[block]).add_(floor).mul_(weight)
            numerator.addcmul_(share, difference[:size].copy_(row[block]).sub_(merged))
            divisor.add_(share)
        yield block, merged.add_(numerator.div_(divisor.clamp_(min=_LEAST)))


FISHER = Operator(
    name="fisher",
    summary="average weighted entry by entry by Fisher information",
    merge=merge,
    parameters=(
        SHARE,
        Parameter(
            "floor",
            "number",
            1e-6,
            "added to the information, whose mean is 1",
            low=0.0,
        ),
    ),
    paper="Fisher-weighted averaging (Matena & Raffel, 2022, arXiv:2111.09832)",
    statistics="fisher",
    zero_weight_drops_out=True,
)
