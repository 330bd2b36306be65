"""How alike models are: angles and distances of their task vectors, or of their weights.

Model Kinship (Hu et al., 2024, arXiv:2410.12613) takes the correlation, cosine and distance of
flattened task vectors; Model-GLUE (Zhao et al., 2024, arXiv:2410.05357) the mean cosine of the
columns of weight matrices. All of them follow from sums over blocks of entries, which are
taken of one tensor of every model after the other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from evomerge.core.errors import CheckpointError
from evomerge.merging.adapter_model import AdaptedModel
from evomerge.merging.pairwise_sums import Matrix, PairwiseSums, pairwise_sums
from evomerge.merging.shared_tensors import SharedTensors, shared_tensors
from evomerge.merging.source_model import SourceModel

BASE = "the base"
"""What the base is called in messages."""

_FLAT = 1e-12
"""Vectors whose variance is a smaller part of their square are constant, up to rounding."""

_FAR = 4.0
"""Between models of which it is not defined how alike they are; a cosine gives 2 at most."""


@dataclass(frozen=True)
class Kinship:
    """How alike models are, pair by pair.

    Vectors are the task vectors (weights less the base's) where there is a base, else the
    weights, over all shared tensors. NaN is what is not defined: an angle to a zero vector.
    """

    names: tuple[str, ...]
    entries: int
    """Length of the vectors."""

    norms: Matrix
    """``(models,)``: of the vectors."""

    relative_norms: Matrix | None
    """``(models,)``: of the task vectors over that of the base; None without a base."""

    cosine: Matrix
    """``(models, models)``, with its sign."""

    correlation: Matrix
    """``(models, models)``: Pearson's, of the entries."""

    distance: Matrix
    """``(models, models)``: Euclidean, of the vectors."""

    sign_agreement: Matrix
    """``(models, models)``: share with equal signs among the entries that neither has at 0."""

    similarity: Matrix
    """``(models, models)``: mean over matrices of the mean cosine of the weights' columns."""

    left_out: tuple[str, ...] = ()
    """Tensors that not all models have."""

    shortened: Mapping[str, int] = field(default_factory=dict)
    """Rows compared of tensors of which some model has more."""

    @property
    def measure(self) -> Matrix:
        """By which models are kin: cosine of task vectors, else similarity of the weights."""
        return self.similarity if self.relative_norms is None else self.cosine


def kinship_matrix(
    sources: Mapping[str, SourceModel],
    base: SourceModel | None = None,
    advance: Callable[[float], object] = lambda _: None,
) -> Kinship:
    """Compare models pair by pair; reads every tensor of each, matrices twice.

    Args:
        sources: Opened source models by name.
        base: Their common ancestor; its rows are the ones compared of larger embeddings.
        advance: Is told the share of all entries that has been compared since the last time.

    Returns:
        The same numbers for any number of threads.

    Raises:
        CheckpointError: Models of another architecture, weights that are not finite, or a
            file that changed under us.
    """
    given = {BASE: base} if base is not None else {}
    models = [(n, _uncached(model)) for each in (given, sources) for n, model in each.items()]
    shared = shared_tensors(models)
    entries = sum(tensor.entries for tensor in shared.tensors)
    # The largest first, else one thread ends long after the others.
    ordered = sorted(shared.tensors, key=lambda tensor: -tensor.entries)
    total: PairwiseSums | None = None
    found = pairwise_sums(ordered, models, has_base=base is not None)
    for tensor, sums in zip(ordered, found, strict=True):
        total = sums if total is None else total.plus(sums)
        advance(tensor.entries / max(1, entries))
    if total is None:
        raise CheckpointError(f"{', '.join(sources)}: have no tensor in common.")
    return _kinship(tuple(sources), total, shared, has_base=base is not None)


def kin_groups(measure: Matrix, threshold: float) -> tuple[tuple[int, ...], ...]:
    """Models in groups whose members are on average at least so alike: average linkage.

    Args:
        measure: ``(models, models)``, 1 for equal models; NaN is far apart.
        threshold: The least mean measure between two groups that become one.

    Returns:
        Every model's number once, groups and members in the order of the models.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 - takes a while

    count = len(measure)
    if count < 2:
        return tuple((model,) for model in range(count))
    apart = np.nan_to_num(1.0 - measure, nan=_FAR)[np.triu_indices(count, 1)]
    joined = linkage(np.maximum(apart, 0.0), method="average")
    of_model = fcluster(joined, 1.0 - threshold + 1e-12, criterion="distance")
    groups: dict[int, list[int]] = {}
    for model, group in enumerate(of_model):
        groups.setdefault(int(group), []).append(model)
    return tuple(tuple(members) for members in groups.values())


def _kinship(
    names: tuple[str, ...], sums: PairwiseSums, shared: SharedTensors, *, has_base: bool
) -> Kinship:
    entries = sum(tensor.entries for tensor in shared.tensors)
    products = (sums.products + sums.products.T) / 2
    squares = products.diagonal()
    centred = products - np.outer(sums.totals, sums.totals) / max(1, entries)
    centred[np.diag_indices_from(centred)] *= centred.diagonal() > _FLAT * squares
    distance = np.zeros_like(products)
    distance[np.triu_indices(len(names), 1)] = np.sqrt(sums.squared_distances)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.sqrt(squares) / np.sqrt(sums.base)
        agreement = (sums.signs / sums.signed + 1) / 2
        similarity = sums.column_cosines / sums.matrices
    return Kinship(
        names=names,
        entries=entries,
        norms=np.sqrt(squares),
        relative_norms=relative if has_base else None,
        cosine=_normalised(products),
        correlation=_normalised(centred),
        distance=distance + distance.T,
        sign_agreement=agreement,
        similarity=np.clip((similarity + similarity.T) / 2, -1.0, 1.0),
        left_out=shared.left_out,
        shortened=shared.shortened,
    )


def _normalised(products: Matrix) -> Matrix:
    """Cosines; NaN where a vector is zero."""
    norms = np.sqrt(np.maximum(products.diagonal(), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = cast("Matrix", np.clip(products / np.outer(norms, norms), -1.0, 1.0))
    undefined = norms == 0
    cosines[undefined] = cosines[:, undefined] = np.nan
    cosines[np.diag_indices_from(cosines)] = np.where(undefined, np.nan, 1.0)
    return cosines


def _uncached(source: SourceModel) -> SourceModel:
    """The same weights; products with adapters are not kept, since each is read once."""
    if not isinstance(source, AdaptedModel):
        return source
    return AdaptedModel(_uncached(source.base), source.adapter, cache_bytes=0)
