"""Paired bootstrap: intervals for differences between models that answered the same items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evomerge.core.errors import ConfigError
from evomerge.core.objectives import Objective
from evomerge.core.responses import Responses
from evomerge.fitness.estimate import item_values

ItemValues = Mapping[str, Sequence[float] | NDArray[np.float64]]
"""One value an item, by task."""

_DRAWS_AT_ONCE = 4_000_000
"""Upper bound of (resamples × items) held at a time; 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of a confidence interval."""

    value: float
    low: float
    high: float


def paired_bootstrap(
    a: ItemValues,
    b: ItemValues,
    rng: np.random.Generator,
    resamples: int = 2000,
    level: float = 0.95,
    weights: Mapping[str, float] | None = None,
) -> Interval:
    """The mean of ``a`` minus the mean of ``b``, with a percentile interval.

    Items are resampled with replacement within each task, the same ones for both models
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 and 13).

    Args:
        a: Item values of one model by task.
        b: Item values of the other, for the same tasks and items in the same order.
        rng: Draws the resamples.
        resamples: How many.
        level: Share of resampled differences inside the interval.
        weights: Weight by task; None weighs tasks equally.

    Raises:
        ConfigError: The two do not hold the same tasks and numbers of items.
    """
    shares = weights or dict.fromkeys(a, 1 / max(1, len(a)))
    _check_pairs(a, b, shares)
    value, replicates = 0.0, np.zeros(resamples)
    for task, weight in shares.items():
        differences = np.asarray(a[task], np.float64) - np.asarray(b[task], np.float64)
        value += weight * float(differences.mean())
        for rows, item_shares in _resampled(len(differences), resamples, rng):
            replicates[rows] += weight * (item_shares @ differences)
    low, high = percentiles(replicates, level)
    return Interval(value, float(low), float(high))


def bootstrap_objectives(
    trials: Sequence[Responses],
    objectives: Sequence[Objective],
    rng: np.random.Generator,
    resamples: int = 2000,
) -> NDArray[np.float64]:
    """Objective values of many trials under the same resampled items.

    Any function of the values (a difference to a trial, the hypervolume of some of them) has
    its bootstrap distribution in that function of ``[r]`` over all r.

    Args:
        trials: Responses of each trial; all must have answered the same items of the tasks
            that the objectives use, and only those tasks are looked at.
        objectives: What to compute; values are in the metric's own direction.
        rng: Draws the resamples.
        resamples: How many.

    Returns:
        ``(resamples, trials, objectives)`` array.

    Raises:
        ConfigError: A task or metric is missing, or the items differ between trials.
    """
    replicates = np.zeros((resamples, len(trials), len(objectives)))
    for task in dict.fromkeys(task for objective in objectives for task in objective.tasks):
        uses = [k for k, objective in enumerate(objectives) if task in objective.tasks]
        values = {k: _matrix(trials, task, objectives[k].metric) for k in uses}
        count = values[uses[0]].shape[1]
        for rows, item_shares in _resampled(count, resamples, rng):
            for k in uses:
                weight = objectives[k].tasks[task]
                replicates[rows, :, k] += weight * (item_shares @ values[k].T)
    return replicates


def percentiles(replicates: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """The bounds, along the first axis, between which a share ``level`` of values lies.

    Returns:
        ``(2, …)``: lower and upper bounds.
    """
    tail = (1 - level) / 2
    return np.asarray(np.quantile(replicates, [tail, 1 - tail], axis=0))


def _resampled(
    count: int, resamples: int, rng: np.random.Generator
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks of resamples, each a row of the shares that the items have in it.

    Counts of n draws with replacement are multinomial, which makes every mean of a resample
    one row of a matrix product.
    """
    block = max(1, _DRAWS_AT_ONCE // count)
    chances = np.full(count, 1 / count)
    for start in range(0, resamples, block):
        end = min(start + block, resamples)
        yield slice(start, end), rng.multinomial(count, chances, size=end - start) / count


def _matrix(trials: Sequence[Responses], task: str, metric: str) -> NDArray[np.float64]:
    rows = [item_values(responses, task, metric) for responses in trials]
    for k, responses in enumerate(trials):
        if responses[task].items != trials[0][task].items:
            raise ConfigError(
                f"task {task}: trial {k} of {len(trials)} answered other items than the first "
                f"({len(responses[task].items)} and {len(trials[0][task].items)}); pass "
                "responses to the same items in the same order."
            )
    return np.stack(rows)


def _check_pairs(a: ItemValues, b: ItemValues, shares: Mapping[str, float]) -> None:
    if not a or not set(a) == set(b) == set(shares):
        raise ConfigError(
            f"paired comparison: tasks {list(a)} and {list(b)}, weights of {list(shares)}; "
            "all three must name the same tasks, at least one."
        )
    for task in a:
        if len(a[task]) != len(b[task]) or not len(a[task]):
            raise ConfigError(
                f"paired comparison: task {task} has {len(a[task])} and {len(b[task])} item "
                "values; both models must have answered the same items, at least one."
            )
