"""Averages by shares that are not negative, for operators that weigh models by statistics."""

from collections.abc import Sequence

from evomerge.merging.operators.contract import Inputs, Parameter
from evomerge.merging.operators.mixture import Mixture

SHARE = Parameter("weight", "number", 1.0, "share of the model", per_model=True, low=0.0)


def shares(weights: Sequence[float]) -> list[float]:
    """Weights that are not negative, divided by their sum; equal ones where all are 0."""
    whole = sum(weights)
    if whole <= 0:
        return [1 / len(weights)] * len(weights)
    return [weight / whole for weight in weights]


def average(inputs: Inputs) -> Mixture:
    """The plain average by ``weight``, for tensors that have no statistic."""
    return Mixture(inputs.flat(), shares(inputs.settings.of_models("weight")))
