"""The weighted mean of anchor points (tinyBenchmarks, section 3)."""

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.estimators.calibrated import CalibratedEstimator
from evomerge.fitness.estimators.predictor import LinearPredictor
from evomerge.fitness.selection.anchors import anchor_weights
from evomerge.fitness.selection.contract import Selection


def fit_anchors(
    calibration: TaskCalibration, selection: Selection, rng: np.random.Generator
) -> CalibratedEstimator:
    """Σ w_c y_c over the anchors c; w_c is the share of the bank in the anchor's cluster.

    Where all of the selection's items are answered these are its own weights; for other items
    each item of the bank counts for the nearest answered one.

    Raises:
        ConfigError: The selection has no places of items.
    """
    return CalibratedEstimator(calibration, selection, weighted_mean, rng)


def weighted_mean(
    calibration: TaskCalibration,  # noqa: ARG001 (the selection has what it takes)
    selection: Selection,
) -> LinearPredictor:
    """The anchors' mean as a predictor; errors as in :func:`fit_anchors`."""
    embedding = selection.embedding
    if embedding is None:
        raise ConfigError(
            f"fitness.select: {selection.method or 'a given choice of items'} gives items no "
            "weights; the anchors estimator needs anchors_irt or anchors_responses."
        )

    def weights(items: np.ndarray) -> tuple[np.ndarray, float]:
        own = selection.weights
        if own is not None and np.array_equal(np.sort(items), np.sort(selection.order)):
            by_item = dict(zip(selection.order.tolist(), own.tolist(), strict=True))
            return np.array([by_item[int(item)] for item in items]), 0.0
        return anchor_weights(embedding, items), 0.0

    return LinearPredictor(weights)
