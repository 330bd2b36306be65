"""Weighted mean of directions of any number of models."""

import math

from evomerge.core.errors import TrialError
from evomerge.merging.operators.contract import WEIGHT, Blocks, Inputs, Operator, Parameter
from evomerge.merging.operators.inner_products import combination, inner_products

_CANCELLED = 1e-6
"""A mean direction this short beside its weights is rounding error in float32."""


def merge(inputs: Inputs) -> Blocks:
    """``m · Σ_k w_k ‖x_k‖`` with ``m = μ/‖μ‖`` and ``μ = Σ_k w_k x_k/(‖x_k‖ + eps)``.

    x_k are the models' tensors, or their differences to the base where the recipe has one; the
    result is then added to it. The method is told as interpolation in the tangent space at m,
    but the weighted tangents there always sum to 0: ``Σ w_k (u_k - (u_k·m) m) = μ - (μ·m) m``,
    so that only m and the mean norm are left. Where directions cancel, the weighted sum of the
    x_k stands in (mergekit fails there for more than two models).

    Raises:
        TrialError: Weights sum to 0 and are to be normalized.
    """
    import torch  # noqa: PLC0415 - see operators.contract

    weights = inputs.settings.of_models("weight")
    products = inner_products(inputs, "tensor")
    if len(weights) == 1:
        return combination(inputs, torch.ones_like(products[0]), "tensor")
    if inputs.settings.flag("normalize_weights"):
        whole = sum(weights)
        if whole == 0:
            raise TrialError(f"{inputs.key.tensor}: multislerp weights {weights} sum to 0.")
        weights = [weight / whole for weight in weights]
    shares = _shares(products.flatten(1).tolist(), weights, inputs.settings.number("eps"))
    return combination(inputs, products.new_tensor(shares).view(-1, 1, 1), "tensor")


def _shares(products: list[list[float]], weights: list[float], eps: float) -> list[float]:
    """The coefficient of every x_k in the result."""
    norms = [math.sqrt(row[k]) for k, row in enumerate(products)]
    # A vector of 0 has no direction, whatever its coefficient.
    directed = [
        w / (norm + eps) if norm else 0.0 for w, norm in zip(weights, norms, strict=True)
    ]
    square = sum(
        directed[i] * directed[j] * product
        for i, row in enumerate(products)
        for j, product in enumerate(row)
    )
    length = math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.nan
    if length <= max(eps, _CANCELLED * sum(map(abs, weights))):
        return weights
    norm = sum(w * n for w, n in zip(weights, norms, strict=True))
    return [share * norm / length for share in directed]


MULTISLERP = Operator(
    name="multislerp",
    summary="weighted mean of directions with the mean norm, of task vectors given a base",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "normalize_weights", "flag", default=True, summary="divide weights by their sum"
        ),
        Parameter("eps", "number", 1e-8, "added to norms", low=0.0, high=1e-3),
    ),
    paper="Multi-SLERP (Goddard, goddard.blog/posts/multislerp-wow-what-a-cool-idea)",
    takes_base=True,
)
