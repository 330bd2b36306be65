"""Reinforced Agent Merging: changes of one model are kept, shared ones averaged."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

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

_EPSILON = Parameter(
    "epsilon", "number", 1e-5, "largest change that does not count as one", low=0.0
)


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + lambda · Σ_k [|τ_k| > epsilon] τ_k / n``, n the models that did so change it."""
    return _merge(inputs, [1.0] * len(inputs.tensors))


def merge_reinforced(inputs: Inputs) -> Blocks:
    """RAM, with the entries of one model alone times ``1 + r · min(ρ_k, alpha)``.

    ρ_k is the number of entries that the model shares with others over the number that it
    alone changed, counted per tensor.
    """
    settings = inputs.settings
    epsilon, r, alpha = (settings.number(name) for name in ("epsilon", "r", "alpha"))
    (counts,) = inputs.once("shared and alone", epsilon, lambda: [_counts(inputs, epsilon)])
    ratios = [s / a if a else alpha * (s > 0) for s, a in counts.tolist()]
    return _merge(inputs, [1.0 + r * min(ratio, alpha) for ratio in ratios])


def _merge(inputs: Inputs, factors: Sequence[float]) -> Blocks:
    """Factors are of the entries that one model alone changed, one a model."""
    epsilon = inputs.settings.number("epsilon")
    scale, base = inputs.scale, inputs.origin.reshape(-1)
    for block, parts in walk(inputs):
        number = _keep_changes(parts, epsilon)
        alone = number.eq(1)
        mixed = parts[0]
        for k, (part, factor) in enumerate(zip(parts, factors, strict=True)):
            if factor != 1.0:
                part.mul_(alone.mul(factor - 1.0).add_(1.0))
            if k:
                mixed.add_(part)
        yield block, mixed.div_(number.clamp_(min=1)).mul_(scale).add_(base[block])


def _keep_changes(parts: Sequence["Tensor"], epsilon: float) -> "Tensor":
    """Zero in place what no model is said to have changed; how many changed each entry."""
    number = parts[0].new_zeros(len(parts[0]))
    for part in parts:
        changed = part.abs().gt_(epsilon)
        number.add_(changed)
        part.mul_(changed)
    return number


def _counts(inputs: Inputs, epsilon: float) -> "Tensor":
    """Models × 2: entries changed together with other models, and alone."""
    counts = [[0, 0] for _ in inputs.tensors]
    for _, parts in walk(inputs):
        number = _keep_changes(parts, epsilon)
        for count, part in zip(counts, parts, strict=True):
            changed = int(part.count_nonzero())
            alone = int((part.ne(0) & number.eq(1)).count_nonzero())
            count[0] += changed - alone
            count[1] += alone
    return inputs.tensors[0].new_tensor(counts, dtype=exact(inputs.tensors[0]))


_PAPER = "Reinforced Agent Merging (2026, arXiv:2601.13572)"

RAM = Operator(
    name="ram",
    summary="changes of one model are kept, those of several averaged over these",
    merge=merge,
    parameters=(_EPSILON, LAMBDA, LINES),
    paper=_PAPER,
    needs_base=True,
)

RAMPLUS_TL = Operator(
    name="ramplus_tl",
    summary="ram with a model's own changes amplified by how much it shares",
    merge=merge_reinforced,
    parameters=(
        Parameter("r", "number", 0.1, "gain of a model's own changes", low=0.0),
        Parameter("alpha", "number", 0.2, "most that the share may gain", low=0.0),
        _EPSILON,
        LAMBDA,
        LINES,
    ),
    paper=_PAPER,
    needs_base=True,
)
