"""Task arithmetic that spares the weights that the base's activations rely on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import delta
from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.mixture import Mixture

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 1 << 17
"""Entries that stay in the processor's cache."""


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + lambda · (1 - (1 - omega) a) · Σ w_k (θ_k - θ0)``.

    ``a`` is the base's mean magnitude of each input of the layer, divided by the largest one:
    what multiplies the strongest input moves by a share of ``omega``, what multiplies none
    moves in full. Tensors without a statistic, such as embeddings, move in full.
    """
    importance = _importance(inputs)
    if importance is None:
        weights = inputs.settings.of_models("weight")
        return Mixture(inputs.flat(), weights, inputs.origin.reshape(-1), inputs.scale)
    return _relaxed(inputs, importance)


def _importance(inputs: Inputs) -> "Tensor | None":
    """Of each input, 0 … 1, in a shape that broadcasts over the tensor."""
    base = inputs.origin
    if not inputs.statistics or inputs.statistics[0] is None or base.numel() == 0:
        return None
    magnitude = inputs.statistics[0].to(base.device).float()
    sizes = list(zip(reversed(magnitude.shape), reversed(base.shape), strict=False))
    if magnitude.ndim > base.ndim or any(own not in (1, size) for own, size in sizes):
        return None
    largest = magnitude.max()
    return magnitude / largest if bool(largest > 0) else None


def _relaxed(inputs: Inputs, importance: "Tensor") -> "Iterator[tuple[slice, Tensor]]":
    """Whole rows at a time, over which the relaxation broadcasts."""
    base, scale = inputs.origin, inputs.scale
    weights, tensors = inputs.settings.of_models("weight"), inputs.flat()
    relaxation = 1 - (1 - inputs.settings.number("omega")) * importance
    start, width = base.reshape(-1), base.shape[-1] if base.ndim > 1 else base.numel()
    height = start.numel() // width
    by_row = relaxation.expand(base.shape).reshape(height, width)
    step = max(1, _AT_ONCE // width) if start.device.type == "cpu" else height
    mixed, part = (base.new_empty(step * width).float() for _ in range(2))
    for row in range(0, height, step):
        stop = min(row + step, height)
        block = slice(row * width, stop * width)
        moved = mixed[: block.stop - block.start].zero_()
        for tensor, weight in zip(tensors, weights, strict=True):
            moved.add_(delta(tensor, start, block, part), alpha=weight)
        moved.view(stop - row, width).mul_(by_row[row:stop])
        yield block, moved.mul_(scale).add_(start[block])


AIM = Operator(
    name="aim",
    summary="task arithmetic that spares weights of the base's strong activations",
    merge=merge,
    parameters=(
        WEIGHT,
        LAMBDA,
        LINES,
        Parameter(
            "omega", "number", 0.4, "share that the most relevant move", low=0.0, high=1.0
        ),
    ),
    paper="Activation-Informed Merging (Heyrani Nobari et al., 2025, arXiv:2502.02421)",
    needs_base=True,
    statistics="activations",
    zero_weight_drops_out=True,
)
