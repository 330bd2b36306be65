"""What models of known ability would score on all items."""

from dataclasses import dataclass

import numpy as np

from evomerge.fitness.irt.ability import Ability
from evomerge.fitness.irt.model import ItemParameters


@dataclass(frozen=True, eq=False)
class ExpectedScores:
    """Weighted mean probabilities of right answers."""

    value: np.ndarray
    """``(models,)`` Σ_i w_i p_i(θ)."""

    variance: np.ndarray
    """``(models,)`` gᵀ V g with g = Σ_i w_i p_i (1 − p_i) a_i: what not knowing θ exactly
    adds. That answers scatter around their probabilities, and that items do not follow the
    model, is not in it."""


def expected_scores(
    parameters: ItemParameters, ability: Ability, weights: np.ndarray | None = None
) -> ExpectedScores:
    """Expected score of a bank with the delta method's variance.

    Args:
        parameters: Of the bank's items.
        ability: Of the models.
        weights: ``(items,)``, adding up to 1; equal if left out.

    Raises:
        ValueError: Weights of another number than the items.
    """
    shares = np.full(parameters.items, 1 / parameters.items) if weights is None else weights
    if np.shape(shares) != (parameters.items,):
        raise ValueError(f"{np.shape(shares)} weights for {parameters.items} items")
    p = parameters.probabilities(ability.theta)
    slope = (p * (1 - p) * shares) @ parameters.discrimination
    variance = np.einsum("md,mde,me->m", slope, ability.covariance, slope)
    return ExpectedScores(p @ shares, variance)
