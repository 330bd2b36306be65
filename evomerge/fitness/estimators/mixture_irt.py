"""mp-IRT and gmp-IRT: a merge's ability is a mixture of its endpoints' (MERGE³, section 2).

    θ = Σ_k λ_k θ_k over the endpoints k
    mp-IRT   τ · direct + (1 − τ) · mean over unanswered items of p_i(θ),  τ = n/N
    gmp-IRT  δ · direct + (1 − δ) · mp-IRT,  δ = 1/2

Deviations from MERGE³: λ is a posterior mode under λ_k ~ N(1/K, 0.5²) instead of the maximum
of the likelihood, which runs away where all answers are right or wrong; endpoints' abilities
are posterior modes from all their responses in the calibration.
"""

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.calibrated import CalibratedEstimator
from evomerge.fitness.estimators.family_cross_validation import HoldOut
from evomerge.fitness.estimators.irt import FOLDS, direct_mean
from evomerge.fitness.estimators.predictor import Predictor
from evomerge.fitness.irt.ability import fit_mixture_ability
from evomerge.fitness.irt.model import ItemParameters
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.selection.contract import Selection

DIRECT_SHARE = 0.5
"""δ, fixed in MERGE³'s code."""

_HOLD_OUT = HoldOut(FOLDS, keep_endpoints=True)


def fit_mp_irt(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """mp-IRT; missing responses are left out of the fit.

    Raises:
        ConfigError: The calibration names no endpoints, or fewer than 4 other models.
    """
    _check(calibration)
    return CalibratedEstimator(calibration, selection, _mp_irt, rng, _HOLD_OUT)


def fit_gmp_irt(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """gmp-IRT; missing responses and errors as in :func:`fit_mp_irt`."""
    _check(calibration)
    return CalibratedEstimator(calibration, selection, _gmp_irt, rng, _HOLD_OUT)


class MixtureIrt:
    """mp-IRT, and gmp-IRT with a direct share above 0."""

    def __init__(
        self,
        parameters: ItemParameters,
        endpoints: np.ndarray,
        direct: Predictor,
        direct_share: float = 0.0,
    ) -> None:
        """Predict with these items.

        Args:
            parameters: Of the bank's items.
            endpoints: ``(K, dims)`` abilities.
            direct: Weighted or plain mean.
            direct_share: δ.
        """
        self._parameters = parameters
        self._endpoints = endpoints
        self._direct = direct
        self._share = direct_share

    def predict(self, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """See ``Predictor``."""
        chosen = self._parameters.subset(items)
        theta = fit_mixture_ability(chosen, answers, self._endpoints).ability.theta
        p = self._parameters.probabilities(theta)
        p[:, items] = 0.0
        direct = self._direct.predict(items, answers)
        answered = len(items) / p.shape[1]
        mixed = answered * direct + p.sum(axis=1) / p.shape[1]
        return np.asarray(self._share * direct + (1 - self._share) * mixed)


def _mp_irt(
    calibration: TaskCalibration, selection: Selection, direct_share: float = 0.0
) -> Predictor:
    fit = fit_items(calibration.matrix.values)
    endpoints = fit.abilities.theta[list(calibration.endpoints)]
    direct = direct_mean(calibration, selection)
    return MixtureIrt(fit.parameters, endpoints, direct, direct_share)


def _gmp_irt(calibration: TaskCalibration, selection: Selection) -> Predictor:
    return _mp_irt(calibration, selection, DIRECT_SHARE)


def _check(calibration: TaskCalibration) -> None:
    if not calibration.endpoints:
        raise ConfigError(
            "calibration: names no endpoints; mp_irt and gmp_irt need the rows of the source "
            "models, so score the sources on the whole bank or use p_irt."
        )
