"""Weighted average of models (model soups)."""

from evomerge.core.errors import TrialError
from evomerge.merging.operators.contract import WEIGHT, Blocks, Inputs, Operator, Parameter
from evomerge.merging.operators.mixture import Mixture


def merge(inputs: Inputs) -> Blocks:
    """``sum(w_k θ_k) / sum(w_k)``; with ``normalize`` false the plain weighted sum."""
    weights = inputs.settings.of_models("weight")
    if inputs.settings.flag("normalize"):
        whole = sum(weights)
        if whole == 0:
            raise TrialError(f"{inputs.key.tensor}: linear weights {weights} sum to 0.")
        weights = [weight / whole for weight in weights]
    return Mixture(inputs.flat(), weights)


LINEAR = Operator(
    name="linear",
    summary="weighted average of the models",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter("normalize", "flag", default=True, summary="divide by the sum of weights"),
    ),
    paper="Model soups (Wortsman et al., 2022, arXiv:2203.05482)",
    zero_weight_drops_out=True,
)
