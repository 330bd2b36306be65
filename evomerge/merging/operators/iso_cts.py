"""Iso-CTS: common and task-specific singular directions, all equally strong."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
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
    summed,
    task_vectors,
)

if TYPE_CHECKING:
    from torch import Tensor


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + scale · σ̄ U⊥ V⊥ᵀ`` for matrices, the mean for the rest.

    U and V hold the leading singular vectors of the summed task vector and, of each task
    vector without the span of those, its own leading ones; ⊥ is the polar factor and σ̄ the
    mean of the singular values taken. No weights of models, as for ``iso_c``.
    """
    if not is_matrix(inputs):
        return averaged(inputs)
    share = inputs.settings.number("common_share")
    common, own = ranks(min(inputs.origin.shape), len(inputs.tensors), share)
    directions = kept_directions(
        inputs, "iso_cts", (common, own), lambda: _isotropic(task_vectors(inputs), common, own)
    )
    return recombined(inputs, directions, [1.0])


def ranks(rank: int, models: int, share: float) -> tuple[int, int]:
    """How many common directions and how many of each model make up the rank."""
    own = min(round((rank - int(rank * share)) / max(1, models)), rank // max(1, models))
    return rank - own * models, own


def _isotropic(vectors: list["Tensor"], common: int, own: int) -> Iterator["Tensor"]:
    import torch  # noqa: PLC0415 - see operators.contract

    total = summed(vectors)
    taken = [singular_triplets(total, common)]
    span = taken[0].left
    for vector in vectors if own else []:
        wide = vector.double()
        taken.append(singular_triplets(wide - span @ (span.T @ wide), own))
    values = torch.cat([triplets.values for triplets in taken])
    if not values.numel():
        yield total  # zero, as every task vector is
        return
    left = polar_factor(torch.cat([triplets.left for triplets in taken], 1))
    right = polar_factor(torch.cat([triplets.right for triplets in taken]))
    yield (left * values.mean()) @ right


ISO_CTS = Operator(
    name="iso_cts",
    summary="common and task-specific singular directions, made equally strong",
    merge=merge,
    parameters=(
        Parameter(
            "common_share",
            "number",
            0.8,
            "share of the rank for common directions; another value costs decompositions",
            low=0.0,
            high=1.0,
        ),
        LAMBDA,
        LINES,
        EMBEDDINGS,
    ),
    paper="Iso-CTS (Marczak et al., 2025, arXiv:2502.04959)",
    needs_base=True,
)
