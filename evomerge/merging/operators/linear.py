"""Weighted average of models (model soups)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.core.errors import TrialError
from evomerge.merging.operators.blocks import blocks, buffers, flat
from evomerge.merging.operators.contract import (
    WEIGHT,
    Blocks,
    MaskKey,
    Operator,
    Parameter,
    Settings,
)

if TYPE_CHECKING:
    from torch import Tensor


def merge(
    tensors: Sequence["Tensor"], base: "Tensor | None", settings: Settings, key: MaskKey
) -> Blocks:
    """``sum(w_k θ_k) / sum(w_k)``; with ``normalize`` false the plain weighted sum."""
    del base
    weights = settings.of_models("weight")
    if settings.flag("normalize"):
        whole = sum(weights)
        if whole == 0:
            raise TrialError(f"{key.tensor}: linear weights {weights} sum to 0.")
        weights = [weight / whole for weight in weights]
    rows = [flat(tensor) for tensor in tensors]
    (buffer,) = buffers(rows[0], 1)
    for block in blocks(rows[0]):
        result = buffer[: block.stop - block.start].copy_(rows[0][block]).mul_(weights[0])
        for row, weight in zip(rows[1:], weights[1:], strict=True):
            result.add_(row[block], alpha=weight)
        yield block, result


LINEAR = Operator(
    name="linear",
    summary="weighted average of the models",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter("normalize", "flag", default=True, summary="divide by the sum of weights"),
    ),
    paper="Model soups (Wortsman et al., 2022, arXiv:2203.05482)",
    zero_weight_drops_out=True,
)
