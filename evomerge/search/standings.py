"""Standings: the front and the best of each objective, kept up to date trial by trial."""

from collections.abc import Sequence

import numpy as np

from evomerge.core.objectives import Objective, losses
from evomerge.core.pareto import front_mask
from evomerge.store.trials import Trial


class Standings:
    """The candidates that no other dominates, and the best value of each objective.

    Trials that miss a constraint take no part in either.

    Adding a trial costs time in the size of the front, not of the history.
    """

    def __init__(self, objectives: Sequence[Objective], trials: Sequence[Trial]) -> None:
        self._objectives = tuple(objectives)
        self._front: dict[int, tuple[float, ...]] = {}
        self._best: list[tuple[float, int] | None] = [None] * len(self._objectives)
        self._nearest: tuple[float, int] | None = None
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """Take a finished trial into account; failed and open ones change nothing."""
        if trial.status != "complete":
            return
        if not trial.feasible:
            if trial.kind == "candidate":
                missed = (trial.violation, trial.number)
                self._nearest = min(self._nearest or missed, missed)
            return
        point = losses(self._objectives, trial.values)
        for k, loss in enumerate(point):
            held = self._best[k]
            if held is None or loss < self._objectives[k].sign * held[0]:
                self._best[k] = (trial.values[k], trial.number)
        if trial.kind == "candidate":
            self._front[trial.number] = point
            mask = front_mask(np.array(list(self._front.values())))
            self._front = {
                number: held
                for (number, held), kept in zip(self._front.items(), mask, strict=True)
                if kept
            }

    @property
    def front(self) -> tuple[int, ...]:
        """Numbers of the candidates on the front, in order of their number."""
        return tuple(sorted(self._front))

    @property
    def best(self) -> tuple[tuple[float, int], ...]:
        """Value and trial number by objective; NaN and 0 before anything is scored."""
        return tuple(held or (float("nan"), 0) for held in self._best)

    @property
    def nearest(self) -> tuple[float, int] | None:
        """Violation and number of the candidate that misses the constraints least.

        None once a candidate meets them, and before any is scored.
        """
        return None if self._front else self._nearest
