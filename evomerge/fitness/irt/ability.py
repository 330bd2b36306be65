"""Abilities: where models stand, with their uncertainty, from some answers."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.model import ItemParameters

MIXTURE_SPREAD = 0.5
"""Standard deviation of the prior of mixture weights around 1/K."""

_ITERATIONS = 100
_HALVINGS = 30
_ROUNDING = 1e-13
"""Relative loss of log posterior that is rounding, not a step too far."""

_CONVERGED = 1e-16
"""Newton decrement below which a model's ability stands still."""


@dataclass(frozen=True, eq=False)
class AbilityPrior:
    """A normal prior of abilities.

    Raises:
        ConfigError: Shapes disagree, or the covariance is not symmetric positive definite.
    """

    mean: np.ndarray
    """``(dims,)``."""

    covariance: np.ndarray
    """``(dims, dims)``."""

    def __post_init__(self) -> None:
        """Check that it is a proper normal distribution."""
        for name in ("mean", "covariance"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        dims = self.mean.size
        if self.mean.shape != (dims,) or self.covariance.shape != (dims, dims):
            raise ConfigError(
                f"ability prior: mean of shape {self.mean.shape} and covariance of shape "
                f"{self.covariance.shape}; expected (dims,) and (dims, dims)."
            )
        finite = np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()
        if (
            not finite
            or not np.allclose(self.covariance, self.covariance.T)
            or np.linalg.eigvalsh(self.covariance)[0] <= 0
        ):
            raise ConfigError(
                "ability prior: the covariance must be symmetric, finite and positive definite."
            )

    @classmethod
    def standard(cls, dims: int) -> "AbilityPrior":
        """N(0, I): the population of a pool that evomerge calibrated itself."""
        return cls(np.zeros(dims), np.eye(dims))

    @classmethod
    def of(cls, ability: "Ability") -> "AbilityPrior":
        """The population that these models are drawn from.

        The covariance adds what is uncertain about each model to how they differ, so it is
        positive definite however few they are.
        """
        mean = ability.theta.mean(axis=0)
        centred = ability.theta - mean
        spread = centred.T @ centred / len(centred) + ability.covariance.mean(axis=0)
        return cls(mean, spread)


@dataclass(frozen=True, eq=False)
class Ability:
    """Abilities of models with their uncertainty."""

    theta: np.ndarray
    """``(models, dims)`` posterior modes."""

    covariance: np.ndarray
    """``(models, dims, dims)`` inverse of the observed information plus the prior's."""

    @property
    def standard_error(self) -> np.ndarray:
        """``(models, dims)`` posterior standard deviations."""
        return np.asarray(np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2)))


@dataclass(frozen=True, eq=False)
class MixtureAbility:
    """Abilities of merges as linear combinations of their endpoints' abilities."""

    weights: np.ndarray
    """``(models, endpoints)`` λ; they need not sum to 1 or be positive."""

    weight_covariance: np.ndarray
    """``(models, endpoints, endpoints)``."""

    ability: Ability
    """θ = Σ_k λ_k θ_k; its covariance has rank of at most the number of endpoints."""


def fit_ability(
    parameters: ItemParameters, answers: np.ndarray, prior: AbilityPrior | None = None
) -> Ability:
    """Posterior modes of abilities given answers, by damped Newton for all models at once.

    Maximises Σ_i [y_i log p_i + (1 − y_i) log(1 − p_i)] + log N(θ; prior), strictly concave,
    so all answers right or wrong, or none given, have a finite mode too. Graded answers enter
    as fractions (quasi-Bernoulli): the mode is right where their mean follows the model, the
    covariance is then too large, since a graded answer varies less than a 0/1 one.

    Args:
        parameters: Of the items.
        answers: ``(models, items)`` in 0…1, NaN where not answered.
        prior: Of abilities; N(0, I) if left out.

    Raises:
        ValueError: Answers or prior of another shape than the items, or outside 0…1.
    """
    answers = _checked(parameters, answers)
    prior = AbilityPrior.standard(parameters.dims) if prior is None else prior
    if prior.mean.size != parameters.dims:
        raise ValueError(
            f"the ability prior has {prior.mean.size} dimensions, the items {parameters.dims}"
        )
    asked = ~np.isnan(answers).all(axis=0)
    if not asked.any():
        asked[0] = True  # an unanswered item tells nothing, and keeps the shapes
    return _Posterior(parameters.subset(np.flatnonzero(asked)), answers[:, asked], prior).mode()


def fit_mixture_ability(
    parameters: ItemParameters,
    answers: np.ndarray,
    endpoints: np.ndarray,
    spread: float = MIXTURE_SPREAD,
) -> MixtureAbility:
    """Mixture weights of merges and the abilities they give, θ = Σ_k λ_k θ_k (MERGE³, mp-IRT).

    MERGE³ maximises the likelihood of λ, which runs away where all answers are right or wrong.
    Here λ_k ~ N(1/K, spread²) is maximised a posteriori; λ stays free to leave the simplex,
    else a merge could not be better than all its parents.

    Args:
        parameters: Of the items.
        answers: ``(models, items)`` in 0…1, NaN where not answered.
        endpoints: ``(K, dims)`` abilities of the merged models.
        spread: Prior standard deviation of each weight.

    Raises:
        ValueError: Shapes disagree, or the spread is not positive.
    """
    endpoints = np.asarray(endpoints, dtype=np.float64)
    if endpoints.ndim != 2 or endpoints.shape[1] != parameters.dims:
        raise ValueError(
            f"endpoints must have shape (endpoints, {parameters.dims}), not {endpoints.shape}"
        )
    if not spread > 0:
        raise ValueError(f"the spread of mixture weights must be above 0, got {spread}")
    count = len(endpoints)
    # a·Σλ_kθ_k = Σλ_k(a·θ_k): the weights are abilities of items with K dimensions
    projected = ItemParameters(parameters.discrimination @ endpoints.T, parameters.difficulty)
    prior = AbilityPrior(np.full(count, 1 / count), spread**2 * np.eye(count))
    weights = fit_ability(projected, answers, prior)
    ability = Ability(weights.theta @ endpoints, endpoints.T @ weights.covariance @ endpoints)
    return MixtureAbility(weights.theta, weights.covariance, ability)


def _checked(parameters: ItemParameters, answers: np.ndarray) -> np.ndarray:
    answers = np.asarray(answers, dtype=np.float64)
    if answers.ndim != 2 or answers.shape[1] != parameters.items:
        raise ValueError(
            f"answers must have shape (models, {parameters.items}), they have {answers.shape}"
        )
    if ((answers < 0) | (answers > 1)).any():
        raise ValueError("answers must be within 0 and 1, or NaN where none was given")
    return answers


class _Posterior:
    """The log posterior of many models' abilities and its maximum."""

    def __init__(
        self, parameters: ItemParameters, answers: np.ndarray, prior: AbilityPrior
    ) -> None:
        self._a = parameters.discrimination
        self._b = parameters.difficulty
        self._aa = np.einsum("id,ie->ide", self._a, self._a).reshape(len(self._a), -1)
        self._seen = ~np.isnan(answers)
        self._y = np.where(self._seen, answers, 0.0)
        self._mean = prior.mean
        self._precision = np.linalg.inv(prior.covariance)

    def mode(self) -> Ability:
        """Newton from the prior mean, halving each model's step until it ascends."""
        theta = np.tile(self._mean, (len(self._y), 1))
        value = self._value(theta)
        for _ in range(_ITERATIONS):
            gradient, curvature = self._derivatives(theta)
            step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
            if float((gradient * step).sum(axis=1).max(initial=0.0)) < _CONVERGED:
                break
            theta, value = self._ascend(theta, value, step)
        return Ability(theta, np.linalg.inv(self._derivatives(theta)[1]))

    def _ascend(
        self, theta: np.ndarray, value: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        floor = value - _ROUNDING * (1 + np.abs(value))
        reached = self._value(theta + step)
        worse = reached < floor
        for _ in range(_HALVINGS):
            if not worse.any():
                break
            step = np.where(worse[:, None], step / 2, step)
            reached = self._value(theta + step)
            worse = reached < floor
        return (
            np.where(worse[:, None], theta, theta + step),
            np.where(worse, value, reached),
        )

    def _value(self, theta: np.ndarray) -> np.ndarray:
        z = theta @ self._a.T - self._b
        fit = (self._y * z - np.where(self._seen, np.logaddexp(0.0, z), 0.0)).sum(axis=1)
        away = theta - self._mean
        return np.asarray(fit - 0.5 * np.einsum("md,de,me->m", away, self._precision, away))

    def _derivatives(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p = expit(theta @ self._a.T - self._b) * self._seen
        gradient = (self._y - p) @ self._a - (theta - self._mean) @ self._precision
        dims = theta.shape[1]
        information = ((p * (1 - p)) @ self._aa).reshape(-1, dims, dims)
        return gradient, information + self._precision
