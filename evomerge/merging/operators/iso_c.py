"""Iso-C: the summed task vector with all singular values made equal."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evomerge.merging.operators.contract import LAMBDA, LINES, Blocks, Inputs, Operator
from evomerge.merging.operators.decompositions import singular_triplets
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
    """``θ0 + scale · σ̄ U Vᵀ`` of ``Σ τ_k = U S Vᵀ``, σ̄ the mean of S; the mean for the rest.

    The sum of singular values stays as it was. There are no weights of models: they would act
    before the decomposition, so that each candidate cost one.
    """
    if not is_matrix(inputs):
        return averaged(inputs)
    directions = kept_directions(inputs, "iso_c", (), lambda: _isotropic(inputs))
    return recombined(inputs, directions, [1.0])


def _isotropic(inputs: Inputs) -> Iterator["Tensor"]:
    """Only singular values above rounding count and are raised (``singular_triplets``)."""
    total = summed(task_vectors(inputs))
    triplets = singular_triplets(total)
    yield triplets.product(triplets.values.mean()) if triplets.rank else total


ISO_C = Operator(
    name="iso_c",
    summary="sum of task vectors with equal singular values",
    merge=merge,
    parameters=(LAMBDA, LINES, EMBEDDINGS),
    paper="Iso-C (Marczak et al., 2025, arXiv:2502.04959)",
    needs_base=True,
)
