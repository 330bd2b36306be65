"""Model breadcrumbs: the largest and the smallest changes dropped; elected or added up."""

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
from evomerge.merging.operators.sparse_task_vectors import (
    mixture,
    normalize,
    rescale,
    without_outliers,
)

_GAMMA = Parameter(
    "gamma",
    "number",
    0.01,
    "share of largest entries dropped",
    per_model=True,
    low=0.0,
    high=1.0,
)
_PARAMETERS = (
    WEIGHT,
    DENSITY,
    _GAMMA,
    LAMBDA,
    LINES,
    normalize(default=False),
    rescale(default=False),
)
_PAPER = "Model breadcrumbs (Davari and Belilovsky, 2023, arXiv:2312.06795)"


def merge_sum(inputs: Inputs) -> Blocks:
    """Keep a middle range of every task vector's magnitudes, then add up."""
    return mixture(inputs, without_outliers, elect=False)


def merge_elected(inputs: Inputs) -> Blocks:
    """As ``merge_sum``, with TIES' sign election before adding up."""
    return mixture(inputs, without_outliers, elect=True)


BREADCRUMBS = Operator(
    name="breadcrumbs",
    summary="task vectors without their largest and smallest entries, added up",
    merge=merge_sum,
    parameters=_PARAMETERS,
    paper=_PAPER,
    needs_base=True,
    zero_weight_drops_out=True,
)

BREADCRUMBS_TIES = Operator(
    name="breadcrumbs_ties",
    summary="task vectors without their largest and smallest entries, merged where signs agree",
    merge=merge_elected,
    parameters=_PARAMETERS,
    paper=f"{_PAPER} with TIES sign election",
    needs_base=True,
    zero_weight_drops_out=True,
)
