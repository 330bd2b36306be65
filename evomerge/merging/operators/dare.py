"""DARE: random entries of task vectors dropped, the rest rescaled; with or without election."""

from evomerge.merging.operators.contract import (
    DENSITY,
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
)
from evomerge.merging.operators.sparse_task_vectors import mixture, normalize, random, rescale

_PARAMETERS = (WEIGHT, DENSITY, LAMBDA, LINES, normalize(default=False), rescale(default=True))
_PAPER = "DARE (Yu et al., 2024, arXiv:2311.03099)"


def merge_sum(inputs: Inputs) -> Blocks:
    """Drop each entry of ``θ_k - θ0`` with probability 1 - density, then add up.

    ``rescale`` restores the L1 norm that the task vector had before the drop, as mergekit
    does, and not the paper's factor 1/density; on large tensors the two agree.
    """
    return mixture(inputs, random, elect=False)


def merge_elected(inputs: Inputs) -> Blocks:
    """As ``merge_sum``, with TIES' sign election before adding up."""
    return mixture(inputs, random, elect=True)


DARE_LINEAR = Operator(
    name="dare_linear",
    summary="task vectors with random entries dropped, added up",
    merge=merge_sum,
    parameters=_PARAMETERS,
    paper=_PAPER,
    needs_base=True,
    stochastic=True,
    zero_weight_drops_out=True,
)

DARE_TIES = Operator(
    name="dare_ties",
    summary="task vectors with random entries dropped, merged where signs agree",
    merge=merge_elected,
    parameters=_PARAMETERS,
    paper=f"{_PAPER} with TIES sign election",
    needs_base=True,
    stochastic=True,
    zero_weight_drops_out=True,
)
