"""Prediction-powered difference estimators: predicted responses, corrected by sampled ones.

With predictions f_i of a model's response to every item and its answers y_j to a random sample,

    λ · mean over the bank of f  +  mean over the sample of (y − λ f)

is unbiased over the draw of items whatever f is (the difference estimator of survey sampling:
Särndal, Swensson & Wretman 1992, section 6.3; PPI++: Angelopoulos, Duchi & Zrnic 2023). λ is
the regression coefficient of y on f, which makes the variance smallest: 0 for a useless f, so
that the plain mean is what remains.

Cross-fitting: the sample is split into folds; f and λ of a fold's items come from the answers
outside it, and those answers count as known. Given them, the fold is a random sample of the
other items, so each fold's estimate is unbiased, and so is their average.
"""

from dataclasses import dataclass

import numpy as np

from evomerge.core.objectives import Estimate
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.answers import bounded, checked_answers, exact
from evomerge.fitness.estimators.item_predictors import (
    EndpointItems,
    FactorItems,
    IrtItems,
    ItemPredictor,
)
from evomerge.fitness.estimators.sampling_design import SamplingDesign
from evomerge.fitness.selection.contract import Selection

FOLDS = 10

_LEAST = 6
"""Answers from which predictions are used; with fewer the estimate is the plain mean."""

_DOUBT = 2.0
"""Answers that speak for λ = 0 beforehand, in the regression that gives λ."""


def fit_ppi(
    calibration: TaskCalibration,
    selection: Selection,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> "PredictionPowered":
    """Predictions of a factor model of earlier responses, missing ones filled in.

    Raises:
        ConfigError: The selection is no random sample.
    """
    return _fitted(calibration, selection, FactorItems(calibration))


def fit_ppi_irt(
    calibration: TaskCalibration,
    selection: Selection,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> "PredictionPowered":
    """Predictions of an IRT model; missing responses are left out of its fit.

    Raises:
        ConfigError: The selection is no random sample.
    """
    return _fitted(calibration, selection, IrtItems(calibration))


def fit_ppi_endpoints(
    calibration: TaskCalibration,
    selection: Selection,
    rng: np.random.Generator,  # noqa: ARG001 (nothing is drawn)
) -> "PredictionPowered":
    """Predictions by regression on the endpoints' responses; needs no other models.

    Raises:
        ConfigError: The selection is no random sample, or no endpoints are named.
    """
    return _fitted(calibration, selection, EndpointItems(calibration))


def _fitted(
    calibration: TaskCalibration, selection: Selection, predictor: ItemPredictor
) -> "PredictionPowered":
    design = SamplingDesign.of(selection, len(calibration.matrix.items))
    return PredictionPowered(predictor, design)


@dataclass(frozen=True, eq=False)
class _CrossFit:
    """Predictions that do not use the answers they are compared with."""

    fold: np.ndarray
    """``(n,)`` fold of each answered item."""

    predicted: np.ndarray
    """``(folds, items of the bank)`` f from the answers outside each fold."""

    slope: np.ndarray
    """``(folds,)`` λ from the answers outside each fold."""


class PredictionPowered:
    """The difference estimator with any predictor of responses."""

    def __init__(self, predictor: ItemPredictor, design: SamplingDesign) -> None:
        self._predictor = predictor
        self._design = design

    def estimate(self, items: np.ndarray, answers: np.ndarray) -> Estimate:
        """See ``BankMeanEstimator``; a single item of several is a ``ConfigError``.

        The standard error is that of the stratified mean of the residuals y − λ f, with the
        correction for a finite bank (see :meth:`SamplingDesign.standard_error`).
        """
        items, answers = checked_answers(items, answers, self._design.bank)
        if len(items) == self._design.bank:
            return exact(answers)
        if len(items) < _LEAST:
            value = self._design.mean(items, answers)
            return Estimate(value, self._design.standard_error(items, answers, answers))
        strata = self._design.collapsed(items)
        fit = self._cross_fit(items, answers, strata)
        value = self._value(items, answers, strata, fit)
        expected = fit.slope[fit.fold] * fit.predicted[fit.fold, items]
        error = self._design.standard_error(items, answers, answers - expected)
        kept = bounded(np.array([value]), answers[None], self._design.bank)
        return Estimate(float(kept[0]), error)

    def extrapolates(self, items: np.ndarray, answers: np.ndarray) -> bool:
        """Never: unbiased whatever the predictions are."""
        checked_answers(items, answers, self._design.bank)
        return False

    def _cross_fit(
        self, items: np.ndarray, answers: np.ndarray, strata: np.ndarray
    ) -> _CrossFit:
        own = strata[items]
        count = min(FOLDS, int(np.bincount(own).min()))
        # by turns within each stratum, so each fold has items of every stratum
        fold = np.empty(len(items), dtype=np.intp)
        for stratum in range(int(own.max()) + 1):
            members = np.flatnonzero(own == stratum)
            fold[members] = np.arange(len(members)) % count
        predicted = np.stack(
            [
                self._predictor.predict(items[fold != k], answers[fold != k])
                for k in range(count)
            ]
        )
        compared = predicted[fold, items]
        slope = np.array(
            [_slope(compared[fold != k], answers[fold != k]) for k in range(count)]
        )
        return _CrossFit(fold, predicted, slope)

    def _value(
        self, items: np.ndarray, answers: np.ndarray, strata: np.ndarray, fit: _CrossFit
    ) -> float:
        """Sum over strata of the folds' estimates of the stratum's total, over the bank."""
        total = 0.0
        own = strata[items]
        for stratum in range(int(strata.max()) + 1):
            members = strata == stratum
            answered = own == stratum
            for fold, slope in enumerate(fit.slope):
                mine = answered & (fit.fold == fold)
                known = answered & (fit.fold != fold)
                rest = members.copy()
                rest[items[known]] = False
                guess = slope * fit.predicted[fold]
                missed = float((answers[mine] - guess[items[mine]]).mean())
                estimate = answers[known].sum() + rest.sum() * (guess[rest].mean() + missed)
                total += float(estimate) * int(mine.sum()) / int(answered.sum())
        return total / self._design.bank


def _slope(predicted: np.ndarray, answers: np.ndarray) -> float:
    """Regression coefficient of answers on predictions, drawn to 0, within 0…1."""
    centred = predicted - predicted.mean()
    squares = float(centred @ centred)
    if squares <= 0:
        return 0.0
    shrunken = float(centred @ answers) / (squares * (1 + _DOUBT / len(answers)))
    return min(max(shrunken, 0.0), 1.0)
