"""One model's tensor as it is, or scaled."""

from evomerge.merging.operators.contract import Blocks, Inputs, Operator, Parameter
from evomerge.merging.operators.mixture import Mixture


def merge(inputs: Inputs) -> Blocks:
    """``scale · θ``."""
    return Mixture(inputs.flat(), inputs.settings.of_models("scale"))


PASSTHROUGH = Operator(
    name="passthrough",
    summary="the tensor of one model, optionally scaled",
    merge=merge,
    parameters=(Parameter("scale", "number", 1.0, "factor of the tensor", per_model=True),),
    paper="layer stacking, no paper",
    max_models=1,
)
