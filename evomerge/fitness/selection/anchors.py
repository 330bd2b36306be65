"""Anchor points: items near the centres of clusters of items (tinyBenchmarks, section 3).

Items lie at their IRT parameters (a, b) or at their responses over the pool. The bank is
clustered into as many clusters as items are asked for, the item nearest to each centre is its
anchor, and weighs the cluster's share of the bank.

tinyBenchmarks' anchors have no order. Here they are ordered so that prefixes serve as
selections: each next anchor is the one that brings the bank's items nearest to an anchor. A
prefix's weights are the shares of items nearest to each of its anchors (``anchor_weights``).
"""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.response_models.factor_model import complete_responses
from evomerge.fitness.response_models.item_fits import fit_items
from evomerge.fitness.selection.contract import Selection
from evomerge.fitness.selection.k_means import k_means, squared_distances

_WIDEST = 64
"""Dimensions of response vectors that are clustered; longer ones are projected on their
leading principal components, which hold nearly all distances, to save time."""


def select_anchors_irt(
    calibration: TaskCalibration, count: int, rng: np.random.Generator
) -> Selection:
    """Anchors of the items' IRT parameters; missing responses are left out of the fit."""
    parameters = fit_items(calibration.matrix.values).parameters
    points = np.column_stack([parameters.discrimination, parameters.difficulty])
    return _anchors(points, count, rng, "anchors_irt")


def select_anchors_responses(
    calibration: TaskCalibration, count: int, rng: np.random.Generator
) -> Selection:
    """Anchors of the items' responses over the pool; missing ones are filled in."""
    responses = complete_responses(calibration.matrix.values)
    return _anchors(_narrow(responses), count, rng, "anchors_responses")


def anchor_weights(embedding: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Share of the bank that lies nearest to each of these items, ``(n,)``, sums to 1.

    Args:
        embedding: ``(items, dims)`` where the bank's items lie.
        items: ``(n,)`` item positions; coinciding ones share what is nearest to them.
    """
    distance = squared_distances(embedding, embedding[items])
    distance[items, np.arange(len(items))] = 0.0
    nearest = distance <= distance.min(axis=1, keepdims=True)
    return np.asarray((nearest / nearest.sum(axis=1, keepdims=True)).mean(axis=0))


def _narrow(responses: np.ndarray) -> np.ndarray:
    """Items' response vectors, ``(items, at most 64)``."""
    if len(responses) <= _WIDEST:
        return responses.T
    centred = responses - responses.mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(centred @ centred.T)
    return np.asarray(centred.T @ axes[:, ::-1][:, :_WIDEST])


def _anchors(
    points: np.ndarray, count: int, rng: np.random.Generator, method: str
) -> Selection:
    centres, cluster = k_means(points, count, rng)
    distance = squared_distances(points, centres)
    sizes = np.bincount(cluster, minlength=len(centres))
    share: dict[int, float] = {}
    for number in np.flatnonzero(sizes):
        members = np.flatnonzero(cluster == number)
        item = int(members[np.argmin(distance[members, number])])
        share[item] = sizes[number] / len(points)
    anchors = _ordered(points, np.array(list(share), dtype=np.intp))
    if len(anchors) == count:
        weights = np.array([share[int(item)] for item in anchors])
        return Selection(anchors, weights, method, embedding=points)
    # coinciding points made fewer clusters than asked for; any further items do
    others = np.setdiff1d(np.arange(len(points)), anchors)
    more = rng.choice(others, count - len(anchors), replace=False)
    order = np.concatenate([anchors, more])
    return Selection(order, anchor_weights(points, order), method, embedding=points)


def _ordered(points: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Each next anchor lowers the items' summed distance to their nearest anchor the most."""
    distance = np.sqrt(squared_distances(points, points[anchors]))
    nearest = np.full(len(points), np.inf)
    free = list(range(len(anchors)))
    order: list[int] = []
    while free:
        costs = [np.minimum(nearest, distance[:, k]).sum() for k in free]
        best = free.pop(int(np.argmin(costs)))
        nearest = np.minimum(nearest, distance[:, best])
        order.append(best)
    return anchors[order]
