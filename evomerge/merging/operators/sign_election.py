"""Sign election: task vectors that disagree in sign with their sum are left out, per entry."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import blocks, buffers, delta, flat
from evomerge.merging.operators.contract import Blocks

if TYPE_CHECKING:
    from torch import Tensor

Sparsify = Callable[[int, slice, "Tensor"], None]
"""``(model, block, delta)``: zeroes in place what is dropped; blocks come in order."""


@dataclass(frozen=True)
class Election:
    """How the elected entries are put together."""

    weights: Sequence[float]
    """One a model."""

    scale: float
    """Factor of the merged task vector (lambda)."""

    normalize: bool
    """Divide by the sum of the weights of the models that agree, where that is not 0."""


def merge_elected(
    tensors: Sequence["Tensor"], base: "Tensor", election: Election, sparsify: Sparsify
) -> Blocks:
    """``base + scale · Σ_k m_k w_k S_k [/ Σ_k m_k w_k]`` in float32.

    S_k is the sparsified task vector, and m_k is 1 where ``w_k S_k`` has the sign of the sum
    over models (a sum of 0 counts as positive) and is not 0 (TIES-Merging, section 3, with
    weights as mergekit defines them).
    """
    origin, rows = flat(base), [flat(tensor) for tensor in tensors]
    spare = buffers(base, len(rows) + 4)
    for block in blocks(origin):
        size = block.stop - block.start
        sign, mixed, divisor = (buffer[:size].zero_() for buffer in spare[:3])
        no_divisor = spare[3][:size]
        weighted = []
        for model, row in enumerate(rows):
            part = delta(row, origin, block, spare[4 + model])
            sparsify(model, block, part)
            weighted.append(part.mul_(election.weights[model]))
            sign.add_(part)
        sign.ge_(0).mul_(2).sub_(1)
        for part, weight in zip(weighted, election.weights, strict=True):
            part.mul_(sign).clamp_min_(0)  # |w_k S_k| where the signs agree, else 0
            mixed.add_(part)
            if election.normalize:
                divisor.add_(part.sign_(), alpha=weight)
        mixed.mul_(sign)
        if election.normalize:
            mixed.div_(divisor.add_(no_divisor.copy_(divisor).eq_(0)))
        # The divisors are done with, so their memory takes the result.
        yield block, no_divisor.copy_(origin[block]).add_(mixed, alpha=election.scale)
