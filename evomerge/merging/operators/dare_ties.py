"""DARE with sign election: random entries of task vectors dropped, the rest rescaled."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import blocks, buffers, delta, flat, total
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
from evomerge.merging.operators.sparsify import RandomMask, mask_stream

if TYPE_CHECKING:
    from torch import Tensor

_NO_NORM = 1e-7


def merge(
    tensors: Sequence["Tensor"], base: "Tensor | None", settings: Settings, key: MaskKey
) -> Blocks:
    """Drop each entry of ``θ_k - θ0`` with probability 1 - density, then elect signs.

    ``rescale`` restores the L1 norm that the task vector had before the drop, as mergekit
    does, and not the paper's factor 1/density; on large tensors the two agree.
    """
    origin = needed(base, key)
    densities = settings.of_models("density")
    kept = [
        _Drop(flat(tensor), flat(origin), density, mask_stream(key.seed, key.tensor, model))
        for tensor, density, model in zip(tensors, densities, key.models, strict=True)
    ]
    factors = [drop.l1_factor() if settings.flag("rescale") else 1.0 for drop in kept]

    def sparsify(model: int, block: slice, part: "Tensor") -> None:
        kept[model].apply(block, part)
        if factors[model] != 1.0:
            part.mul_(factors[model])

    election = Election(
        settings.of_models("weight"), settings.number("lambda"), settings.flag("normalize")
    )
    return merge_elected(tensors, origin, election, sparsify)


class _Drop:
    """The random mask of one model's tensor, made anew where it is needed."""

    def __init__(self, row: "Tensor", origin: "Tensor", density: float, stream: int) -> None:
        self._row, self._origin = row, origin
        self._mask = RandomMask(row, density, stream) if density < 1 else None

    def apply(self, block: slice, part: "Tensor") -> None:
        """Zero what is dropped of a block, in place; a NaN stays."""
        if self._mask is not None:
            part.mul_(self._mask.kept(block))

    def l1_factor(self) -> float:
        """The L1 norm before the drop over that after it; 1 where either is about 0."""
        if self._mask is None:
            return 1.0
        before = after = 0.0
        (buffer,) = buffers(self._row, 1)
        for block in blocks(self._row):
            part = delta(self._row, self._origin, block, buffer).abs_()
            before += total(part)
            self.apply(block, part)
            after += total(part)
        return before / after if before >= _NO_NORM and after >= _NO_NORM else 1.0


DARE_TIES = Operator(
    name="dare_ties",
    summary="task vectors with random entries dropped, merged where signs agree",
    merge=merge,
    parameters=(
        WEIGHT,
        DENSITY,
        LAMBDA,
        Parameter(
            "normalize", "flag", default=False, summary="divide by the weights that agree"
        ),
        Parameter(
            "rescale", "flag", default=True, summary="restore the L1 norm after the drop"
        ),
    ),
    paper="DARE (Yu et al., 2024, arXiv:2311.03099) with TIES sign election",
    needs_base=True,
    stochastic=True,
    zero_weight_drops_out=True,
)
