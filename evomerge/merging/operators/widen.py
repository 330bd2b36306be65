"""WIDEN: columns weighted by how much a model changed their length and direction."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.blocks import blocks, buffers, delta, flat, total
from evomerge.merging.operators.contract import (
    LAMBDA,
    LINES,
    WEIGHT,
    Blocks,
    Inputs,
    Operator,
    Parameter,
)
from evomerge.merging.operators.directions import is_embedding

if TYPE_CHECKING:
    from torch import Tensor

_ENTRIES_AT_ONCE = 1 << 17


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + scale · Σ w_k s_k τ_k``, with scores s_k of every column, of matrices and more.

    A column holds the weights of one input; of an embedding it is a row, the vector of one
    token. Within a model, columns are ranked by the change of their length and by that of
    their direction. A score is the softmax of the ranks over the models, but ``calibration``
    where the rank is above ``above_average`` times the model's mean; s_k is the mean of the
    scores of length and direction. Vectors, such as norms, have the entry's ``|τ_k|`` in place
    of ranks. One model gives itself.
    """
    if inputs.origin.dim() < 2 or not inputs.origin.numel():
        return _merge_vector(inputs)
    by_row = is_embedding(inputs.key.tensor)
    length, direction = inputs.once("widen", by_row, lambda: _ranks(inputs, by_row=by_row))
    models, columns = length.shape
    means = [(columns - 1) / (2 * columns)] * models  # of 0, 1 … columns - 1, over columns
    scores = _scores(length, means, inputs).add_(_scores(direction, means, inputs)).mul_(0.5)
    for score, weight in zip(scores, inputs.settings.of_models("weight"), strict=True):
        score.mul_(weight)
    return _scaled_columns(inputs, scores, by_row=by_row)


def _scores(significance: "Tensor", means: Sequence[float], inputs: Inputs) -> "Tensor":
    """Scores of the importance of columns, (models, columns)."""
    limit = inputs.settings.number("above_average")
    scores = significance.softmax(0)
    for score, row, mean in zip(scores, significance, means, strict=True):
        score.masked_fill_(row > limit * mean, inputs.settings.number("calibration"))
    return scores


def _matrix(tensor: "Tensor", *, by_row: bool) -> "Tensor":
    """Outputs by inputs; of an embedding, tokens or positions by entries of a vector."""
    return tensor.reshape((-1, tensor.shape[-1]) if by_row else (tensor.shape[0], -1))


def _row_blocks(like: "Tensor") -> Iterator[slice]:
    rows, columns = like.shape
    step = max(1, _ENTRIES_AT_ONCE // columns) if like.device.type == "cpu" else rows
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _scaled_columns(inputs: Inputs, scores: "Tensor", *, by_row: bool) -> Blocks:
    start = _matrix(inputs.origin, by_row=by_row)
    columns = start.shape[1]
    models = [_matrix(tensor, by_row=by_row) for tensor in inputs.tensors]
    for rows in _row_blocks(start):
        origin = start[rows].float()
        mixed = origin.new_zeros(origin.shape)
        for model, score in zip(models, scores, strict=True):
            part = model[rows].float() - origin
            mixed.addcmul_(part, score[rows, None] if by_row else score)
        merged = origin.add(mixed, alpha=inputs.scale)
        yield slice(rows.start * columns, rows.stop * columns), merged.view(-1)


def _merge_vector(inputs: Inputs) -> Blocks:
    import torch  # noqa: PLC0415 - see operators.contract

    weights = inputs.settings.of_models("weight")
    start, rows = flat(inputs.origin), inputs.flat()
    (buffer,) = buffers(start, 1)
    means = [
        sum(total(delta(row, start, block, buffer).abs_()) for block in blocks(start))
        / max(1, start.numel())
        for row in rows
    ]
    for block in blocks(start):
        origin = start[block].float()
        parts = [row[block].float() - origin for row in rows]
        scores = _scores(torch.stack(parts).abs_(), means, inputs)
        mixed = torch.zeros_like(origin)
        for part, score, weight in zip(parts, scores, weights, strict=True):
            mixed.addcmul_(part, score, value=weight)
        yield block, origin.add(mixed, alpha=inputs.scale)


def _ranks(inputs: Inputs, *, by_row: bool) -> list["Tensor"]:
    """Ranks in [0, 1) of the changes of length and of direction, each (models, columns)."""
    import torch  # noqa: PLC0415 - see operators.contract

    changes = [_changes(inputs, tensor, by_row=by_row) for tensor in inputs.tensors]
    ranks = []
    for change in zip(*changes, strict=True):
        order = torch.stack(change).argsort(dim=1, stable=True)
        places = torch.arange(order.shape[1], device=order.device).float() / order.shape[1]
        ranks.append(
            torch.zeros_like(order, dtype=places.dtype).scatter_(
                1, order, places.expand_as(order)
            )
        )
    return ranks


def _changes(inputs: Inputs, tensor: "Tensor", *, by_row: bool) -> tuple["Tensor", "Tensor"]:
    """How much every column changed its length, and 1 - cosine; float64.

    Both come from ``a·a``, ``a·τ`` and ``τ·τ`` of a column a of the base, as columns hardly
    change: the difference of two computed lengths, or 1 minus a computed cosine, is mostly
    rounding.
    """
    start, model = _matrix(inputs.origin, by_row=by_row), _matrix(tensor, by_row=by_row)
    side = 1 if by_row else 0
    sums = []
    for rows in _row_blocks(start):
        a = start[rows].double()
        tau = model[rows].double() - a
        sums.append([(a * a).sum(side), (a * tau).sum(side), (tau * tau).sum(side)])
    base, along, change = _gathered(sums, by_row=by_row)
    square = (base + 2 * along + change).clamp_min(0)
    both = base.sqrt() + square.sqrt()
    longer = (2 * along + change) / both.clamp_min(1e-300)
    product = 2 * (base * square).sqrt()
    turned = (change - longer.square()).clamp_min(0) / product.clamp_min(1e-300)
    # A column that is zero on one side only has no direction there: counted as a right angle.
    turned[(product == 0) & (both > 0)] = 1.0
    return longer.abs(), turned


def _gathered(sums: Sequence[Sequence["Tensor"]], *, by_row: bool) -> list["Tensor"]:
    """The sums over blocks of rows put together: added, or one after the other."""
    import torch  # noqa: PLC0415 - see operators.contract

    return [
        torch.cat(parts) if by_row else torch.stack(parts).sum(0)
        for parts in zip(*sums, strict=True)
    ]


WIDEN = Operator(
    name="widen",
    summary="columns weighted by the change of their length and direction",
    merge=merge,
    parameters=(
        WEIGHT,
        Parameter(
            "above_average",
            "number",
            1.0,
            "columns of a rank above so many times the mean count fully",
            low=0.0,
            high=1e6,
        ),
        Parameter("calibration", "number", 1.0, "score of columns that count fully"),
        LAMBDA,
        LINES,
    ),
    paper="WIDEN (Yu et al., 2024, arXiv:2408.03092)",
    needs_base=True,
)
