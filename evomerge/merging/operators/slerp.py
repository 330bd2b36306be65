"""Spherical interpolation between two models."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import blocks, buffers, flat, total
from evomerge.merging.operators.contract import Blocks, MaskKey, Operator, Parameter, Settings

if TYPE_CHECKING:
    from torch import Tensor

COLINEAR = 0.9995
"""Above this absolute cosine the arc is taken to be straight."""


def merge(
    tensors: Sequence["Tensor"], base: "Tensor | None", settings: Settings, key: MaskKey
) -> Blocks:
    """Shoemake's interpolation of the two flattened tensors a (t = 0) and b (t = 1).

    With the angle Ω between them, ``sin((1-t)Ω)/sinΩ · a + sin(tΩ)/sinΩ · b``, so that norms
    are interpolated too. Where ``|cos Ω| > 0.9995`` or a tensor is zero, linear interpolation.
    """
    del base, key
    t = settings.number("t")
    a, b = (flat(tensor) for tensor in tensors)
    share_a, share_b = _shares(_cosine(a, b) if 0 < t < 1 else 1.0, t)
    # Shares of 0 drop out, so that t = 0 and t = 1 give the models themselves.
    first, second = (a, b) if share_a else (b, a)
    kept, added = (share_a, share_b) if share_a else (share_b, 0.0)
    (buffer,) = buffers(a, 1)
    for block in blocks(a):
        result = buffer[: block.stop - block.start].copy_(first[block]).mul_(kept)
        yield block, result.add_(second[block], alpha=added) if added else result


def _cosine(a: "Tensor", b: "Tensor") -> float:
    inner = norm_a = norm_b = 0.0
    x, y, product = buffers(a, 3)
    for block in blocks(a):
        size = block.stop - block.start
        p, q, r = x[:size].copy_(a[block]), y[:size].copy_(b[block]), product[:size]
        inner += total(r.copy_(p).mul_(q))
        norm_a += total(p.mul_(p))
        norm_b += total(q.mul_(q))
    norms = math.sqrt(norm_a) * math.sqrt(norm_b)
    return max(-1.0, min(1.0, inner / norms)) if norms > 0 else 1.0


def _shares(cosine: float, t: float) -> tuple[float, float]:
    # A NaN cosine, from a NaN in a source, falls through to non-finite shares on purpose.
    if abs(cosine) > COLINEAR:
        return 1.0 - t, t
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


SLERP = Operator(
    name="slerp",
    summary="spherical interpolation from the first model (t = 0) to the second (t = 1)",
    merge=merge,
    parameters=(Parameter("t", "number", 0.5, "place on the arc", low=0.0, high=1.0),),
    paper="Animating rotation with quaternion curves (Shoemake, 1985)",
    min_models=2,
    max_models=2,
)
