"""DC-Merge: task vectors of even strength, merged by signs in a basis that covers them all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from evomerge.merging.operators.decompositions import (
    SingularTriplets,
    polar_factor,
    singular_triplets,
)
from evomerge.merging.operators.directions import (
    EMBEDDINGS,
    averaged,
    is_matrix,
    kept_directions,
    recombined,
    task_vectors,
)

if TYPE_CHECKING:
    from torch import Tensor


def merge(inputs: Inputs) -> Blocks:
    """Energy smoothing and merging in the cover space for matrices, the mean for the rest.

    1. Of each task vector the leading ``rank / models`` singular triplets are kept. With
       ``smooth``, which the paper uses for LoRA and not for full fine-tuning, their values are
       replaced by an even fall of the same sum, the first at most ``rho`` times the last.
    2. Cover bases are the polar factors of all kept left and right vectors side by side.
    3. In these bases each model's matrix keeps its entries of largest magnitude, a share
       ``kept``; those with the sign of their sum are averaged over the models that agree,
       and only the blocks that pair a model's own left and right vectors are kept.

    The mean is taken with weights of 1, as in the paper; weights scale what each model adds.
    """
    weights = inputs.settings.of_models("weight")
    if not is_matrix(inputs):
        return averaged(inputs, weights)
    density = inputs.settings.number("kept")
    rho = inputs.settings.number("rho") if inputs.settings.flag("smooth") else None
    directions = kept_directions(
        inputs, "dc_merge", (rho, density), lambda: _covered(task_vectors(inputs), rho, density)
    )
    return recombined(inputs, directions, weights)


@dataclass(frozen=True)
class _Cover:
    """The bases that cover all models' singular vectors."""

    left: "Tensor"
    """(rows, joint rank)."""

    right: "Tensor"
    """(joint rank, columns)."""

    own: Sequence[slice]
    """Which part of the joint rank came from each model."""


def _covered(vectors: list["Tensor"], rho: float | None, density: float) -> Iterator["Tensor"]:
    rank = max(1, min(vectors[0].shape) // len(vectors))
    kept = [singular_triplets(vector, rank) for vector in vectors]
    if not any(triplets.rank for triplets in kept):
        yield from vectors  # all of them are zero
        return
    cover = _cover(kept)
    cores = []
    for triplets in kept:
        values = triplets.values if rho is None else smoothed(triplets.values, rho)
        left, right = cover.left.T @ triplets.left, triplets.right @ cover.right.T
        cores.append((left * values) @ right)
    entries = max(1, int(density * min(vectors[0].shape) ** 2))
    for core in elected(cores, entries):
        blocks = core.new_zeros(core.shape)
        for own in cover.own:
            blocks[own, own] = core[own, own]
        yield cover.left @ blocks @ cover.right


def _cover(kept: Sequence[SingularTriplets]) -> _Cover:
    import torch  # noqa: PLC0415 - see operators.contract

    own, start = [], 0
    for triplets in kept:
        own.append(slice(start, start + triplets.rank))
        start += triplets.rank
    return _Cover(
        polar_factor(torch.cat([triplets.left for triplets in kept], 1)),
        polar_factor(torch.cat([triplets.right for triplets in kept])),
        own,
    )


def smoothed(values: "Tensor", rho: float) -> "Tensor":
    """Values of the same sum that fall evenly, the first at most ``rho`` times the last."""
    if not values.numel():
        return values
    import torch  # noqa: PLC0415 - see operators.contract

    first = min(rho, float(values[0] / values[-1]))
    even = torch.linspace(first, 1.0, values.numel(), dtype=values.dtype, device=values.device)
    return even * (values.sum() / even.sum())


def elected(cores: Sequence["Tensor"], entries: int) -> Iterator["Tensor"]:
    """What each core adds to the mean of those that agree in sign with the trimmed sum.

    Args:
        cores: Square matrices of one size.
        entries: How many entries of largest magnitude each keeps; equal ones all stay.
    """
    import torch  # noqa: PLC0415 - see operators.contract

    trimmed = []
    for core in cores:
        magnitudes = core.abs()
        place = max(1, core.numel() - entries + 1)
        trimmed.append(core * magnitudes.ge(magnitudes.flatten().kthvalue(place).values))
    sign = torch.stack(trimmed).sum(0).sign()
    agreeing = [core * (core.sign() == sign) for core in trimmed]
    count = torch.stack([core != 0 for core in agreeing]).sum(0).clamp_min(1)
    for core in agreeing:
        yield core / count


DC_MERGE = Operator(
    name="dc_merge",
    summary="smoothed task vectors, elected by sign in a basis that covers them",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "smooth", "flag", default=False, summary="even out each model's singular values"
        ),
        Parameter(
            "rho",
            "number",
            5.0,
            "largest ratio of smoothed singular values, 1 makes them equal; another value "
            "costs decompositions",
            low=1.0,
            high=1e6,
        ),
        Parameter(
            "kept",
            "number",
            1e-3,
            "share of entries kept in the cover space; another value costs decompositions",
            low=0.0,
            high=1.0,
        ),
        LAMBDA,
        LINES,
        EMBEDDINGS,
    ),
    paper="DC-Merge (Zhang et al., 2026, arXiv:2603.06242)",
    needs_base=True,
)
