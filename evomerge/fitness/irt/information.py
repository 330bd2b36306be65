"""Fisher information of items, and which item to ask next.

An item of σ(a·θ − b) carries p(1 − p) a aᵀ about θ; in one dimension a² p (1 − p).
"""

from collections.abc import Sequence

import numpy as np

from evomerge.fitness.irt.ability import AbilityPrior
from evomerge.fitness.irt.model import ItemParameters


def item_information(parameters: ItemParameters, theta: np.ndarray) -> np.ndarray:
    """Fisher information of each item at each ability, ``(models, items, dims, dims)``.

    Args:
        parameters: Of the items.
        theta: ``(models, dims)``.
    """
    p = parameters.probabilities(theta)
    slopes = parameters.discrimination
    return np.asarray(np.einsum("mi,id,ie->mide", p * (1 - p), slopes, slopes, optimize=True))


def bank_information(parameters: ItemParameters, theta: np.ndarray) -> np.ndarray:
    """The test information function: all items together, ``(models, dims, dims)``.

    Its inverse, with a prior's precision added, is the covariance of the estimated ability.
    """
    p = parameters.probabilities(theta)
    slopes = parameters.discrimination
    squares = np.einsum("id,ie->ide", slopes, slopes).reshape(parameters.items, -1)
    return np.asarray(((p * (1 - p)) @ squares).reshape(-1, parameters.dims, parameters.dims))


def next_items(
    parameters: ItemParameters,
    theta: np.ndarray,
    answered: Sequence[int] | np.ndarray,
    count: int = 1,
    prior: AbilityPrior | None = None,
) -> tuple[int, ...]:
    """The unanswered items that tell most about one model, for computerised adaptive testing.

    D-optimal: with P the prior's precision plus the information of the answered items, an item
    multiplies det P by 1 + p(1 − p) aᵀ P⁻¹ a. In one dimension that orders items by their
    Fisher information a² p (1 − p). Several items are taken one after the other, each as if
    the former were answered. Ties go to the item that comes first.

    Args:
        parameters: Of the items.
        theta: ``(dims,)`` the ability estimated so far.
        answered: Items that are not asked again.
        count: How many to choose; fewer are returned where fewer are left.
        prior: Of abilities; N(0, I) if left out.
    """
    prior = AbilityPrior.standard(parameters.dims) if prior is None else prior
    point = np.asarray(theta, dtype=np.float64)[None]
    p = parameters.probabilities(point)[0]
    scaled = parameters.discrimination * np.sqrt(p * (1 - p))[:, None]
    open_items = np.ones(parameters.items, dtype=bool)
    seen = np.asarray(answered, dtype=np.intp)
    open_items[seen] = False
    precision = np.linalg.inv(prior.covariance) + scaled[seen].T @ scaled[seen]
    chosen: list[int] = []
    for _ in range(min(count, int(open_items.sum()))):
        gain = np.einsum("id,de,ie->i", scaled, np.linalg.inv(precision), scaled, optimize=True)
        item = int(np.argmax(np.where(open_items, gain, -1.0)))
        chosen.append(item)
        open_items[item] = False
        precision = precision + np.outer(scaled[item], scaled[item])
    return tuple(chosen)
