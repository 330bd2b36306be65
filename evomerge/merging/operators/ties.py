"""TIES: trim small changes, elect signs, merge what agrees."""

from evomerge.merging.operators.contract import (
    DENSITY,
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
)
from evomerge.merging.operators.sparse_task_vectors import largest, mixture, normalize, rescale


def merge(inputs: Inputs) -> Blocks:
    """TIES-Merging per tensor, with mergekit's weights.

    Unlike the paper, each tensor is trimmed on its own, and both election and mean are
    weighted. With negative weights and ``normalize`` the divisor may come close to 0.
    """
    return mixture(inputs, largest, elect=True)


TIES = Operator(
    name="ties",
    summary="task vectors trimmed to their largest entries, merged where signs agree",
    merge=merge,
    parameters=(
        WEIGHT,
        DENSITY,
        LAMBDA,
        LINES,
        normalize(default=True),
        rescale(default=False),
    ),
    paper="TIES-Merging (Yadav et al., 2023, arXiv:2306.01708)",
    needs_base=True,
    zero_weight_drops_out=True,
)
