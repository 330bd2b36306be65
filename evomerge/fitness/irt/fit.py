"""Fit 1PL, 2PL and multidimensional 2PL models to the answers of a pool of models.

Marginal maximum likelihood by EM (Bock & Aitkin 1981) with an adaptive quadrature around each
model's ability (posterior_nodes.py), abilities ~ N(0, I), and a normal prior of the items'
coefficients whose mean and covariance are estimated along the way (item_prior.py): with few
models an item's own answers say little, and what is shared by all items takes over.

An iteration looks for the abilities' posteriors, moves and scales the abilities so that the
pool has mean 0 and covariance I, with the items following, and fits each item's coefficients
to the posteriors by Newton steps. The second part is parameter expansion (Liu, Rubin & Wu
1998): for the likelihood alone it changes where EM ends in nothing and takes most of its
slowness away. With the items' prior it also keeps the scale of a small pool from drifting
between long slopes and wide abilities.
"""

from dataclasses import dataclass

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.ability import Ability
from evomerge.fitness.irt.answer_blocks import AnswerBlocks, Nodes
from evomerge.fitness.irt.item_prior import STEEPEST, ItemPrior
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.irt.posterior_nodes import (
    newton_abilities,
    posterior_nodes,
    unit_nodes,
)

_LONGEST_STEP = 1.5
"""Of one item's coefficients in one iteration, in logits."""

_MOST_STEPS, _SHORT = 4, 0.1
"""Newton steps of the coefficients in one iteration, and the root mean square step after which
there is no other."""

_NEAR, _NEARER = 0.3, 1e-3
"""How close to the mode, in posterior standard deviations, abilities are looked for while
iterating and at the end."""


@dataclass(frozen=True, eq=False)
class IrtFit:
    """Items and abilities fitted together."""

    parameters: ItemParameters

    abilities: Ability
    """Of the pool's models, in the order of the rows."""

    iterations: int

    converged: bool
    """Whether the coefficients stood still before the iterations ran out."""


@dataclass(frozen=True)
class FitSettings:
    """When to stop, and what to believe of items."""

    iterations: int = 100

    tolerance: float = 1e-3
    """Root mean square change of the coefficients in one iteration, rotations aside."""

    prior: ItemPrior | None = None
    """Of the items' coefficients; None estimates it from all items together."""

    threads: int = 1
    """Does not change the result."""


def fit_2pl(values: np.ndarray, dims: int = 1, settings: FitSettings | None = None) -> IrtFit:
    """Fit σ(a_i·θ − b_i) with D-dimensional a_i and θ.

    Deterministic. Dimensions are ordered by their share Σ_i a_id² and signed so that Σ_i a_id
    is positive; abilities of the pool have about mean 0 and covariance I.

    Args:
        values: ``(models, items)`` answers in 0…1 (graded ones enter as fractions), NaN where
            missing.
        dims: D.
        settings: When to stop, and the prior of items.

    Raises:
        ConfigError: Fewer models or items than ``dims`` + 1, a model or an item without an
            answer, or a value outside 0…1.
    """
    return _Em(values, dims, settings or FitSettings(), shared_slope=False).fit()


def fit_1pl(values: np.ndarray, settings: FitSettings | None = None) -> IrtFit:
    """Fit σ(a θ − b_i) with one discrimination a shared by all items (Rasch, its spread free).

    Args and errors as in :func:`fit_2pl`.
    """
    return _Em(values, 1, settings or FitSettings(), shared_slope=True).fit()


class _Em:
    """State of one fit: coefficients (a, b) of the items, abilities, and the items' prior."""

    def __init__(
        self, values: np.ndarray, dims: int, settings: FitSettings, *, shared_slope: bool
    ) -> None:
        values = np.asarray(values, dtype=np.float64)
        _check(values, dims)
        if settings.prior is not None and settings.prior.mean.size != dims + 1:
            raise ValueError(
                f"the items' prior has {settings.prior.mean.size} coefficients, not {dims + 1}"
            )
        self._settings = settings
        self._shared_slope = shared_slope
        typical = float(np.median((~np.isnan(values)).sum(axis=1)))
        self._unit = unit_nodes(dims, typical)
        self._answers = AnswerBlocks(values, len(self._unit[1]), settings.threads)
        self._theta = _first_abilities(values, dims)
        self._beta = _first_coefficients(values, dims)
        self._prior = settings.prior or ItemPrior.start(dims)
        tempered = 0.0 if settings.prior else STEEPEST**-2
        self._ridge = np.append(np.full(dims, tempered), 0.0)

    def fit(self) -> IrtFit:
        """Iterate until the coefficients stand still."""
        self._fit_items(Nodes(self._theta[:, None], np.ones((len(self._theta), 1))))
        change, iteration = np.inf, 0
        while change > self._settings.tolerance and iteration < self._settings.iterations:
            iteration += 1
            before = self._beta
            self._fit_items(self._standardised(self._look()))
            change = _change(before, self._beta)
        return self._result(iteration, converged=change <= self._settings.tolerance)

    def _look(self) -> Nodes:
        normal = newton_abilities(self._answers, self._beta, self._theta, _NEAR)
        self._theta = normal[0]
        return posterior_nodes(self._answers, self._beta, normal, self._unit)

    def _standardised(self, nodes: Nodes) -> Nodes:
        """Give the pool mean 0 and covariance I; a·θ − b stays as it is for every pair."""
        means, covariances = nodes.moments
        centre = means.mean(axis=0)
        around = means - centre
        spread = around.T @ around / len(means) + covariances.mean(axis=0)
        values, vectors = np.linalg.eigh(spread)
        # the symmetric root does not turn the axes, so successive coefficients compare
        root = (vectors * np.sqrt(values)) @ vectors.T
        inverse = (vectors / np.sqrt(values)) @ vectors.T
        move = np.eye(len(centre) + 1)
        move[:-1, :-1] = root
        move[-1, :-1] = -centre
        self._beta = self._beta @ move.T
        if self._settings.prior is None:
            prior = self._prior
            self._prior = ItemPrior(move @ prior.mean, move @ prior.covariance @ move.T)
        self._theta = (self._theta - centre) @ inverse
        return Nodes((nodes.points - centre) @ inverse, nodes.weights)

    def _fit_items(self, nodes: Nodes) -> None:
        """One Newton step, and more while they are long, from where one step overshoots."""
        for _ in range(_MOST_STEPS):
            if self._step_items(nodes) < _SHORT:
                break

    def _step_items(self, nodes: Nodes) -> float:
        gradient, hessian = self._answers.item_derivatives(self._beta, nodes)
        if self._shared_slope:
            step, covariance = _shared_slope_step(self._beta, gradient, hessian, self._prior)
        else:
            precision = np.linalg.inv(self._prior.covariance)
            gradient -= (self._beta - self._prior.mean) @ precision + self._beta * self._ridge
            covariance = np.linalg.inv(hessian + precision + np.diag(self._ridge))
            step = np.einsum("ide,ie->id", covariance, gradient)
        length = np.linalg.norm(step, axis=1, keepdims=True)
        longest = _LONGEST_STEP + np.linalg.norm(self._beta, axis=1, keepdims=True) / 2
        shrink = np.minimum(1.0, longest / np.maximum(length, 1e-300))
        step = step * (shrink.min() if self._shared_slope else shrink)
        self._beta = self._beta + step
        if self._settings.prior is None:
            self._prior = ItemPrior.empirical(self._beta, covariance, len(self._theta))
        return float(np.sqrt(np.mean(step**2)))

    def _result(self, iterations: int, *, converged: bool) -> IrtFit:
        """Turn the dimensions to their principal axes, and look at the abilities once more."""
        slopes = self._beta[:, :-1]
        _, axes = np.linalg.eigh(slopes.T @ slopes)
        axes = axes[:, ::-1]
        turned = slopes @ axes
        signs = np.where(turned.sum(axis=0) < 0, -1.0, 1.0)
        self._beta = np.column_stack([turned * signs, self._beta[:, -1]])
        self._theta = self._theta @ axes * signs
        theta, covariance = newton_abilities(self._answers, self._beta, self._theta, _NEARER)
        parameters = ItemParameters(self._beta[:, :-1], self._beta[:, -1])
        return IrtFit(parameters, Ability(theta, covariance), iterations, converged)


def _change(before: np.ndarray, after: np.ndarray) -> float:
    """Root mean square change but for a common rotation, which changes no prediction."""
    left, _, right = np.linalg.svd(after[:, :-1].T @ before[:, :-1])
    turned = after.copy()
    turned[:, :-1] = after[:, :-1] @ (left @ right)
    return float(np.sqrt(np.mean((turned - before) ** 2)))


def _shared_slope_step(
    beta: np.ndarray, gradient: np.ndarray, hessian: np.ndarray, prior: ItemPrior
) -> tuple[np.ndarray, np.ndarray]:
    """Newton step of one slope and every item's b: an arrow-shaped system, by Schur.

    The slope is tempered like any other, which only tells where the pool's answers do not.
    """
    precision = 1 / prior.covariance[-1, -1]
    own = gradient[:, 1] - (beta[:, 1] - prior.mean[-1]) * precision
    curvature = hessian[:, 1, 1] + precision
    cross = hessian[:, 0, 1] / curvature
    schur = float((hessian[:, 0, 0] - cross * hessian[:, 0, 1]).sum()) + STEEPEST**-2
    pull = float((gradient[:, 0] - cross * own).sum()) - beta[0, 0] * STEEPEST**-2
    slope = pull / schur
    step = np.column_stack([np.full(len(beta), slope), own / curvature - cross * slope])
    covariance = np.zeros((len(beta), 2, 2))
    covariance[:, 1, 1] = 1 / curvature
    covariance[:, 0, 0] = 1 / schur
    return step, covariance


def _first_coefficients(values: np.ndarray, dims: int) -> np.ndarray:
    """No discrimination, and the difficulty that the share of right answers shows."""
    answered = (~np.isnan(values)).sum(axis=0)
    share = (np.nansum(values, axis=0) + 0.5) / (answered + 1)
    return np.column_stack([np.zeros((values.shape[1], dims)), np.log(1 / share - 1)])


def _first_abilities(values: np.ndarray, dims: int) -> np.ndarray:
    """The leading principal components of the models' answers, standardised.

    The first stands for the models' overall level, so it is signed by their mean scores.
    """
    residual = values - np.nanmean(values, axis=0)
    level = np.nanmean(residual, axis=1)
    residual = np.where(np.isnan(residual), level[:, None], residual)
    if len(values) <= values.shape[1]:
        _, vectors = np.linalg.eigh(residual @ residual.T)
        components = vectors[:, ::-1][:, :dims]
    else:
        _, vectors = np.linalg.eigh(residual.T @ residual)
        components = residual @ vectors[:, ::-1][:, :dims]
    components = components - components.mean(axis=0)
    scale = components.std(axis=0)
    components = components / np.where(scale > 0, scale, 1.0)
    signs = np.where(components.T @ level < 0, -1.0, 1.0)
    return np.asarray(components * signs)


def _check(values: np.ndarray, dims: int) -> None:
    problems = []
    if dims < 1:
        problems.append(f"irt fit: dims must be at least 1, got {dims}.")
    if values.ndim != 2 or min(values.shape) <= dims:
        problems.append(
            f"irt fit: {dims} dimensions need a matrix of at least {dims + 1} models and as "
            f"many items, the answers have shape {values.shape}; ask for fewer dimensions."
        )
    if ((values < 0) | (values > 1)).any():
        problems.append("irt fit: answers must be within 0 and 1; rescale the metric first.")
    missing = np.isnan(values)
    if not problems and (missing.all(axis=0).any() or missing.all(axis=1).any()):
        problems.append("irt fit: a model or an item has no answer; leave it out.")
    if problems:
        raise ConfigError(problems)
