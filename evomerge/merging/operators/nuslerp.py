"""Spherical interpolation by weights, of whole tensors, rows or columns."""

from evomerge.merging.operators.contract import WEIGHT, Blocks, Inputs, Operator, Parameter
from evomerge.merging.operators.inner_products import Vectors, combination, inner_products

_NO_WEIGHT = 1e-6
_SHORTEST = 1e-7
_STRAIGHT = 1e-16
_OPPOSITE = 2.0**-24 - 1.0
"""A cosine below is -1 in float32, and an arc's shares would magnify the entries' rounding."""


def merge(inputs: Inputs) -> Blocks:
    """``sin((1-t)Ω)/sinΩ · a + sin(tΩ)/sinΩ · b`` with ``t = w_b / (w_a + w_b)``.

    a and b are the two models' vectors, or their differences to the base where the recipe has
    one; the result is then added to it. Linear where the vectors are parallel or opposite;
    weights that cancel count as equal. A vector of 0 counts as one at a right angle, so that of
    a zero and b the result is ``sin(tπ/2) · b``: that is mergekit's behaviour.
    """
    import torch  # noqa: PLC0415 - see operators.contract

    vectors: Vectors = "columns" if inputs.settings.flag("nuslerp_row_wise") else "rows"
    if inputs.settings.flag("nuslerp_flatten"):
        vectors = "tensor"
    first, second = inputs.settings.of_models("weight")
    whole = first + second
    t = second / whole if abs(whole) >= _NO_WEIGHT else 0.5
    products = inner_products(inputs, vectors)
    norms = [products[k, k].sqrt().clamp(min=_SHORTEST) for k in range(2)]
    cosine = (products[0, 1] / (norms[0] * norms[1])).clamp(-1.0, 1.0)
    straight = (1.0 - cosine.square() <= _STRAIGHT) | (cosine <= _OPPOSITE)
    angle = cosine.where(~straight, 0.0).acos()
    arcs = torch.stack([((1.0 - t) * angle).sin(), (t * angle).sin()]) / angle.sin()
    line = torch.tensor([1.0 - t, t], dtype=arcs.dtype, device=arcs.device).view(2, 1, 1)
    return combination(inputs, torch.where(straight, line, arcs), vectors)


NUSLERP = Operator(
    name="nuslerp",
    summary="spherical interpolation of two models by weights, of task vectors given a base",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "nuslerp_flatten",
            "flag",
            default=True,
            summary="take the whole tensor as one vector; if not, each row",
        ),
        Parameter(
            "nuslerp_row_wise",
            "flag",
            default=False,
            summary="if not flattened, take columns (first dimension) as vectors",
        ),
    ),
    paper="Animating rotation with quaternion curves (Shoemake, 1985); mergekit's NuSLERP",
    takes_base=True,
    min_models=2,
    max_models=2,
)
