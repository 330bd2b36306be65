"""STAR: task vectors cut to their leading singular values and scaled up again."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.decompositions import singular_triplets
from evomerge.merging.operators.directions import (
    EMBEDDINGS,
    averaged,
    is_matrix,
    kept_directions,
    recombined,
    task_vector,
)

if TYPE_CHECKING:
    from torch import Tensor


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + scale · Σ w_k STAR(τ_k) / count`` for matrices, the weighted mean for the rest.

    STAR(τ) keeps the fewest leading singular values that make up a share ``eta`` of their sum,
    and scales them to that sum.
    """
    weights, eta = inputs.settings.of_models("weight"), inputs.settings.number("eta")
    if not is_matrix(inputs):
        return averaged(inputs, weights)
    directions = []
    for model in range(len(weights)):
        directions += kept_directions(
            inputs, "star", eta, partial(_truncated, inputs, model, eta), model
        )
    shares = [weight / len(weights) for weight in weights]
    return recombined(inputs, directions, shares)


def _truncated(inputs: Inputs, model: int, eta: float) -> Iterator["Tensor"]:
    vector = task_vector(inputs, model)
    triplets = singular_triplets(vector)
    if not triplets.rank:
        yield vector  # zero
        return
    mass = triplets.values.cumsum(0)
    kept = min(int((mass < eta * mass[-1]).sum()) + 1, triplets.rank)
    leading = triplets.first(kept)
    yield leading.product(leading.values * (mass[-1] / mass[kept - 1]))


STAR = Operator(
    name="star",
    summary="task vectors cut to their leading singular values, rescaled, averaged",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "eta",
            "number",
            0.4,
            "share of the sum of singular values kept; another value costs decompositions",
            low=0.0,
            high=1.0,
        ),
        LAMBDA,
        LINES,
        EMBEDDINGS,
    ),
    paper="STAR (Lee et al., 2025, arXiv:2502.10339)",
    needs_base=True,
)
