"""IRT estimators: irt, p-IRT and gp-IRT (tinyBenchmarks, section 3).

With item parameters fitted on the calibration and a candidate's ability θ from its answers:

    irt     mean over all items of p_i(θ)
    p-IRT   τ · mean of the answers + (1 − τ) · mean over unanswered items of p_i(θ),  τ = n/N
    gp-IRT  λ · direct + (1 − λ) · p-IRT,  λ = b² / (b² + v / (4 n))

``direct`` is the anchors' weighted mean where the selection gives weights, else the plain
mean; v is the variance of a model's responses over items, averaged over the calibration; b is
the mean absolute error of the IRT prediction on held-out models.

Deviations from tinyBenchmarks: θ is the posterior mode under N(0, I) instead of the maximum of
the likelihood, which does not exist where all answers are right or wrong. Items are fitted by
marginal maximum likelihood with 2 dimensions (1 for fewer than 12 models) instead of 10 by
variational inference. b comes from one split, a fifth of the models in whole families held out,
whose abilities are fitted on every second item and whose means over the other items are
predicted; it is the same for every n, so λ tends to 1 as n grows.
"""

from functools import cache

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.anchors import weighted_mean
from evomerge.fitness.estimators.calibrated import CalibratedEstimator
from evomerge.fitness.estimators.family_cross_validation import HoldOut
from evomerge.fitness.estimators.predictor import LinearPredictor, Predictor
from evomerge.fitness.irt.ability import fit_ability
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.response_models.family_folds import family_folds
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.selection.contract import Selection

FOLDS = 4
"""Fewer than for the linear estimators: each fold fits all items again."""

_VALIDATION = 5
"""One in this many models is held out for b."""


def fit_irt(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """The bank mean of predicted responses; missing responses are left out of the fit."""
    return CalibratedEstimator(calibration, selection, _irt, rng, HoldOut(FOLDS))


def fit_p_irt(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """p-IRT; missing responses are left out of the fit."""
    return CalibratedEstimator(calibration, selection, _p_irt, rng, HoldOut(FOLDS))


def fit_gp_irt(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """gp-IRT; missing responses are left out of the fit. b is that of the whole calibration."""

    @cache
    def error() -> float:
        return prediction_error(calibration)

    def fit(train: TaskCalibration, chosen: Selection) -> Predictor:
        return GeneralizedIrt(_p_irt(train, chosen), direct_mean(train, chosen), train, error())

    return CalibratedEstimator(calibration, selection, fit, rng, HoldOut(FOLDS))


class IrtPredictor:
    """irt and p-IRT from item parameters."""

    def __init__(self, parameters: ItemParameters, *, answered_count: bool) -> None:
        """Predict with these items.

        Args:
            parameters: Of the bank's items.
            answered_count: Whether answered items count as answered (p-IRT), or as predicted.
        """
        self._parameters = parameters
        self._answered_count = answered_count

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """See ``Predictor``."""
        ability = fit_ability(self._parameters.subset(items), answers)
        p = self._parameters.probabilities(ability.theta)
        if self._answered_count:
            p[:, items] = answers
        return np.asarray(p.mean(axis=1))


class GeneralizedIrt:
    """λ · direct + (1 − λ) · p-IRT."""

    def __init__(
        self,
        predicted: Predictor,
        direct: Predictor,
        calibration: TaskCalibration,
        error: float,
    ) -> None:
        """Mix two predictors.

        Args:
            predicted: p-IRT.
            direct: Weighted or plain mean.
            calibration: For v.
            error: b.
        """
        self._predicted = predicted
        self._direct = direct
        self._variance = float(np.nanvar(calibration.matrix.values, axis=1).mean())
        self._error = error

    def direct_share(self, count: int) -> float:
        """λ at this number of items."""
        bias = self._error**2
        noise = self._variance / (4 * count)
        return bias / (bias + noise) if bias + noise > 0 else 1.0

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """See ``Predictor``."""
        share = self.direct_share(len(items))
        direct = self._direct.predict(items, answers)
        return share * direct + (1 - share) * self._predicted.predict(items, answers)


def direct_mean(calibration: TaskCalibration, selection: Selection) -> Predictor:
    """The anchors' weighted mean where the selection gives weights, else the plain mean."""
    if selection.embedding is not None:
        return weighted_mean(calibration, selection)
    return LinearPredictor(lambda items: (np.full(len(items), 1 / len(items)), 0.0))


def prediction_error(calibration: TaskCalibration) -> float:
    """b: mean absolute error of the IRT prediction of half the items from the other half."""
    values = calibration.matrix.values
    held = family_folds(calibration.matrix.families, _VALIDATION)[0]
    train = np.delete(values, held, axis=0)
    known = np.flatnonzero(~np.isnan(train).all(axis=0))
    parameters = fit_items(train[:, known]).parameters
    answers = values[np.ix_(held, known)]
    seen, unseen = answers.copy(), answers.copy()
    seen[:, 1::2] = np.nan
    unseen[:, 0::2] = np.nan
    p = parameters.probabilities(fit_ability(parameters, seen).theta)
    predicted = np.where(np.isnan(unseen), np.nan, p)
    tested = ~np.isnan(unseen).all(axis=1)
    if not tested.any():
        return 0.0
    errors = np.nanmean(predicted[tested] - unseen[tested], axis=1)
    return float(np.abs(errors).mean())


def _irt(calibration: TaskCalibration, selection: Selection) -> Predictor:  # noqa: ARG001
    return IrtPredictor(fit_items(calibration.matrix.values).parameters, answered_count=False)


def _p_irt(calibration: TaskCalibration, selection: Selection) -> Predictor:  # noqa: ARG001
    return IrtPredictor(fit_items(calibration.matrix.values).parameters, answered_count=True)
