"""NSGA-III on a surrogate: where a model of the losses has its trade-offs, inside a box."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from scipy.optimize import minimize

from evomerge.optimizers.genetic.options import GeneticOptions
from evomerge.optimizers.genetic.reference_directions import at_most, rescaled
from evomerge.optimizers.genetic.variation import Variation
from evomerge.optimizers.starting_points import Units
from evomerge.spaces.genes import Gene

Array = NDArray[np.float64]

Predict = Callable[[Units], Array]
"""``(points, objectives)`` finite losses of ``(points, genes)``."""

_Slope = tuple[float, Array]

_MOST_POLISHED_GENES = 30
"""With more, slopes by differences cost more than generations gain."""

_POLISH_STEPS = 20
_DIFFERENCE = 1e-6


class SurrogateFront:
    """Searches a cheap model of the losses by NSGA-III (Deb and Jain 2014), pymoo's survival.

    Crossover and mutation are those of the genetic optimizers, and their children are moved
    into the box. The smallest loss of every objective is then followed downhill (L-BFGS-B)
    along the continuous genes, since a front is told by its ends. With one objective NSGA-III
    is an elitist genetic algorithm.

    Args:
        genes: The genes, one column of the unit cube each.
        objectives: Losses predicted.
        rng: Where all chance comes from.
        effort: Population and generations.
    """

    def __init__(
        self,
        genes: Sequence[Gene],
        objectives: int,
        rng: np.random.Generator,
        effort: tuple[int, int],
    ) -> None:
        self._rng = rng
        self._size, self._generations = effort
        self._variation = Variation(genes, rng, GeneticOptions(crossover_eta=15.0))
        self._problem = Problem(n_var=len(genes), n_obj=objectives)
        self._directions = at_most(objectives, self._size)
        discrete = self._variation.is_choice | (self._variation.step > 0)
        self._continuous = np.flatnonzero(~discrete)

    def search(
        self, predict: Predict, start: Units, box: tuple[Array, Array]
    ) -> tuple[Units, Array]:
        """Points of the surrogate's front and others near it.

        Args:
            predict: The surrogate.
            start: ``(points, genes)`` the search begins from, inside the box.
            box: ``(genes,)`` lower and upper ends; points stay between them.

        Returns:
            Points, and the losses predicted for them.
        """
        fresh = self._inside(self._variation.fresh(max(2, self._size - len(start))), box)
        units = np.concatenate([start, fresh])
        losses = predict(units)
        for _ in range(self._generations):
            parents = self._rng.integers(len(units), size=(2, (self._size + 1) // 2))
            children = self._inside(self._variation.children(units[parents]), box)
            units = np.concatenate([units, children])
            losses = np.concatenate([losses, predict(children)])
            kept = self._survivors(losses)
            units, losses = units[kept], losses[kept]
        ends = self._polished(predict, units[losses.argmin(axis=0)], box)
        units = np.concatenate([ends, units])
        return units, np.concatenate([predict(ends), losses])

    def _survivors(self, losses: Array) -> NDArray[np.int64]:
        if losses.shape[1] == 1:
            return np.argsort(losses[:, 0], kind="stable")[: self._size]
        shares = rescaled(losses, losses.min(axis=0), losses.max(axis=0))
        # pymoo switches all warnings off for good when it divides by zero.
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            return np.array(
                ReferenceDirectionSurvival(self._directions).do(
                    self._problem,
                    Population.new(F=shares),
                    n_survive=self._size,
                    random_state=self._rng,
                    return_indices=True,
                ),
                dtype=np.int64,
            )

    def _inside(self, units: Units, box: tuple[Array, Array]) -> Units:
        return np.where(self._variation.is_choice, units, np.clip(units, *box))

    def _polished(self, predict: Predict, ends: Units, box: tuple[Array, Array]) -> Units:
        """The end of each objective, moved downhill along the continuous genes."""
        moved, free = ends.copy(), self._continuous
        if not 0 < len(free) <= _MOST_POLISHED_GENES:
            return moved
        low, high = box[0][free], box[1][free]
        for objective, end in enumerate(moved):
            # One call predicts the point and its neighbours along every gene.
            def value_and_slope(x: Array, end: Units = end, k: int = objective) -> _Slope:
                points = np.repeat(end[None, :], len(free) + 1, axis=0)
                steps = np.where(x + _DIFFERENCE <= high, _DIFFERENCE, -_DIFFERENCE)
                points[:, free] = np.vstack([x, x + np.diag(steps)])
                predicted = predict(points)[:, k]
                return float(predicted[0]), (predicted[1:] - predicted[0]) / steps

            found = minimize(
                value_and_slope,
                end[free],
                jac=True,
                method="L-BFGS-B",
                bounds=np.stack([low, high], axis=1),
                options={"maxiter": _POLISH_STEPS},
            )
            end[free] = np.clip(found.x, low, high)
        return moved
