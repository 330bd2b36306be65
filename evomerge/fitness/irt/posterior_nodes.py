"""Quadrature around each model's ability: where the expectation step looks.

Fixed quadrature nodes fail for long banks: with thousands of answers an ability is known more
closely than any fixed nodes lie. So the nodes of each model sit around its own posterior mode,
scaled by its own posterior covariance (adaptive Gauss–Hermite: Naylor & Smith 1982; Schilling
& Bock 2005):

* 1 and 2 dimensions: a Gauss–Hermite product rule, weights corrected by posterior / normal;
* more: the spherical cubature of 2·D points at ± √D standard deviations (exact to the third
  degree; Arasaratnam & Haykin 2009) of the normal approximation;
* very many answers in each dimension: the mode alone.
"""

import numpy as np

from evomerge.fitness.irt.answer_blocks import AnswerBlocks, Nodes

GAUSS_HERMITE = {1: 9, 2: 3}
"""Nodes in each dimension of the product rule, by number of dimensions."""

MODE_ALONE = 2000
"""Answers in each dimension from which the posterior is treated as a point: it then spreads
logits by about .06, which moves no probability's expectation by more than 2e-4."""

_STEPS = 20

_HALVINGS = 12

_ROUNDING = 1e-6
"""Relative loss of log posterior that single precision may show without cause."""


def unit_nodes(dims: int, answers: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes for a standard normal distribution.

    Args:
        dims: D.
        answers: Of a typical model.

    Returns:
        Points ``(nodes, dims)`` and weights ``(nodes,)``, which add up to 1.
    """
    if answers >= MODE_ALONE * dims:
        return np.zeros((1, dims)), np.ones(1)
    if dims not in GAUSS_HERMITE:
        reach = np.sqrt(dims) * np.eye(dims)
        return np.concatenate([reach, -reach]), np.full(2 * dims, 1 / (2 * dims))
    line, weights = np.polynomial.hermite_e.hermegauss(GAUSS_HERMITE[dims])
    grid = np.meshgrid(*[line] * dims, indexing="ij")
    mass = np.meshgrid(*[weights / weights.sum()] * dims, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, dims), np.prod(mass, axis=0).ravel()


def newton_abilities(
    answers: AnswerBlocks, coefficients: np.ndarray, theta: np.ndarray, closeness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior modes under N(0, I), by Newton steps halved until every model ascends.

    Args:
        answers: Of the pool.
        coefficients: ``(items, dims + 1)`` a and b.
        theta: ``(models, dims)`` where to start.
        closeness: The last step's largest length, in posterior standard deviations.

    Returns:
        Abilities ``(models, dims)`` and the covariances of the normal approximation.
    """
    identity = np.eye(theta.shape[1])
    value = _log_posterior(answers, coefficients, theta)
    covariance: np.ndarray = identity
    for _ in range(_STEPS):
        gradient, information = answers.ability_derivatives(coefficients, theta)
        gradient -= theta
        covariance = np.linalg.inv(information + identity)
        step = np.einsum("mde,me->md", covariance, gradient)
        decrement = float((gradient * step).sum(axis=1).max())
        theta, value = _ascend(answers, coefficients, (theta, value), step)
        if decrement < closeness**2:
            break
    return theta, covariance


def _ascend(
    answers: AnswerBlocks,
    coefficients: np.ndarray,
    start: tuple[np.ndarray, np.ndarray],
    step: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    theta, value = start
    floor = value - _ROUNDING * np.abs(value)
    reached = _log_posterior(answers, coefficients, theta + step)
    worse = reached < floor
    for _ in range(_HALVINGS):
        if not worse.any():
            break
        step = np.where(worse[:, None], step / 2, step)
        reached = _log_posterior(answers, coefficients, theta + step)
        worse = reached < floor
    return np.where(worse[:, None], theta, theta + step), np.where(worse, value, reached)


def _log_posterior(
    answers: AnswerBlocks, coefficients: np.ndarray, theta: np.ndarray
) -> np.ndarray:
    fit = answers.log_likelihoods(coefficients, theta[:, None])[:, 0]
    return np.asarray(fit - 0.5 * (theta**2).sum(axis=1))


def posterior_nodes(
    answers: AnswerBlocks,
    coefficients: np.ndarray,
    normal: tuple[np.ndarray, np.ndarray],
    unit: tuple[np.ndarray, np.ndarray],
) -> Nodes:
    """Nodes and weights of each model's posterior.

    Args:
        answers: Of the pool.
        coefficients: ``(items, dims + 1)`` a and b.
        normal: Means and covariances of the normal approximations.
        unit: What :func:`unit_nodes` gave.
    """
    mean, covariance = normal
    points, weights = unit
    spread = np.einsum("mde,ke->mkd", np.linalg.cholesky(covariance), points)
    placed = mean[:, None] + spread
    if len(points) == 1 or mean.shape[1] not in GAUSS_HERMITE:
        return Nodes(placed, np.tile(weights, (len(mean), 1)))
    posterior = answers.log_likelihoods(coefficients, placed) - 0.5 * (placed**2).sum(axis=2)
    log_weights = posterior + 0.5 * (points**2).sum(axis=1) + np.log(weights)
    mass = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    return Nodes(placed, mass / mass.sum(axis=1, keepdims=True))
