"""What mergekit's merge methods are given: their parameters, defaults and base.

As mergekit 0.1.5 behaves; the operators of evomerge have the same names, and so have their
parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from evomerge.core.recipe import Value

REQUIRED = None
"""In place of a default: a configuration must give the parameter."""

Base = Literal["required", "used", "a model", "first"]
"""What a method takes the base model for.

``required``: differences to it are merged. ``used``: they are if there is one. ``first``: it
is the model from which the merge goes to the other one. ``a model``: it is merged as others.
"""


@dataclass(frozen=True)
class MergekitMethod:
    """A merge method as a mergekit configuration sees it."""

    base: Base
    per_model: Mapping[str, Value | None] = field(default_factory=dict)
    """Defaults of the parameters that every model has; ``REQUIRED`` where there is none."""

    whole: Mapping[str, Value | None] = field(default_factory=dict)
    """Defaults of the parameters of the merge as a whole."""

    def default(self, parameter: str) -> Value | None:
        """What holds where a configuration does not give the parameter."""
        return {**self.whole, **self.per_model}[parameter]


def _task_vectors(*, normalize: bool, rescale: bool, **per_model: float) -> MergekitMethod:
    whole = {"lambda": 1.0, "normalize": normalize, "rescale": rescale}
    return MergekitMethod("required", {"weight": REQUIRED, "density": 1.0, **per_model}, whole)


METHODS: Mapping[str, MergekitMethod] = {
    "linear": MergekitMethod("a model", {"weight": REQUIRED}, {"normalize": True}),
    "slerp": MergekitMethod("first", {}, {"t": REQUIRED}),
    "nuslerp": MergekitMethod(
        "used", {"weight": REQUIRED}, {"nuslerp_row_wise": False, "nuslerp_flatten": True}
    ),
    "multislerp": MergekitMethod(
        "used", {"weight": REQUIRED}, {"normalize_weights": True, "eps": 1e-8}
    ),
    "karcher": MergekitMethod("a model", {}, {"max_iter": 10, "tol": 1e-5}),
    "task_arithmetic": MergekitMethod(
        "required", {"weight": REQUIRED}, {"lambda": 1.0, "normalize": False}
    ),
    "ties": _task_vectors(normalize=True, rescale=False),
    "dare_linear": _task_vectors(normalize=False, rescale=True),
    "dare_ties": _task_vectors(normalize=False, rescale=True),
    "della": _task_vectors(normalize=True, rescale=True, epsilon=0.15),
    "della_linear": _task_vectors(normalize=False, rescale=True, epsilon=0.15),
    "breadcrumbs": _task_vectors(normalize=False, rescale=False, gamma=0.01),
    "breadcrumbs_ties": _task_vectors(normalize=False, rescale=False, gamma=0.01),
    "sce": MergekitMethod("required", {}, {"select_topk": 1.0}),
    "model_stock": MergekitMethod("required", {}, {"filter_wise": False}),
    "nearswap": MergekitMethod("required", {}, {"t": REQUIRED}),
    "arcee_fusion": MergekitMethod("required"),
    "ram": MergekitMethod("required", {}, {"epsilon": 1e-5}),
    "ramplus_tl": MergekitMethod("required", {}, {"r": 0.1, "alpha": 0.2, "epsilon": 1e-5}),
    "passthrough": MergekitMethod("a model", {"scale": 1.0}),
}
"""By name, which is also that of the operator."""

WITHOUT_EFFECT = frozenset({"int8_mask"})
"""Parameters that change how mergekit computes, but not what."""

KNOWN_PARAMETERS = WITHOUT_EFFECT.union(
    *(method.per_model.keys() | method.whole.keys() for method in METHODS.values())
)
"""Every parameter of some method; mergekit passes over those that its method does not have."""
