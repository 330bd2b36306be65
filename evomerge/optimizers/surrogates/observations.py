"""What a model of the losses is fitted to: where candidates lay and what came of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.core.outcomes import Outcome, Scored
from evomerge.core.pareto import front_mask
from evomerge.optimizers.starting_points import Units

Array = NDArray[np.float64]


class Observations:
    """All outcomes learned so far.

    Args:
        genes: Columns of the unit cube.
        objectives: Losses of a scored candidate.
    """

    def __init__(self, genes: int, objectives: int) -> None:
        self._genes = genes
        self._objectives = objectives
        self._units: list[Units] = []
        self._scored: list[Scored] = []
        self._failed: list[Units] = []

    def add(self, units: Units, outcome: Outcome) -> None:
        """Remember one candidate."""
        if isinstance(outcome, Scored):
            self._units.append(units)
            self._scored.append(outcome)
        else:
            self._failed.append(units)

    def __len__(self) -> int:
        """Candidates, failed ones included."""
        return len(self._scored) + len(self._failed)

    @property
    def units(self) -> Units:
        """``(scored, genes)``."""
        return np.array(self._units).reshape(-1, self._genes)

    @property
    def failed(self) -> Units:
        """``(failed, genes)``."""
        return np.array(self._failed).reshape(-1, self._genes)

    @property
    def losses(self) -> Array:
        """``(scored, objectives)``."""
        losses = [outcome.losses for outcome in self._scored]
        return np.array(losses, dtype=np.float64).reshape(-1, self._objectives)

    @property
    def errors(self) -> Array | None:
        """``(scored, objectives)`` standard errors; None where some are not known."""
        given: Sequence[tuple[float, ...]] = [o.standard_errors for o in self._scored]
        if not given or any(len(errors) != self._objectives for errors in given):
            return None
        errors = np.array(given, dtype=np.float64)
        return errors if np.isfinite(errors).all() and (errors > 0).any() else None

    @property
    def violations(self) -> Array:
        """``(scored,)``, 0 where feasible."""
        return np.array([outcome.violation for outcome in self._scored], dtype=np.float64)

    @property
    def best(self) -> Units:
        """Feasible points that no other dominates; the least violating where none is."""
        violations = self.violations
        if not len(violations):
            return self.units
        feasible = violations == 0
        if not feasible.any():
            return np.asarray(self.units[violations == violations.min()])
        return np.asarray(self.units[feasible][front_mask(self.losses[feasible])])
