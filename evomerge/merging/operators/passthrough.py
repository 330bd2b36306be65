"""One model's tensor as it is, or scaled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import blocks, buffers, flat
from evomerge.merging.operators.contract import Blocks, MaskKey, Operator, Parameter, Settings

if TYPE_CHECKING:
    from torch import Tensor


def merge(
    tensors: Sequence["Tensor"], base: "Tensor | None", settings: Settings, key: MaskKey
) -> Blocks:
    """``scale · θ``."""
    del base, key
    (scale,) = settings.of_models("scale")
    row = flat(tensors[0])
    (buffer,) = buffers(row, 1)
    for block in blocks(row):
        copy = buffer[: block.stop - block.start].copy_(row[block])
        yield block, copy if scale == 1.0 else copy.mul_(scale)


PASSTHROUGH = Operator(
    name="passthrough",
    summary="the tensor of one model, optionally scaled",
    merge=merge,
    parameters=(Parameter("scale", "number", 1.0, "factor of the tensor", per_model=True),),
    paper="layer stacking, no paper",
    max_models=1,
)
