"""Spherical interpolation between two models."""

import math

from evomerge.merging.operators.contract import Blocks, Inputs, Operator, Parameter
from evomerge.merging.operators.inner_products import inner_products
from evomerge.merging.operators.mixture import Mixture

COLINEAR = 0.9995
"""Above this absolute cosine the arc is taken to be straight."""


def merge(inputs: Inputs) -> Blocks:
    """Shoemake's interpolation of the two flattened tensors a (t = 0) and b (t = 1).

    With the angle Ω between them, ``sin((1-t)Ω)/sinΩ · a + sin(tΩ)/sinΩ · b``, so that norms
    are interpolated too. Where ``|cos Ω| > 0.9995`` or a tensor is zero, linear interpolation.
    """
    t = inputs.settings.number("t")
    a, b = inputs.flat()
    share_a, share_b = _shares(_cosine(inputs) if 0 < t < 1 else 1.0, t)
    # Shares of 0 drop out, so that t = 0 and t = 1 give the models themselves.
    shared = [(row, share) for row, share in ((a, share_a), (b, share_b)) if share]
    return Mixture([row for row, _ in shared], [share for _, share in shared])


def _cosine(inputs: Inputs) -> float:
    (norm_a, inner), (_, norm_b) = inner_products(inputs, "tensor").reshape(2, 2).tolist()
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
