"""DELLA: random entries dropped, small ones of a row more often; elected or added up."""

from evomerge.merging.operators.contract import (
    DENSITY,
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.sparse_task_vectors import by_rank, mixture, normalize, rescale

_EPSILON = Parameter(
    "epsilon",
    "number",
    0.15,
    "how far the chance to be kept departs from density, down and up",
    per_model=True,
    low=0.0,
    high=1.0,
)
_SPARSE = (WEIGHT, DENSITY, _EPSILON, LAMBDA, LINES)
_PAPER = "DELLA-Merging (Deep et al., 2024, arXiv:2406.11617)"


def merge_sum(inputs: Inputs) -> Blocks:
    """MagPrune: drop entries with a chance that falls with their rank, then add up.

    mergekit refuses densities within epsilon of 0 or 1; here chances beyond 0 and 1 count as
    these, so that every point of a search space has a model. ``rescale`` restores the tensor's
    L1 norm; the paper divides each entry by its own chance.
    """
    return mixture(inputs, by_rank, elect=False)


def merge_elected(inputs: Inputs) -> Blocks:
    """As ``merge_sum``, with TIES' sign election before adding up."""
    return mixture(inputs, by_rank, elect=True)


DELLA_LINEAR = Operator(
    name="della_linear",
    summary="task vectors with small entries dropped more often, added up",
    merge=merge_sum,
    parameters=(*_SPARSE, normalize(default=False), rescale(default=True)),
    paper=_PAPER,
    needs_base=True,
    stochastic=True,
    zero_weight_drops_out=True,
)

DELLA = Operator(
    name="della",
    summary="task vectors with small entries dropped more often, merged where signs agree",
    merge=merge_elected,
    parameters=(*_SPARSE, normalize(default=True), rescale(default=True)),
    paper=_PAPER,
    needs_base=True,
    stochastic=True,
    zero_weight_drops_out=True,
)
