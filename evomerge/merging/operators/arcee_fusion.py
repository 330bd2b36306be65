"""Arcee Fusion: the changes of one model that stand out are added to the base."""

from typing import TYPE_CHECKING

from evomerge.merging.operators.contract import LAMBDA, LINES, Blocks, Inputs, Operator
from evomerge.merging.operators.inner_products import exact, walk

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR = 1e-8
_QUARTILES = (0.25, 0.5, 0.75)


def merge(inputs: Inputs) -> Blocks:
    """``θ0 + lambda · (θ - θ0)`` where a change is important, else θ0.

    The importance of an entry is ``|θ - θ0| · KL(p ‖ q)``, p the softmax of its row (along the
    last dimension) of θ and q of θ0, both plus 1e-8; what reaches the median plus 1.5
    interquartile ranges of its tensor is important. Divergences are summed in double
    precision, as those of near rows are tiny sums of large terms, and the quantiles are those
    of all entries: mergekit takes them of a million drawn at random from larger tensors, from
    torch's global generator. Where all importances are 0 (rows of one entry), all entries move.
    """
    if not inputs.origin.numel():
        return
    divergences, threshold = inputs.once("importance", (), lambda: _importance(inputs))
    scale, base = inputs.scale, inputs.origin.reshape(-1)
    size = inputs.origin.numel() // len(divergences)
    for block, (part,) in walk(inputs, "rows"):
        rows = slice(block.start // size, block.stop // size)
        important = _weighed(part, divergences, rows).ge_(threshold)
        yield block, part.mul_(important).mul_(scale).add_(base[block])


def _importance(inputs: Inputs) -> list["Tensor"]:
    """The divergence of every row, and the least importance that counts; both in float32."""
    (model,), base = inputs.tensors, inputs.origin
    size = base.shape[-1] if base.ndim else 1
    rows, origins = model.reshape(-1, size), base.reshape(-1, size)
    divergences = model.new_empty((len(rows), 1)).float()
    importance = model.new_empty(model.numel()).float()
    for block, (part,) in walk(inputs, "rows"):
        here = slice(block.start // size, block.stop // size)
        divergences[here] = _divergence(rows[here], origins[here])
        importance[block] = _weighed(part, divergences, here)
    # Counted from 1; quantiles are entries themselves, none between two.
    places = [int(share * (importance.numel() - 1)) + 1 for share in _QUARTILES]
    low, middle, high = (importance.kthvalue(place).values for place in places)
    return [divergences, (middle + 1.5 * (high - low)).reshape(1)]


def _divergence(rows: "Tensor", origins: "Tensor") -> "Tensor":
    """KL of the rows' softmax from the origins', one a row."""
    p = rows.to(exact(rows)).softmax(-1).add_(_FLOOR)
    q = origins.to(exact(rows)).softmax(-1).add_(_FLOOR)
    return (p / q).log_().mul_(p).sum(-1, keepdim=True).float()


def _weighed(part: "Tensor", divergences: "Tensor", rows: slice) -> "Tensor":
    """``|change| · divergence of its row``, of whole rows."""
    own = divergences[rows]
    return part.view(len(own), -1).abs().mul_(own).view(-1)


ARCEE_FUSION = Operator(
    name="arcee_fusion",
    summary="base with those changes of one model whose importance stands out",
    merge=merge,
    parameters=(LAMBDA, LINES),
    paper="Arcee Fusion (Arcee AI, 2025, mergekit)",
    needs_base=True,
    max_models=1,
)
