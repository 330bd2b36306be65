"""Merges that are linear in what each model contributes: directions kept for a whole study.

Several methods turn the task vectors into directions D_k at some cost (a decomposition, a
ranking), and then merge by ``θ0 + scale · Σ w_k D_k``. The directions depend on neither the
weights nor the scale, so they are computed once, and a candidate costs one weighted sum.

Directions take the memory of the sources: float32 where a source has float32, else 16 bits an
entry. The 16 bits are float16 in units of a power of two per direction, which is eight times as
precise as bfloat16: an entry is off by 2^-12 of itself at most (or 2^-40 of the largest entry).
What all directions add to a weight is thus known to an eighth of its rounding to bfloat16, and
a weight is mostly far larger than what is added.

The last bits of a matrix product or decomposition depend on the number of threads, and so would
the merged model on where it was merged; so on a CPU directions are computed on one thread, and
several tensors at once.
"""

import math
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evomerge.core.errors import TrialError
from evomerge.merging.operators.contract import Blocks, Inputs, Parameter, is_finite
from evomerge.merging.operators.mixture import Mixture
from evomerge.merging.operators.one_thread import one_thread

if TYPE_CHECKING:
    from torch import Tensor, dtype

EMBEDDINGS = Parameter(
    "embeddings",
    "flag",
    default=False,
    summary="decompose embeddings and output heads too instead of averaging them",
)

_LARGEST = 1 << 15
"""Of a direction in its unit; float16 reaches twice that."""

_SMALLEST_UNIT = 2.0**-126
"""Smaller ones are no normal float32."""

_EMBEDDING = re.compile(
    r"^shared\.weight$"
    r"|(^|\.)(embed_\w+(?<!embed_out)|wte|wpe|\w*embeddings?|relative_attention_bias)"
    r"(\.weight)?$"
)
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|predictions\.decoder)\.weight$")


def is_embedding(tensor_name: str) -> bool:
    """Whether the rows are looked up by token or position, going by the tensor's name."""
    return _EMBEDDING.search(tensor_name) is not None


def is_matrix(inputs: Inputs) -> bool:
    """Whether the tensor is one that methods on matrices decompose.

    These are linear layers: 2-D tensors but embeddings and output heads, whose rows belong to
    single tokens; the papers average those, as they do everything that is not 2-D.
    """
    origin, name = inputs.origin, inputs.key.tensor
    if origin.dim() != 2 or not origin.numel():
        return False
    by_token = is_embedding(name) or _HEAD.search(name) is not None
    return not by_token or inputs.settings.flag("embeddings")


def task_vectors(inputs: Inputs) -> list["Tensor"]:
    """``θ_k - θ0`` of every model in float32, of the tensor's shape.

    Raises:
        TrialError: One is not finite; decompositions do not end on such.
    """
    return [task_vector(inputs, model) for model in range(len(inputs.tensors))]


def task_vector(inputs: Inputs, model: int) -> "Tensor":
    """That of the model in this place, as ``task_vectors`` gives it."""
    vector = inputs.tensors[model].float() - inputs.origin.float()
    if not is_finite(vector):
        raise TrialError(
            f"{inputs.key.tensor}: {inputs.key.models[model]} minus the base has NaN or "
            "infinite entries."
        )
    return vector


def summed(vectors: Sequence["Tensor"]) -> "Tensor":
    """The sum of at least one vector, in memory of its own."""
    total = vectors[0].clone()
    for vector in vectors[1:]:
        total += vector
    return total


@dataclass(frozen=True)
class Direction:
    """``unit · row``."""

    row: "Tensor"
    """Flat."""

    unit: float


def kept_directions(
    inputs: Inputs,
    what: str,
    facts: Hashable,
    make: Callable[[], Iterable["Tensor"]],
    model: int | None = None,
) -> list[Direction]:
    """The directions, computed if the study does not have them yet.

    Args:
        inputs: What is merged.
        what: Names the quantity.
        facts: The settings that the directions depend on.
        make: Gives them one at a time, finite, of the tensor's shape; they may be overwritten.
        model: The place of the only model that they depend on; by default they depend on all.
    """
    narrow = all(t.element_size() <= 2 for t in (*inputs.tensors, inputs.origin))

    def packed() -> Sequence["Tensor"]:
        rows, units = [], []
        with one_thread(inputs.origin):
            for direction in make():
                row = direction.reshape(-1).float()
                units.append(_unit(row) if narrow else 1.0)
                rows.append(row.div_(units[-1]).half() if narrow else row)
        return [*rows, inputs.origin.new_tensor(units, dtype=_float64())]

    *rows, units = inputs.once(what, facts, packed, model)
    return [Direction(row, unit) for row, unit in zip(rows, units.tolist(), strict=True)]


def recombined(
    inputs: Inputs, directions: Sequence[Direction], weights: Sequence[float]
) -> Blocks:
    """``θ0 + scale · Σ w_k D_k``, the weights one a direction."""
    factors = [
        inputs.scale * weight * direction.unit
        for weight, direction in zip(weights, directions, strict=True)
    ]
    rows = [direction.row for direction in directions]
    return Mixture([inputs.origin.reshape(-1), *rows], [1.0, *factors])


def averaged(inputs: Inputs, weights: Sequence[float] | None = None) -> Blocks:
    """``θ0 + scale · Σ w_k (θ_k - θ0) / count``: what methods on matrices do to the rest.

    Args:
        inputs: What is merged.
        weights: One a model; 1 each by default.
    """
    count = len(inputs.tensors)
    weights = [1.0] * count if weights is None else weights
    shares = [weight / count for weight in weights]
    return Mixture(inputs.flat(), shares, inputs.origin.reshape(-1), inputs.scale)


def _unit(row: "Tensor") -> float:
    """The power of two in which the largest entry is at most ``_LARGEST``."""
    if not row.numel():
        return 1.0
    low, high = (float(bound) for bound in row.aminmax())
    largest = max(-low, high)
    if largest == 0:
        return 1.0
    return max(2.0 ** math.ceil(math.log2(largest / _LARGEST)), _SMALLEST_UNIT)


def _float64() -> "dtype":
    import torch  # noqa: PLC0415 - see operators.contract

    return torch.float64
