"""Errors of a calibrated estimator on models of families that it has not seen.

Each fold of whole families is held out in turn; items are chosen anew and the predictor is
fitted anew on the other models. So the error includes what choosing the best-looking items of
a small pool costs.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from evomerge.core.errors import ConfigError
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.answers import bounded
from evomerge.fitness.estimators.predictor import Predictor
from evomerge.fitness.response_models.factor_model import complete_responses
from evomerge.fitness.response_models.family_folds import family_folds
from evomerge.fitness.selection.contract import Selection
from evomerge.fitness.selection.registry import SELECTIONS

FOLDS = 8

_LEAST = 4
"""Models that can be held out; fewer tell nothing about an error."""

_KEPT = 512
"""Sets of items whose errors are kept."""


@dataclass(frozen=True)
class HoldOut:
    """What is held out together."""

    folds: int = FOLDS
    """Largest number of folds."""

    keep_endpoints: bool = False
    """Whether endpoints are never held out, since their responses are always known."""


BY_FAMILY = HoldOut()

FitPredictor = Callable[[TaskCalibration, Selection], Predictor]


@dataclass(frozen=True, eq=False)
class _Fold:
    """What was fitted without some models, and how those answered."""

    predictor: Predictor
    order: np.ndarray
    answers: np.ndarray
    """``(models, items)`` of the models held out, NaN where missing."""
    bank_means: np.ndarray
    """``(models,)``."""


class FamilyCrossValidation:
    """Root mean square errors of held-out models by the number of items, or for given items.

    A held-out model with missing responses answers the first items of the order that it has
    responses to; its bank mean is taken over its completed row.
    """

    def __init__(
        self,
        calibration: TaskCalibration,
        selection: Selection,
        fit: FitPredictor,
        rng: np.random.Generator,
        hold_out: HoldOut = BY_FAMILY,
    ) -> None:
        """Prepare; nothing is fitted before an error is asked for.

        Args:
            calibration: Of the task.
            selection: As made from the whole calibration.
            fit: Makes the predictor.
            rng: Seeds the choice of items in each fold.
            hold_out: Folds.

        Raises:
            ConfigError: Fewer than 4 models could be held out.
        """
        kept = calibration.endpoints if hold_out.keep_endpoints else ()
        matrix = calibration.matrix
        open_rows = np.setdiff1d(np.arange(len(matrix.models)), np.array(kept, dtype=np.intp))
        if len(open_rows) < _LEAST:
            raise ConfigError(
                f"calibration: {len(open_rows)} models"
                f"{' beside the endpoints' if hold_out.keep_endpoints else ''}; the error of a "
                f"calibrated estimator needs at least {_LEAST}, so calibrate on more or use "
                "the mean."
            )
        self._calibration = calibration
        self._selection = selection
        self._fit = fit
        groups = family_folds([matrix.families[row] for row in open_rows], hold_out.folds)
        self._held = [open_rows[group] for group in groups]
        self._seeds = [int(seed) for seed in rng.integers(2**62, size=len(groups))]
        self._prefixes = _prefixes(selection.order)
        self._widening = _widening([matrix.families[row] for row in open_rows])
        self._folds: list[_Fold] | None = None
        self._errors: OrderedDict[bytes, float] = OrderedDict()

    def error(self, items: np.ndarray) -> float:
        """Standard error of the bank mean predicted from these items.

        For a prefix of the selection: the root mean square error over held-out models, each
        fold with its own items, as many. For other items: that of the predictors fitted
        without the held-out models, at these very items, times the factor by which choosing
        anew raises the error of the selection's prefix of that length (where it is longer
        than the selection, of the whole selection). Both are widened by t / 1.96, where t is
        the quantile of Student's distribution that makes value ± 1.96 standard errors a 95 %
        interval although the error is known from a few families only.
        """
        key = np.sort(items).tobytes()
        if key not in self._errors:
            self._errors[key] = self._widening * self._error(items, key)
            if len(self._errors) > _KEPT:
                self._errors.popitem(last=False)
        return self._errors[key]

    def _error(self, items: np.ndarray, key: bytes) -> float:
        order = self._selection.order
        if self._prefixes.get(len(items)) == key:
            return self._chosen_anew(len(items))
        prefix = order[: len(items)]
        optimism = self._chosen_anew(len(prefix)) / max(self._fixed(prefix), 1e-12)
        return self._fixed(items) * max(optimism, 1.0)

    def _chosen_anew(self, count: int) -> float:
        return _root_mean_square(
            [_residuals(fold, fold.order, count) for fold in self._fitted()]
        )

    def _fixed(self, items: np.ndarray) -> float:
        return _root_mean_square(
            [_residuals(fold, items, len(items)) for fold in self._fitted()]
        )

    def _fitted(self) -> list[_Fold]:
        if self._folds is None:
            means = complete_responses(self._calibration.matrix.values).mean(axis=1)
            self._folds = [
                self._fold(held, seed, means[held])
                for held, seed in zip(self._held, self._seeds, strict=True)
            ]
        return self._folds

    def _fold(self, held: np.ndarray, seed: int, bank_means: np.ndarray) -> _Fold:
        train = without_models(self._calibration, held)
        selection = self._selection
        if selection.method is not None:
            choose = SELECTIONS[selection.method].load()
            selection = choose(train, len(selection.order), np.random.default_rng(seed))
        predictor = self._fit(train, selection)
        answers = self._calibration.matrix.values[held]
        return _Fold(predictor, selection.order, answers, bank_means)


def without_models(calibration: TaskCalibration, held: np.ndarray) -> TaskCalibration:
    """A calibration without some rows; endpoints among the others stay endpoints.

    An item to which only the rows left out responded keeps its place, with the mean response
    of the others: items are known by their position.
    """
    matrix = calibration.matrix
    kept = np.setdiff1d(np.arange(len(matrix.models)), held)
    values = matrix.values[kept]
    empty = np.isnan(values).all(axis=0)
    if empty.any():
        values[:, empty] = np.nanmean(values, axis=1, keepdims=True)
    rows = {int(row): place for place, row in enumerate(kept)}
    return TaskCalibration(
        type(matrix)(
            tuple(matrix.models[row] for row in kept),
            matrix.items,
            values,
            tuple(matrix.families[row] for row in kept),
        ),
        tuple(rows[row] for row in calibration.endpoints if row in rows),
    )


def _widening(families: list[str]) -> float:
    """The .975 quantile of t with families − 1 degrees of freedom, over the normal one.

    Models of a single family count each for itself, as their folds do; of two families, an
    interval of six times the error would be no use, so they count as three.
    """
    distinct = len(set(families))
    freedom = max(distinct if distinct > 1 else len(families), 3) - 1
    return float(stdtrit(freedom, 0.975) / stdtrit(np.inf, 0.975))


def _prefixes(order: np.ndarray) -> dict[int, bytes]:
    """Sorted item positions of each prefix, by its length."""
    return {n: np.sort(order[:n]).tobytes() for n in range(1, len(order) + 1)}


def _residuals(fold: _Fold, order: np.ndarray, count: int) -> np.ndarray:
    """Predicted minus true bank mean of the held-out models."""
    first = fold.answers[:, order[:count]]
    whole = ~np.isnan(first).any(axis=1)
    predicted = np.full(len(first), np.nan)
    if whole.any():
        predicted[whole] = _predicted(fold, order[:count], first[whole])
    for row in np.flatnonzero(~whole):
        answered = order[~np.isnan(fold.answers[row, order])][:count]
        if len(answered):
            predicted[row] = _predicted(
                fold, answers=fold.answers[[row]][:, answered], items=answered
            )[0]
    return np.asarray((predicted - fold.bank_means)[~np.isnan(predicted)])


def _predicted(fold: _Fold, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
    predicted = fold.predictor.predict(items, answers)
    return bounded(predicted, answers, fold.answers.shape[1])


def _root_mean_square(parts: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))
