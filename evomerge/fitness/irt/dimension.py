"""Choose the number of ability dimensions on models that were held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.fitness.irt.ability import fit_ability
from evomerge.fitness.irt.fit import FitSettings, fit_2pl
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.response_matrix import ResponseMatrix

FOLDS = 5

_FEWEST_FAMILIES = 2
_SURE = 1e-6
"""Probabilities are kept this far from 0 and 1 before their logarithm is taken."""


@dataclass(frozen=True, eq=False)
class DimensionChoice:
    """How well each number of dimensions predicted models it had not seen."""

    dims: int
    """The chosen number."""

    candidates: tuple[int, ...]
    """In ascending order."""

    accuracy_error: np.ndarray
    """``(candidates,)`` mean absolute error of a model's mean score on its unseen half."""

    log_likelihood: np.ndarray
    """``(candidates,)`` mean log likelihood of an unseen response."""


def choose_dimensions(
    matrix: ResponseMatrix,
    candidates: Sequence[int],
    rng: np.random.Generator,
    settings: FitSettings | None = None,
) -> DimensionChoice:
    """The number of dimensions that predicts held-out models best.

    Whole families are held out together, in up to five folds. Items are fitted on the other
    families; of each held-out model a random half of its answers gives its ability, which
    predicts the other half (as tinyBenchmarks' tutorial does with every fifth model). All
    candidates see the same folds and halves.

    The rule: the smallest number whose error of the mean score *and* whose log likelihood are
    both within one standard error of the best candidate's, the standard error being that of
    the paired difference over held-out families. If no number is near both, the one nearest
    to the best log likelihood among those near the smallest error of the mean.

    Args:
        matrix: Responses of a pool.
        candidates: Numbers of dimensions.
        rng: Decides the folds and halves.
        settings: Of the fits.

    Raises:
        ConfigError: No candidate, or too few models, items or families for the largest one.
    """
    ordered = tuple(sorted(dict.fromkeys(candidates)))
    folds = _folds(matrix, rng)
    seen = _half_of_the_answers(matrix.values, rng)
    _check(matrix, ordered, folds)
    errors = np.full((len(ordered), len(matrix.models)), np.nan)
    fits = np.full((len(ordered), len(matrix.models)), np.nan)
    for held_out in folds:
        pool = np.setdiff1d(np.arange(len(matrix.models)), held_out)
        # items that nobody in this pool answered cannot be fitted
        items = np.flatnonzero(~np.isnan(matrix.values[pool]).all(axis=0))
        values = matrix.values[:, items]
        for k, dims in enumerate(ordered):
            parameters = fit_2pl(values[pool], dims, settings).parameters
            errors[k, held_out], fits[k, held_out] = _predicted(
                parameters, values[held_out], seen[held_out][:, items]
            )
    families = _family_numbers(matrix)
    error, near_error = _near_the_best(errors, families)
    loss, near_loss = _near_the_best(-fits, families)
    near_both = near_error & near_loss
    if near_both.any():
        best = int(np.argmax(near_both))
    else:
        best = int(np.argmin(np.where(near_error, loss, np.inf)))
    return DimensionChoice(ordered[best], ordered, error, -loss)


def _predicted(
    parameters: ItemParameters, values: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Error of the mean and mean log likelihood on the unseen half, ``(models,)`` each."""
    ability = fit_ability(parameters, np.where(seen, values, np.nan))
    p = np.clip(parameters.probabilities(ability.theta), _SURE, 1 - _SURE)
    unseen = ~seen & ~np.isnan(values)
    with np.errstate(invalid="ignore"):  # a model without an unseen answer has no error: NaN
        share = unseen / unseen.sum(axis=1, keepdims=True)
    y = np.nan_to_num(values)
    fit = (share * (y * np.log(p) + (1 - y) * np.log(1 - p))).sum(axis=1)
    return np.abs((share * (p - y)).sum(axis=1)), fit


def _near_the_best(losses: np.ndarray, families: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of each candidate, and whether it is within one standard error of the best."""
    told = ~np.isnan(losses).any(axis=0)
    mean = losses[:, told].mean(axis=1)
    worse = losses[:, told] - losses[int(np.argmin(mean)), told]
    difference = worse.mean(axis=1)
    numbers = np.unique(families[told], return_inverse=True)[1]
    sums = np.stack([np.bincount(numbers, weights=row) for row in worse])
    sizes = np.bincount(numbers)
    count = len(sizes)
    # relatives err alike: the sum over a family is one observation (cluster-robust variance)
    away = sums - difference[:, None] * sizes
    error = np.sqrt((away**2).sum(axis=1) * count / max(count - 1, 1)) / told.sum()
    return mean, difference <= error


def _family_numbers(matrix: ResponseMatrix) -> np.ndarray:
    """A number for each model's family, in order of first appearance."""
    numbers = {name: k for k, name in enumerate(dict.fromkeys(matrix.families))}
    return np.array([numbers[name] for name in matrix.families])


def _folds(matrix: ResponseMatrix, rng: np.random.Generator) -> list[np.ndarray]:
    """Models to hold out together, whole families, folds of about equal size."""
    families = _family_numbers(matrix)
    order = rng.permutation(int(families.max()) + 1)
    folds: list[list[int]] = [[] for _ in range(min(FOLDS, len(order)))]
    for family in order:
        smallest = min(folds, key=len)
        smallest.extend(np.flatnonzero(families == family).tolist())
    return [np.sort(np.array(fold, dtype=np.intp)) for fold in folds]


def _half_of_the_answers(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random half of each model's answers, ``(models, items)`` of bool."""
    lots = np.where(np.isnan(values), np.inf, rng.random(values.shape))
    ranks = lots.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    answered = (~np.isnan(values)).sum(axis=1, keepdims=True)
    return np.asarray(ranks < (answered + 1) // 2)


def _check(
    matrix: ResponseMatrix, candidates: tuple[int, ...], folds: list[np.ndarray]
) -> None:
    if not candidates or candidates[0] < 1:
        raise ConfigError(
            f"dimensions: candidates must be whole numbers from 1, got {list(candidates)}."
        )
    if len(folds) < _FEWEST_FAMILIES:
        raise ConfigError(
            f"dimensions: all {len(matrix.models)} models are of one family; held-out models "
            "need a second family."
        )
    smallest = len(matrix.models) - max(len(fold) for fold in folds)
    room = min(smallest, len(matrix.items)) - 1
    if candidates[-1] > room:
        raise ConfigError(
            f"dimensions: {candidates[-1]} dimensions need {candidates[-1] + 1} models and "
            f"items, {smallest} models and {len(matrix.items)} items are left with one fold "
            f"held out; ask for at most {max(room, 0)}."
        )
