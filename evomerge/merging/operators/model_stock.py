"""Model Stock: the average drawn to the base as far as the models disagree."""

from itertools import combinations

from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.inner_products import Vectors, combination, inner_products

_SHORTEST = 1e-6
"""Least product of two norms by which an inner product is divided, as in mergekit."""


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + lambda · t · mean(θ_k - θ0)`` with ``t = M cosθ / (1 + (M - 1) cosθ)``.

    cosθ is the mean cosine of the angles between the M task vectors, of the whole tensor or,
    with ``filter_wise``, of each row (section 4.2 of the paper). Task vectors that point apart
    (cosθ < 0) leave the base: t is kept in [0, 1], as in the paper, where mergekit goes beyond
    the base and near ``cosθ = -1/(M - 1)`` arbitrarily far.
    """
    vectors: Vectors = "rows" if inputs.settings.flag("filter_wise") else "tensor"
    products = inner_products(inputs, vectors)
    count = len(products)
    norms = [products[k, k].sqrt() for k in range(count)]
    cosines = [
        (products[i, j] / (norms[i] * norms[j]).clamp(min=_SHORTEST)).clamp(-1.0, 1.0)
        for i, j in combinations(range(count), 2)
    ]
    cosine = (sum(cosines[1:], cosines[0]) / len(cosines)).clamp(min=0.0)
    share = cosine * (inputs.scale / (1.0 + (count - 1) * cosine))
    return combination(inputs, share.expand(count, *share.shape), vectors)


MODEL_STOCK = Operator(
    name="model_stock",
    summary="base plus the mean task vector, the shorter the more the models disagree",
    merge=merge,
    parameters=(
        LAMBDA,
        LINES,
        Parameter(
            "filter_wise", "flag", default=False, summary="a share for each row, not tensor"
        ),
    ),
    paper="Model Stock (Jang et al., 2024, arXiv:2403.19522)",
    needs_base=True,
    min_models=2,
)
