"""WUDI: the task vector that interferes least with every model's own."""

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
from evomerge.merging.operators.decompositions import definite_inverse, gram
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
    """``θ0 + scale · Σ w_k τ_k (G_k + εI) (Σ_j G_j + εI)⁻¹``, the weighted mean for the rest.

    With ``G_k = τ_kᵀτ_k / ‖τ_k‖²`` this is the one minimum of
    ``Σ ‖(τ - w_k τ_k) τ_kᵀ‖² / ‖τ_k‖² + ε ‖τ - Σ w_k τ_k‖²``. The paper has weights of 1 and no
    ε, but takes 300 small steps of Adam from ``Σ τ_k`` and stops far from the minimum, whose
    norm is several times as large; ε stands for that. On fine-tunes of a model of 135 M
    parameters the default gives about the loss and the norm which those steps reach. Rows of
    a matrix are outputs, as torch's linear layers store them. One model gives itself.
    """
    weights, ridge = inputs.settings.of_models("weight"), inputs.settings.number("ridge")
    if not is_matrix(inputs):
        return averaged(inputs, weights)
    directions = kept_directions(
        inputs, "wudi", ridge, lambda: _least_interfering(task_vectors(inputs), ridge)
    )
    return recombined(inputs, directions, weights)


def _least_interfering(vectors: list["Tensor"], ridge: float) -> Iterator["Tensor"]:
    norms = [float(vector.double().square().sum()) for vector in vectors]
    if len(vectors) == 1 or not any(norms):
        yield from vectors
        return
    rest = vectors[0].new_zeros(()).double()
    for vector, norm in zip(vectors, norms, strict=True):
        if norm > 0:
            rest = rest + gram(vector) / norm
    epsilon = ridge * float(rest.diagonal().mean())
    rest.diagonal().add_(epsilon)
    inverse = definite_inverse(rest)
    for vector, norm in zip(vectors, norms, strict=True):
        wide = vector.double()
        target = wide * epsilon
        if norm > 0:
            target += _times_own_gram(wide) / norm
        yield target @ inverse


def _times_own_gram(matrix: "Tensor") -> "Tensor":
    """``matrix · matrixᵀ · matrix`` by the cheaper order."""
    if matrix.shape[0] < matrix.shape[1]:
        return (matrix @ matrix.T) @ matrix
    return matrix @ (matrix.T @ matrix)


WUDI = Operator(
    name="wudi",
    summary="task vector of least interference with each model's inputs",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "ridge",
            "number",
            3.0,
            "pull to the sum of task vectors, in mean eigenvalues of the loss; another value "
            "costs a solution of the equations",
            low=1e-6,
            high=1e3,
        ),
        LAMBDA,
        LINES,
        EMBEDDINGS,
    ),
    paper="WUDI-Merging (Cheng et al., 2025, arXiv:2503.08099)",
    needs_base=True,
)
