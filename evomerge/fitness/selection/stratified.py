"""Items drawn at random within strata of difficulty, each stratum in its share."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.selection.contract import Selection

STRATA = 5
"""With 20 items, 4 a stratum. More gain little: the gain is bounded by how well a pool's mean
tells whether one model solves an item."""


def select_stratified(
    calibration: TaskCalibration,
    count: int,
    rng: np.random.Generator,
    strata: int = STRATA,
) -> Selection:
    """A stratified random sample whose every prefix holds each stratum in about its share.

    Strata are equal parts of the items sorted by their mean score over the models that
    answered them. Within a stratum of N_h items the order is random; strata are interleaved
    by (r + u_h) / N_h, where r = 0, 1, … is the place within the stratum and u_h is uniform:
    a systematic sample, so that n_h stays within about 1 of n N_h / N. What n_h is does not
    depend on which items a stratum holds, so each stratum's items are a simple random sample.
    """
    means = np.nanmean(calibration.matrix.values, axis=0)
    items = len(means)
    parts = max(1, min(strata, items // 2))
    # ties in difficulty fall in random order, not in the bank's
    ranked = np.lexsort((rng.permutation(items), means))
    stratum = np.empty(items, dtype=np.intp)
    stratum[ranked] = np.arange(items) * parts // items
    place = np.empty(items)
    for part in range(parts):
        members = np.flatnonzero(stratum == part)
        shuffled = rng.permutation(members)
        place[shuffled] = (np.arange(len(members)) + rng.uniform()) / len(members)
    order = np.argsort(place, kind="stable")[:count]
    return Selection(order, method="stratified", strata=stratum)
