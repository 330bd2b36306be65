"""TIES: trim small changes, elect signs, merge what agrees."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import flat
from evomerge.merging.operators.contract import (
    DENSITY,
    LAMBDA,
    WEIGHT,
    Blocks,
    MaskKey,
    Operator,
    Parameter,
    Settings,
    needed,
)
from evomerge.merging.operators.sign_election import Election, merge_elected
from evomerge.merging.operators.sparsify import magnitude_trim

if TYPE_CHECKING:
    from torch import Tensor


def merge(
    tensors: Sequence["Tensor"], base: "Tensor | None", settings: Settings, key: MaskKey
) -> Blocks:
    """TIES-Merging per tensor, with mergekit's weights.

    Unlike the paper, each tensor is trimmed on its own, and both election and mean are
    weighted. With negative weights and ``normalize`` the divisor may come close to 0.
    """
    origin = needed(base, key)
    densities = settings.of_models("density")
    trims = [
        magnitude_trim(flat(tensor), flat(origin), density)
        if 0 < density < 1 and tensor.numel()
        else None
        for tensor, density in zip(tensors, densities, strict=True)
    ]

    def sparsify(model: int, block: slice, delta: "Tensor") -> None:
        trim = trims[model]
        if densities[model] == 0:
            delta.zero_()
        elif trim is not None and trim.threshold > 0:  # dropping zeros changes nothing
            trim.apply(block, delta)

    election = Election(
        settings.of_models("weight"), settings.number("lambda"), settings.flag("normalize")
    )
    return merge_elected(tensors, origin, election, sparsify)


TIES = Operator(
    name="ties",
    summary="task vectors trimmed to their largest entries, merged where signs agree",
    merge=merge,
    parameters=(
        WEIGHT,
        DENSITY,
        LAMBDA,
        Parameter(
            "normalize", "flag", default=True, summary="divide by the weights that agree"
        ),
    ),
    paper="TIES-Merging (Yadav et al., 2023, arXiv:2306.01708)",
    needs_base=True,
    zero_weight_drops_out=True,
)
