"""PCB-Merging: entries weighted by how they compete within a model and between models."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.directions import (
    kept_directions,
    recombined,
    summed,
    task_vectors,
)

if TYPE_CHECKING:
    from torch import Tensor

_OUTLIERS = 1e-4
"""Share of magnitudes at either end that is clamped."""


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + scale · Σ w_k s_k τ_k / Σ s_k``, s_k the balanced scores, per tensor.

    Intra-balancing is ``exp(models · x²)``, x the magnitudes brought to [0, 1];
    inter-balancing is ``tanh(τ_k Σ_j τ_j)``. Their product is raised to the least of its
    largest values, a share ``density``, and brought to [0, 1], so that the rest is dropped.
    """
    weights, density = inputs.settings.of_models("weight"), inputs.settings.number("density")
    directions = kept_directions(inputs, "pcb", density, lambda: _balanced(inputs, density))
    return recombined(inputs, directions, weights)


def _balanced(inputs: Inputs, density: float) -> Iterator["Tensor"]:
    vectors = task_vectors(inputs)
    if not inputs.origin.numel():
        yield from vectors
        return
    total = summed(vectors)
    scores = []
    for vector in vectors:
        score = vector.mul(total).tanh_()
        _clamp_outliers(vector)  # the sum above has the entries as they were
        scores.append(_kept(_intra(vector, len(vectors)).mul_(score), density))
    whole = total.zero_()
    for score in scores:
        whole += score
    whole.clamp_min_(1e-12)
    for vector, score in zip(vectors, scores, strict=True):
        yield vector.mul_(score).div_(whole)


def _clamp_outliers(vector: "Tensor") -> None:
    """Bring the largest and smallest magnitudes to those next to them, in place."""
    outside = int(_OUTLIERS * vector.numel())
    if outside:
        magnitudes = vector.abs().flatten()
        low = float(magnitudes.kthvalue(outside + 1).values)
        high = float(magnitudes.kthvalue(vector.numel() - outside).values)
        vector.copy_(vector.sign().mul_(magnitudes.clamp_(low, high).view(vector.shape)))


def _intra(vector: "Tensor", models: int) -> "Tensor":
    """``exp(models · x²)`` up to a factor, which the score's range takes out again."""
    magnitudes = vector.abs()
    low, high = (float(bound) for bound in magnitudes.aminmax())
    if high > low:
        magnitudes.sub_(low).div_(high - low)
    else:
        magnitudes.zero_()
    return magnitudes.square_().sub_(1).mul_(models).exp_()


def _kept(score: "Tensor", density: float) -> "Tensor":
    """The score from 0 at and below the cut to 1; in place."""
    row, entries = score.view(-1), score.numel()
    # The entry at the cut gets 0, so that it must not be the largest.
    place = max(0, min(int(entries * (1 - density)), entries - 2))
    cut, high = float(row.kthvalue(place + 1).values), float(row.max())
    if high > cut:
        return score.clamp_min_(cut).sub_(cut).div_(high - cut)
    return score.gt(0).float()  # all are equal: 0 where a model is outvoted or unchanged


PCB = Operator(
    name="pcb",
    summary="entries weighted by competition within and between models",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "density",
            "number",
            0.1,
            "share of entries kept; another value costs a ranking",
            low=0.0,
            high=1.0,
        ),
        LAMBDA,
        LINES,
    ),
    paper="PCB-Merging (Du et al., 2024, arXiv:2410.02396)",
    needs_base=True,
)
