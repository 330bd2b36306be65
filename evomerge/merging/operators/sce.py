"""SCE: task vectors selected by variance, weighted by their size, merged where signs agree."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import buffers, total
from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.inner_products import exact, walk

if TYPE_CHECKING:
    from torch import Tensor

_NO_WEIGHT = 1e-6


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + lambda · Σ_k w_k m_k τ_k / Σ_k w_k m_k`` with weights that follow from the data.

    Select: of the entries whose task vectors τ_k = θ_k - θ0 differ between models, the share
    ``select_topk`` of largest variance is kept, of equal ones the first; the rest is zeroed
    (section 3.2 of the paper). Calculate: w_k is the mean square of τ_k in the tensor over the
    sum of all models'; where that sum is below 1e-6, as it is of small task vectors, weights
    are equal: that is mergekit's behaviour. Erase: m_k is 1 where τ_k has the sign of Σ τ_k (a
    sum of 0 counts as positive) and is not 0.
    """
    kept = _selection(inputs, inputs.settings.number("select_topk"))
    if kept is None:
        (masses,) = inputs.once("mean squares", (), lambda: [_masses(inputs, None)])
    else:
        masses = _masses(inputs, kept)
    weights = _weights(masses.tolist())
    scale, base = inputs.scale, inputs.origin.reshape(-1)
    spare = buffers(inputs.tensors[0], 2)
    for block, parts in walk(inputs):
        sign, divisor = (row[: len(parts[0])].zero_() for row in spare)
        _select(parts, kept, block)
        for part in parts:
            sign.add_(part)
        sign.ge_(0).mul_(2).sub_(1)
        mixed = parts[0]
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            agrees = part.sign().eq_(sign)
            divisor.add_(agrees, alpha=weight)
            part.mul_(agrees).mul_(weight)
            if number:
                mixed.add_(part)
        mixed.div_(divisor.clamp_(min=_NO_WEIGHT)).mul_(scale)
        yield block, mixed.add_(base[block])


def _selection(inputs: Inputs, share: float) -> "Tensor | None":
    """Which entries of the flattened tensor vary most; None for all."""
    if share >= 1:
        return None
    variance = inputs.tensors[0].new_empty(inputs.tensors[0].numel()).float()
    for block, parts in walk(inputs):
        variance[block] = _variance(parts)
    count = int(int(variance.count_nonzero()) * share)
    if count == 0:
        return variance.ne(variance)  # nothing, though a NaN is kept to be found in the result
    least = variance.kthvalue(variance.numel() - count + 1).values
    kept, equal = variance.gt(least), variance.eq(least).nonzero().view(-1)
    kept[equal[: count - int(kept.count_nonzero())]] = True
    return kept | variance.ne(variance)


def _variance(parts: Sequence["Tensor"]) -> "Tensor":
    """Population variance over the models, exactly 0 where they are equal."""
    shifted = [part - parts[0] for part in parts]
    mean = sum(shifted[1:], shifted[0]) / len(parts)
    squares = [shift.sub_(mean).square_() for shift in shifted]
    return sum(squares[1:], squares[0]) / len(parts)


def _select(parts: Sequence["Tensor"], kept: "Tensor | None", block: slice) -> None:
    if kept is not None:
        for part in parts:
            part.mul_(kept[block])


def _masses(inputs: Inputs, kept: "Tensor | None") -> "Tensor":
    """Mean square of every model's selected task vector."""
    like = inputs.tensors[0]
    sums = [0.0] * len(inputs.tensors)
    for block, parts in walk(inputs):
        _select(parts, kept, block)
        for number, part in enumerate(parts):
            sums[number] += total(part.square_())
    return like.new_tensor([s / max(1, like.numel()) for s in sums], dtype=exact(like))


def _weights(masses: list[float]) -> list[float]:
    whole = sum(masses)
    if whole < _NO_WEIGHT:
        return [1 / len(masses)] * len(masses)
    return [mass / whole for mass in masses]


SCE = Operator(
    name="sce",
    summary="task vectors weighted by their size, merged where signs agree",
    merge=merge,
    parameters=(
        Parameter(
            "select_topk", "number", 1.0, "share of varying entries kept", low=0.0, high=1.0
        ),
        LAMBDA,
        LINES,
    ),
    paper="FuseChat: SCE (Wan et al., 2024, arXiv:2408.07990)",
    needs_base=True,
)
