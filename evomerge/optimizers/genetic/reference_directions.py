"""Directions spread evenly over the trade-offs between objectives, and losses of one scale."""

from math import comb

import numpy as np
from numpy.typing import NDArray
from pymoo.util.ref_dirs import get_reference_directions

from evomerge.core.errors import ConfigError

Directions = NDArray[np.float64]
"""``(directions, objectives)`` array from 0 on, rows of sum 1."""

MOST_DIRECTIONS = 10_000

_INNER_SCALE = 0.5
"""Size of the inner layer beside the outer one (Deb and Jain 2014, section VI)."""


def directions_of(objectives: int, partitions: int) -> Directions:
    """All whose entries are multiples of ``1 / partitions`` (Das and Dennis 1998).

    Raises:
        ConfigError: There would be more than any population has parents.
    """
    number = _size(objectives, partitions, 0)
    if number > MOST_DIRECTIONS:
        raise ConfigError(
            f"optimizer.partitions: {partitions} with {objectives} objectives make {number:,} "
            f"reference directions, expected {MOST_DIRECTIONS:,} at most; at most "
            f"{steps_within(objectives, MOST_DIRECTIONS)} partitions go."
        )
    return _layer(objectives, partitions, None)


def at_most(objectives: int, count: int) -> Directions:
    """The largest even design of no more than ``count`` directions.

    There is one for each objective at least. With many objectives a design of few steps has
    all its directions on the boundary, where some objective counts for nothing; a second,
    smaller layer fills the inside.
    """
    outer, inner = max(
        _designs(objectives, count), key=lambda d: (_size(objectives, *d), d[1] > 0)
    )
    layers = [_layer(objectives, outer, None)]
    if inner:
        layers.append(_layer(objectives, inner, _INNER_SCALE))
    return np.concatenate(layers)


def steps_within(objectives: int, count: int) -> int:
    """Most partitions of a one-layer design of no more than ``count`` directions, or 1."""
    steps = 1
    while objectives > 1 and _size(objectives, steps + 1, 0) <= count:
        steps += 1
    return steps


def _designs(objectives: int, count: int) -> list[tuple[int, int]]:
    """Steps of the outer and the inner layer of those that fit; 0 means no inner layer."""
    designs = [(1, 0)]
    for outer in range(1, steps_within(objectives, count) + 1):
        designs.append((outer, 0))
        if outer < objectives and objectives > 2:
            designs += [(outer, inner) for inner in range(1, outer + 1)]
    return [d for d in designs if _size(objectives, *d) <= count] or designs[:1]


def _size(objectives: int, outer: int, inner: int) -> int:
    """Directions of a design."""
    number = comb(objectives + outer - 1, outer)
    return number + (comb(objectives + inner - 1, inner) if inner else 0)


def _layer(objectives: int, partitions: int, scaling: float | None) -> Directions:
    made = get_reference_directions(
        "das-dennis", objectives, n_partitions=partitions, scaling=scaling
    )
    return np.asarray(made, dtype=np.float64)


def rescaled(
    losses: NDArray[np.float64], best: NDArray[np.float64], worst: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Losses as shares of the way from ``best`` to ``worst``, objective by objective.

    Objectives have units of their own, accuracy or parameters, that must not decide. One
    without range becomes 0. Halves keep the largest numbers from overflowing.
    """
    span = worst / 2 - best / 2
    shares = (losses / 2 - best / 2) / np.where(span > 0, span, 1.0)
    return np.asarray(np.where(span > 0, shares, 0.0), dtype=np.float64)
