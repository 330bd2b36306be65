"""The families of TIES, DARE, DELLA and breadcrumbs: what each keeps of a task vector.

They share one formula (mergekit calls it generalized task arithmetic): sparsify every task
vector, restore its L1 norm if asked for, elect signs or not, add up, divide or not, scale.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from evomerge.merging.operators.contract import Inputs, Parameter
from evomerge.merging.operators.kept import (
    Kept,
    KeptAll,
    KeptMagnitudes,
    KeptRandom,
    KeptRanked,
    records,
)
from evomerge.merging.operators.magnitude_table import MagnitudeTable
from evomerge.merging.operators.memory_place import addresses_and_codes, place, places
from evomerge.merging.operators.mixture import Mixture, divided
from evomerge.merging.operators.random_masks import mask_stream
from evomerge.merging.operators.row_ranks import row_ranks

if TYPE_CHECKING:
    from torch import Tensor

Keep = Callable[[Inputs, int, float], Kept]
"""``(inputs, model, density)`` to what is kept; the density lies between 0 and 1."""

_NO_NORM = 1e-7


def normalize(*, default: bool) -> Parameter:
    """The flag that divides by weights, with the operator's own default."""
    return Parameter("normalize", "flag", default=default, summary="divide by the weights used")


def rescale(*, default: bool) -> Parameter:
    """The flag that restores norms, with the operator's own default."""
    summary = "restore the L1 norm that dropping took"
    return Parameter("rescale", "flag", default=default, summary=summary)


def mixture(inputs: Inputs, keep: Keep, *, elect: bool) -> Mixture:
    """The mixture that ``weight``, ``density``, ``normalize`` and ``rescale`` tell."""
    settings = inputs.settings
    weights = settings.of_models("weight")
    kept = [
        _kept(inputs, model, density, keep)
        for model, density in enumerate(settings.of_models("density"))
    ]
    if settings.flag("rescale"):
        kept = _rescaled(inputs, kept)
    divides = settings.flag("normalize")
    if divides and not elect:
        weights = divided(weights)
    return Mixture(
        inputs.flat(),
        weights,
        inputs.origin.reshape(-1),
        inputs.scale,
        kept,
        elect=elect,
        normalize=divides,
    )


def largest(inputs: Inputs, model: int, density: float) -> Kept:
    """TIES: the share ``density`` of largest magnitude, at least one entry."""
    return _range(inputs, model, (0, max(1, int(density * inputs.origin.numel()))))


def without_outliers(inputs: Inputs, model: int, density: float) -> Kept:
    """Breadcrumbs: the share ``density`` that follows the share ``gamma`` of largest magnitude.

    Where both together are more than everything, fewer of the largest are dropped.
    """
    entries = inputs.origin.numel()
    kept = int(density * entries)
    top = min(int(inputs.settings.of_models("gamma")[model] * entries), entries - kept)
    return _range(inputs, model, (top, top + kept))


def random(inputs: Inputs, model: int, density: float) -> Kept:
    """DARE: each entry with the probability ``density``."""
    return KeptRandom(density, _stream(inputs, model))


def by_rank(inputs: Inputs, model: int, density: float) -> Kept:
    """DELLA: each with a probability from ``density - epsilon`` to ``density + epsilon``.

    It grows with the rank of the entry's magnitude in its row. Probabilities beyond 0 and 1
    count as these.
    """
    epsilon = inputs.settings.of_models("epsilon")[model]
    ranks = row_ranks(inputs, model)
    return KeptRanked(density - epsilon, 2 * epsilon, ranks, _stream(inputs, model))


def _kept(inputs: Inputs, model: int, density: float, keep: Keep) -> Kept:
    if density >= 1 or not inputs.origin.numel():
        return KeptAll()
    if density <= 0:
        return KeptAll(factor=0.0)
    return keep(inputs, model, density)


def _range(inputs: Inputs, model: int, places_kept: tuple[int, int]) -> Kept:
    """Places after the first up to the last, counted from the largest magnitude."""
    first, last = places_kept
    if last <= first:
        return KeptAll(factor=0.0)
    table = MagnitudeTable(inputs, model)
    low = table.threshold(last)
    if first == 0:
        return KeptMagnitudes(low.magnitude, low.equal_up_to)
    high = table.threshold(first)
    # Where both ends meet, those dropped at the upper end come first in memory.
    met = high.equal_up_to if high.magnitude == low.magnitude else 0
    return KeptMagnitudes(
        low.magnitude, low.equal_up_to - met, high.magnitude, high.equal_up_to
    )


def _stream(inputs: Inputs, model: int) -> int:
    return mask_stream(inputs.key.seed, inputs.key.tensor, inputs.key.models[model])


def _rescaled(inputs: Inputs, kept: Sequence[Kept]) -> list[Kept]:
    """With the factors that restore L1 norms; none where either norm is about 0."""
    import torch  # noqa: PLC0415 - see operators.contract

    dropped = [k for k, choice in enumerate(kept) if not isinstance(choice, KeptAll)]
    after = _norms(inputs, dropped, [kept[k] for k in dropped])
    rescaled = list(kept)
    for model, norm in zip(dropped, after, strict=True):

        def whole(model: int = model) -> list["Tensor"]:
            return [torch.tensor(_norms(inputs, [model], [KeptAll()]), dtype=torch.float64)]

        before = float(inputs.once("L1 norm", (), whole, model)[0])
        if before >= _NO_NORM and norm >= _NO_NORM:
            rescaled[model] = kept[model].scaled(before / norm)
    return rescaled


def _norms(inputs: Inputs, models: Sequence[int], kept: Sequence[Kept]) -> list[float]:
    """L1 norms of what is kept of some models' task vectors."""
    origin = inputs.origin.reshape(-1)
    rows = [inputs.tensors[model].reshape(-1) for model in models]
    where, start = places(*rows), place(origin)
    if where is not None and start is not None:
        from evomerge.merging.operators.cpu_kernels import kept_norms  # noqa: PLC0415 - numba

        addresses, codes = addresses_and_codes(where)
        norms = kept_norms(start, addresses, codes, records(kept), origin.numel())
        return [float(norm) for norm in norms]
    found = []
    for row, choice in zip(rows, kept, strict=True):
        delta = row.float() - origin.float()
        choice.apply(delta)
        found.append(float(delta.abs_().sum()))
    return found
