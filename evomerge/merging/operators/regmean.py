"""Linear layers merged so that their outputs stay near those of every model."""

from typing import TYPE_CHECKING

from evomerge.merging.operators.averaging import SHARE, average, shares
from evomerge.merging.operators.contract import Blocks, Inputs, Operator, Parameter
from evomerge.merging.operators.one_thread import one_thread

if TYPE_CHECKING:
    from torch import Tensor

_RIDGE = 1e-6
"""Added to the diagonal of the scaled matrix, which is 1: keeps it regular in float32, and
gives inputs that are always zero the plain average."""


def merge(inputs: Inputs) -> Blocks:
    """``W = (Σ w_k W_k G'_k) (Σ w_k G'_k)⁻¹`` with ``G' = alpha G + (1 - alpha) diag(G)``.

    ``W`` is (out, in) as torch stores it and ``G`` (in, in) the mean of ``x xᵀ`` over the
    layer's inputs x. Tensors that are no linear layer's are averaged.
    """
    grams = _grams(inputs)
    if grams is None:
        return average(inputs)
    with one_thread(inputs.tensors[0]):
        merged = _least_squares(inputs, grams)
    return iter([(slice(0, merged.numel()), merged.reshape(-1))])


def _grams(inputs: Inputs) -> "list[Tensor] | None":
    """Every model's Gram matrix; None where one is missing or the tensor is no such layer."""
    first = inputs.tensors[0]
    found = [gram.to(first.device).float() for gram in inputs.statistics if gram is not None]
    if first.ndim != 2 or len(found) < len(inputs.tensors) or first.numel() == 0:
        return None
    fit = all(tuple(gram.shape) == (first.shape[1],) * 2 for gram in found)
    return found if fit else None


def _least_squares(inputs: Inputs, grams: "list[Tensor]") -> "Tensor":
    """The mean of the models and a correction, so that equal models give themselves.

    Products with the Gram matrices depend on neither the weights nor alpha and are kept.
    """
    weights = shares(inputs.settings.of_models("weight"))
    alpha = inputs.settings.number("alpha")
    mean = inputs.tensors[0].float() / len(grams)
    for tensor in inputs.tensors[1:]:
        mean.add_(tensor, alpha=1 / len(grams))
    differences = [tensor.float() - mean for tensor in inputs.tensors]
    products = inputs.once(
        "differences times Gram matrices",
        None,
        lambda: [d @ gram for d, gram in zip(differences, grams, strict=True)],
    )
    right = mean.new_zeros(mean.shape)
    joint = grams[0].new_zeros(grams[0].shape)
    for k, weight in enumerate(weights):
        right.add_(products[k], alpha=weight * alpha)
        right.add_(differences[k] * grams[k].diagonal(), alpha=weight * (1 - alpha))
        joint.add_(grams[k], alpha=weight)
    diagonal = joint.diagonal().clone()
    joint.mul_(alpha).diagonal().copy_(diagonal)
    return mean.add_(_solved(right, joint))


def _solved(right: "Tensor", gram: "Tensor") -> "Tensor":
    """``right · gram⁻¹``, with the diagonal scaled to 1, since inputs differ a thousandfold."""
    import torch  # noqa: PLC0415 - see operators.contract

    diagonal = gram.diagonal()
    scale = torch.where(diagonal > 0, diagonal.sqrt(), 1.0)
    scaled = gram / scale / scale.unsqueeze(1)
    scaled.diagonal().add_(_RIDGE)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if bool(failed):  # rounding left it not quite positive
        scaled.diagonal().add_(1e3 * _RIDGE)
        factor, failed = torch.linalg.cholesky_ex(scaled)
    return torch.cholesky_solve((right / scale).T, factor).T / scale


REGMEAN = Operator(
    name="regmean",
    summary="linear layers by least squares on their inputs, the rest averaged",
    merge=merge,
    parameters=(
        SHARE,
        Parameter("alpha", "number", 0.9, "scale of the off-diagonals", low=0.0, high=1.0),
    ),
    paper="RegMean (Jin et al., 2023, arXiv:2212.09849)",
    statistics="gram",
    zero_weight_drops_out=True,
)
