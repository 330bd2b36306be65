"""Consensus task arithmetic: only entries that several models need (TALL-masks)."""

from evomerge.merging.operators.blocks import blocks, buffers, delta, flat
from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + scale · τ [Σ_k m_k ≥ agreement]``, τ the weighted sum of task vectors.

    ``m_k = [|w_k τ_k| > threshold_k · |τ - w_k τ_k|]``: the entry matters to model k, since
    the others do not drown it. With fewer models than ``agreement`` all have to agree; models
    of weight 0 do not count.
    """
    settings = inputs.settings
    weights, thresholds = settings.of_models("weight"), settings.of_models("threshold")
    taking_part = sum(weight != 0 for weight in weights)
    needed = min(settings.number("agreement"), taking_part)
    start, rows = flat(inputs.origin), inputs.flat()
    total, votes, *parts = buffers(start, 2 + len(rows))
    spare, merged = buffers(start, 2)
    for block in blocks(start):
        size = block.stop - block.start
        tau, count = total[:size].zero_(), votes[:size].zero_()
        own = []
        for row, weight, part in zip(rows, weights, parts, strict=True):
            own.append(delta(row, start, block, part).mul_(weight))
            tau.add_(own[-1])
        others = spare[:size]
        for part, threshold in zip(own, thresholds, strict=True):
            others.copy_(tau).sub_(part).abs_().mul_(threshold)
            count.add_(part.abs_().gt(others))
        out = merged[:size].copy_(start[block])
        yield block, out.add_(tau.mul_(count.ge_(needed)), alpha=inputs.scale)


CONSENSUS_TA = Operator(
    name="consensus_ta",
    summary="task arithmetic on the entries that several models need",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "threshold",
            "number",
            0.4,
            "an entry matters to a model if it exceeds this share of the others' sum",
            per_model=True,
            low=0.0,
            high=1e6,
        ),
        Parameter(
            "agreement",
            "number",
            2.0,
            "how many models an entry has to matter to",
            low=0.0,
            high=1e6,
        ),
        LAMBDA,
        LINES,
    ),
    paper="TALL-masks (Wang et al., 2024, arXiv:2405.07813)",
    needs_base=True,
    zero_weight_drops_out=True,
)
