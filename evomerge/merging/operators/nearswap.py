"""NearSwap: entries move from the base to a model, by a limited step."""

from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.inner_products import walk


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + lambda · clip(θ - θ0, -t, t)``.

    The method is told as interpolation by ``clip(t / |θ - θ0|, 0, 1)``, so that entries that
    are near are swapped; times the difference that is the clipped difference itself.
    """
    t, scale, base = inputs.settings.number("t"), inputs.scale, inputs.origin.reshape(-1)
    for block, (part,) in walk(inputs):
        row = part.clamp(-t, t).mul_(scale).add_(base[block])
        yield block, row.add_(part, alpha=0)  # an infinite entry is not clipped away unseen


NEARSWAP = Operator(
    name="nearswap",
    summary="base moved toward one model, each entry by t at most",
    merge=merge,
    parameters=(
        Parameter("t", "number", 1e-4, "largest change of an entry", low=0.0),
        LAMBDA,
        LINES,
    ),
    paper="NearSwap (alchemonaut, 2024, huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001)",
    needs_base=True,
    max_models=1,
)
