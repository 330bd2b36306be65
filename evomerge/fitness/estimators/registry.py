"""The estimators of a bank's mean by name: when to use each, and what it needs."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.core.near_names import unknown
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.contract import BankMeanEstimator, Fit
from evomerge.fitness.selection.contract import Selection


@dataclass(frozen=True)
class EstimatorEntry:
    """One estimator that a fitness definition can name."""

    summary: str
    """When to use it, one line."""

    selection: str
    """Key of ``SELECTIONS`` that suits it best."""

    target: str
    """``module:function``, a ``Fit``, imported when used."""

    needs_calibration: bool = True
    """Whether it uses responses of other models; if not, the bank's size is enough."""

    needs_endpoints: bool = False
    """Whether the calibration must name the rows of the source models."""

    def load(self) -> Fit:
        """Import the function."""
        module, _, name = self.target.partition(":")
        found: Fit = getattr(importlib.import_module(module), name)
        return found


_HERE = "evomerge.fitness.estimators"

ESTIMATORS: Mapping[str, EstimatorEntry] = MappingProxyType(
    {
        "mean": EstimatorEntry(
            "no calibration exists, or nothing shall be assumed",
            "random",
            f"{_HERE}.mean:fit_mean",
            needs_calibration=False,
        ),
        "anchors": EstimatorEntry(
            "tinyBenchmarks' weighted anchors, for comparison",
            "anchors_responses",
            f"{_HERE}.anchors:fit_anchors",
        ),
        "irt": EstimatorEntry(
            "bank mean of IRT predictions alone, for comparison",
            "c_optimal",
            f"{_HERE}.irt:fit_irt",
        ),
        "p_irt": EstimatorEntry(
            "tinyBenchmarks' p-IRT, for comparison or with public item parameters",
            "anchors_irt",
            f"{_HERE}.irt:fit_p_irt",
        ),
        "gp_irt": EstimatorEntry(
            "tinyBenchmarks' gp-IRT, the safest of the IRT family",
            "anchors_irt",
            f"{_HERE}.irt:fit_gp_irt",
        ),
        "mp_irt": EstimatorEntry(
            "MERGE³'s estimate with abilities mixed from the endpoints'",
            "random",
            f"{_HERE}.mixture_irt:fit_mp_irt",
            needs_endpoints=True,
        ),
        "gmp_irt": EstimatorEntry(
            "MERGE³'s default: half the answers' mean, half mp-IRT",
            "random",
            f"{_HERE}.mixture_irt:fit_gmp_irt",
            needs_endpoints=True,
        ),
        "ridge": EstimatorEntry(
            "a check of factor by another road, where choosing items may take minutes",
            "greedy",
            f"{_HERE}.ridge:fit_ridge_estimator",
        ),
        "factor": EstimatorEntry(
            "a calibration exists: the smallest error at any number of items",
            "c_optimal",
            f"{_HERE}.factor:fit_factor",
        ),
        "ppi": EstimatorEntry(
            "candidates may be unlike the calibration: unbiased, better than the mean",
            "stratified",
            f"{_HERE}.prediction_powered:fit_ppi",
        ),
        "ppi_irt": EstimatorEntry(
            "as ppi, with an IRT model of the items",
            "stratified",
            f"{_HERE}.prediction_powered:fit_ppi_irt",
        ),
        "ppi_endpoints": EstimatorEntry(
            "only the sources have answered the whole bank: unbiased, better than the mean",
            "random",
            f"{_HERE}.prediction_powered:fit_ppi_endpoints",
            needs_endpoints=True,
        ),
    }
)


def fit_estimator(
    name: str, calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> BankMeanEstimator:
    """Fit an estimator by name.

    Args:
        name: A key of ``ESTIMATORS``.
        calibration: Of the task.
        selection: The items that candidates will answer.
        rng: Where the estimator draws anything.

    Raises:
        ConfigError: The name is unknown, or the calibration or selection lacks what the
            estimator needs.
    """
    if name not in ESTIMATORS:
        raise ConfigError(f"fitness.estimator: {unknown('estimator', name, ESTIMATORS)}")
    return ESTIMATORS[name].load()(calibration, selection, rng)
