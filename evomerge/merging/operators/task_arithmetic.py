"""Weighted sum of task vectors."""

from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
)
from evomerge.merging.operators.mixture import Mixture, divided
from evomerge.merging.operators.sparse_task_vectors import normalize


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + lambda · Σ w_k (θ_k - θ0)``, ``normalize`` divides the sum by ``Σ w_k``."""
    weights = inputs.settings.of_models("weight")
    if inputs.settings.flag("normalize"):
        weights = divided(weights)
    return Mixture(inputs.flat(), weights, inputs.origin.reshape(-1), inputs.scale)


TASK_ARITHMETIC = Operator(
    name="task_arithmetic",
    summary="base plus the weighted sum of task vectors",
    merge=merge,
    parameters=(WEIGHT, LAMBDA, LINES, normalize(default=False)),
    paper="Task arithmetic (Ilharco et al., 2023, arXiv:2212.04089)",
    needs_base=True,
    zero_weight_drops_out=True,
)
