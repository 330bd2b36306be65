"""EMR: the largest change among the models that agree in sign with their sum."""

from evomerge.merging.operators.blocks import blocks, buffers, delta, flat
from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
)


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + scale · γ · max_k |w_k τ_k|`` over the models with sign γ, that of ``Σ w_k τ_k``.

    This is the elected, unified task vector of EMR-Merging. The paper's masks and rescalers of
    each task, which pick a task's own model from it again, are no part of one merged model. A
    sum of 0 counts as positive.
    """
    weights = inputs.settings.of_models("weight")
    start, rows = flat(inputs.origin), inputs.flat()
    total, largest, merged, *parts = buffers(start, 3 + len(rows))
    for block in blocks(start):
        size = block.stop - block.start
        sign, magnitude = total[:size].zero_(), largest[:size].zero_()
        own = []
        for row, weight, part in zip(rows, weights, parts, strict=True):
            own.append(delta(row, start, block, part).mul_(weight))
            sign.add_(own[-1])
        sign.ge_(0).mul_(2).sub_(1)
        for part in own:
            magnitude.copy_(magnitude.maximum(part.mul_(sign)))
        out = merged[:size].copy_(start[block])
        yield block, out.add_(magnitude.mul_(sign), alpha=inputs.scale)


EMR = Operator(
    name="emr",
    summary="largest change among the models that agree in sign with the sum",
    merge=merge,
    parameters=(WEIGHT, LAMBDA, LINES),
    paper="EMR-Merging, the elect step (Huang et al., 2024, arXiv:2405.17461)",
    needs_base=True,
    zero_weight_drops_out=True,
)
