"""Weighted sums of models by runs of rows, each run with weights of its own.

What a split-slerp child of other children is (M2N2, Abrantes, Lange and Tang 2025,
arXiv:2508.16204): along the rows of a tensor, piecewise a linear combination of the seeds,
from scratch with seeded noise added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evomerge.core.errors import TrialError
from evomerge.merging.operators.contract import (
    Blocks,
    Inputs,
    Operator,
    Parameter,
    Settings,
    WritableBlocks,
)
from evomerge.merging.operators.mixture import Mixture

if TYPE_CHECKING:
    from torch import Tensor, dtype


@dataclass(frozen=True)
class _Segment:
    """A run of rows as part of the flattened tensor."""

    entries: slice
    weights: tuple[float, ...]
    """One a model."""

    noise: tuple[float, ...]
    """One a noise direction."""


@dataclass(frozen=True)
class SegmentedMixture(WritableBlocks):
    """Mixtures of parts of tensors, one after the other."""

    rows: Sequence["Tensor"]
    """Flat, one a model."""

    segments: Sequence[_Segment]
    noise_seeds: tuple[int, ...]
    tensor_name: str

    def __iter__(self) -> Iterator[tuple[slice, "Tensor"]]:
        """One block a segment."""
        for segment in self.segments:
            ((_, mixed),) = list(self._mixture(segment))
            for seed, size in zip(self.noise_seeds, segment.noise, strict=True):
                if size:
                    mixed.add_(self._noise(seed, segment.entries, mixed), alpha=size)
            yield segment.entries, mixed

    def write(self, target: "Tensor", dtype: "dtype") -> float | None:
        """In one pass where there is no noise."""
        if self.noise_seeds:
            return None
        largest = 0.0
        for segment in self.segments:
            found = self._mixture(segment).write(target[segment.entries], dtype)
            if found is None:  # of one kind with the first segment, so nothing is written
                return None
            largest = found if found != found or found > largest else largest
            if largest != largest:  # NaN, which no later segment may hide
                break
        return largest

    def _mixture(self, segment: _Segment) -> Mixture:
        # A model of weight 0 adds nothing, so it is not read.
        used = [k for k, weight in enumerate(segment.weights) if weight] or [0]
        rows = [self.rows[k][segment.entries] for k in used]
        return Mixture(rows, [segment.weights[k] for k in used])

    def _noise(self, seed: int, entries: slice, like: "Tensor") -> "Tensor":
        import torch  # noqa: PLC0415 - see operators.contract

        from evomerge.spaces.splits_noise import normals  # noqa: PLC0415 - loads numpy

        made = normals(seed, self.tensor_name, entries.start, entries.stop - entries.start)
        return torch.from_numpy(made).to(like)


def merge(inputs: Inputs) -> Blocks:
    """``Σ_k w_k θ_k + Σ_j n_j z_j``, the w and n of each segment its own.

    Raises:
        TrialError: The tensor has too few rows for the cuts.
    """
    settings, tensor = inputs.settings, inputs.tensors[0]
    row_count = tensor.shape[0] if tensor.dim() > 1 else 1
    cuts = [int(cut) for cut in settings.numbers("cuts")]
    if cuts and cuts[-1] >= row_count:
        raise TrialError(
            f"{inputs.key.tensor}: segments: a cut before row {cuts[-1]}, but it has "
            f"{row_count} rows, counted from 0."
        )
    width = tensor.numel() // max(1, row_count)
    weights = [_spread(own, len(cuts) + 1) for own in settings.numbers_of_models("weight")]
    seeds = tuple(int(seed) for seed in settings.numbers("noise_seeds"))
    noise = settings.numbers("noise")
    ends = [0, *(cut * width for cut in cuts), tensor.numel()]
    segments = [
        _Segment(
            slice(ends[k], ends[k + 1]),
            tuple(own[k] for own in weights),
            noise[k * len(seeds) : (k + 1) * len(seeds)],
        )
        for k in range(len(cuts) + 1)
    ]
    return SegmentedMixture(inputs.flat(), segments, seeds, inputs.key.tensor)


def _spread(weights: tuple[float, ...], count: int) -> tuple[float, ...]:
    return weights * count if len(weights) == 1 else weights


def _problem(settings: Settings) -> str | None:
    """Why cuts, weights and noise do not go together."""
    cuts, seeds = settings.numbers("cuts"), settings.numbers("noise_seeds")
    count = len(cuts) + 1
    if any(later <= earlier for earlier, later in zip((0.0, *cuts), cuts, strict=False)):
        return f"cuts must be ascending row numbers from 1 on, got {[*cuts]}"
    if not all(float(number).is_integer() for number in (*cuts, *seeds)):
        return f"cuts and noise_seeds must be whole numbers, got {[*cuts]} and {[*seeds]}"
    for weights in settings.numbers_of_models("weight"):
        if len(weights) not in (1, count):
            return (
                f"{len(cuts)} cuts make {count} segments, so that weight has 1 or {count} "
                f"numbers, got {[*weights]}"
            )
    if len(settings.numbers("noise")) != count * len(seeds):
        return (
            f"noise must have {count} segments × {len(seeds)} noise_seeds numbers, got "
            f"{len(settings.numbers('noise'))}"
        )
    return None


SEGMENTS = Operator(
    name="segments",
    summary="weighted sum by runs of rows, each with weights of its own",
    merge=merge,
    parameters=(
        Parameter(
            "weight",
            "numbers",
            (1.0,),
            "the model's factor in each segment, or one for all",
            per_model=True,
        ),
        Parameter("cuts", "numbers", (), "rows at which the second, third … segment begins"),
        Parameter("noise_seeds", "numbers", (), "noise directions that are added", low=0.0),
        Parameter("noise", "numbers", (), "their factors, those of the first segment first"),
    ),
    settings_problem=_problem,
    paper="Competition and Attraction Improve Model Fusion (Abrantes et al., 2025, "
    "arXiv:2508.16204)",
)
