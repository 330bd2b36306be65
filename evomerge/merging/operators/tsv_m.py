"""TSV-M: singular vectors of the task vectors, made orthogonal across models."""

from collections.abc import Iterator
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
from evomerge.merging.operators.decompositions import polar_factor, singular_triplets
from evomerge.merging.operators.directions import (
    EMBEDDINGS,
    averaged,
    is_matrix,
    kept_directions,
    recombined,
    task_vectors,
)

if TYPE_CHECKING:
    from torch import Tensor


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + scale · Σ w_k U⊥_k S_k V⊥_kᵀ`` for matrices, the weighted mean for the rest.

    U⊥ and V⊥ are the polar factors of all models' kept singular vectors side by side. With
    weights of 1 it is the paper's merge (TSV-Merge), and one model gives itself.
    """
    weights, share = inputs.settings.of_models("weight"), inputs.settings.number("rank_share")
    if not is_matrix(inputs):
        return averaged(inputs, weights)
    rank = _kept_rank(inputs, share)
    directions = kept_directions(
        inputs, "tsv_m", rank, lambda: orthogonalised(task_vectors(inputs), rank)
    )
    return recombined(inputs, directions, weights)


def _kept_rank(inputs: Inputs, share: float) -> int:
    """Singular vectors kept of each model: by default as many as fit side by side."""
    models = max(1, len(inputs.tensors))
    return max(1, int(share * min(inputs.origin.shape) / models))


def orthogonalised(vectors: list["Tensor"], rank: int) -> Iterator["Tensor"]:
    """``U⊥_k S_k V⊥_kᵀ`` of every model.

    Where models share singular vectors, these are divided among them instead of being
    completed by arbitrary ones, as a plain decomposition of the joint vectors would.

    Args:
        vectors: Task vectors, 2-D, finite, not empty.
        rank: Singular triplets kept of each.
    """
    if len(vectors) == 1 and rank == min(vectors[0].shape):
        yield vectors[0]
        return
    import torch  # noqa: PLC0415 - see operators.contract

    kept = [singular_triplets(vector, rank) for vector in vectors]
    if not sum(triplets.rank for triplets in kept):
        yield from vectors  # all of them are zero
        return
    left = polar_factor(torch.cat([triplets.left for triplets in kept], 1))
    right = polar_factor(torch.cat([triplets.right for triplets in kept]))
    start = 0
    for triplets in kept:
        own = slice(start, start + triplets.rank)
        yield (left[:, own] * triplets.values) @ right[own]
        start = own.stop


TSV_M = Operator(
    name="tsv_m",
    summary="leading singular vectors of each model, orthogonalised across models",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "rank_share",
            "number",
            1.0,
            "part kept of a model's share of the rank; another value costs decompositions",
            low=0.0,
            high=1.0,
        ),
        LAMBDA,
        LINES,
        EMBEDDINGS,
    ),
    paper="Task Singular Vectors (Gargiulo et al., 2025, arXiv:2412.00081)",
    needs_base=True,
)
