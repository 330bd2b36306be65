"""Weighted sum of task vectors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import blocks, buffers, delta, flat
from evomerge.merging.operators.contract import (
    LAMBDA,
    WEIGHT,
    Blocks,
    MaskKey,
    Operator,
    Parameter,
    Settings,
    needed,
)

if TYPE_CHECKING:
    from torch import Tensor

_NO_WEIGHT = 1e-8


def merge(
    tensors: Sequence["Tensor"], base: "Tensor | None", settings: Settings, key: MaskKey
) -> Blocks:
    """``θ0 + lambda · Σ w_k (θ_k - θ0)``, ``normalize`` divides the sum by ``Σ w_k``."""
    origin = needed(base, key)
    weights, scale = settings.of_models("weight"), settings.number("lambda")
    whole = sum(weights)
    if settings.flag("normalize") and abs(whole) >= _NO_WEIGHT:
        weights = [weight / whole for weight in weights]
    start, rows = flat(origin), [flat(tensor) for tensor in tensors]
    mixed, part, merged = buffers(origin, 3)
    for block in blocks(start):
        sum_ = mixed[: block.stop - block.start].zero_()
        for row, weight in zip(rows, weights, strict=True):
            sum_.add_(delta(row, start, block, part), alpha=weight)
        out = merged[: block.stop - block.start].copy_(start[block])
        yield block, out.add_(sum_, alpha=scale)


TASK_ARITHMETIC = Operator(
    name="task_arithmetic",
    summary="base plus the weighted sum of task vectors",
    merge=merge,
    parameters=(
        WEIGHT,
        LAMBDA,
        Parameter("normalize", "flag", default=False, summary="divide by the sum of weights"),
    ),
    paper="Task arithmetic (Ilharco et al., 2023, arXiv:2212.04089)",
    needs_base=True,
    zero_weight_drops_out=True,
)
