"""The race: a candidate whose interval cannot reach those before it answers no more items."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from evomerge.core.constraints import Constraint
from evomerge.core.objectives import Estimate
from evomerge.core.outcomes import Scored
from evomerge.core.pareto import front_mask


def hopeless(candidate: Scored, rivals: Sequence[Scored], confidence: float) -> bool:
    """Whether some rival is better in every objective by more than chance explains.

    In each objective the candidate's loss must exceed the rival's by z standard errors of
    their difference, z being the quantile of ``confidence``. The two errors are taken as
    independent, which is cautious where both answered the same items and so err alike. A rival
    that has answered more does not share the luck of a candidate's first items; where those
    are easy or hard all candidates of the generation are shifted together. Objectives
    without error, such as a model's size, need no margin, but one objective must differ.

    Args:
        candidate: Its losses and their standard errors.
        rivals: Whom it competes with.
        confidence: Of a single comparison, between 0.5 and 1.
    """
    if not rivals:
        return False
    gaps = np.array(candidate.losses) - np.array([rival.losses for rival in rivals])
    errors = np.hypot(
        np.array(candidate.standard_errors),
        np.array([rival.standard_errors for rival in rivals]),
    )
    beaten = gaps >= norm.ppf(confidence) * errors
    return bool(np.any(beaten.all(axis=1) & (gaps > 0).any(axis=1)))


def barred(
    constraints: Sequence[Constraint], estimates: Sequence[Estimate], confidence: float
) -> bool:
    """Whether a candidate misses some constraint by more than chance explains.

    Its estimate must be beyond the bound by z standard errors, z being the quantile of
    ``confidence``. What the recipe alone decides has no error.

    Args:
        constraints: Of the study.
        estimates: The candidate's, one a constraint.
        confidence: Of a single constraint, between 0.5 and 1.
    """
    errors = float(norm.ppf(confidence))
    return any(
        constraint.surely_missed(estimate, errors)
        for constraint, estimate in zip(constraints, estimates, strict=True)
    )


BEFORE_ALL = -1
"""Stands for the id of sources and baselines."""

_FRONTS = 3
"""Fronts kept: those of a generation, the one before, and of what was proposed ahead."""


class Rivals:
    """Whom candidates race against: what was known when they were proposed.

    These are the undominated among sources, baselines and the candidates whose outcomes the
    optimizer had been told by then; of equals all, since their errors may differ. Who misses
    a constraint is nobody's rival: a worse one that meets it is better. So neither
    the order in which workers finish nor a resume changes the outcome of a race.
    """

    def __init__(self) -> None:
        self._scored: list[tuple[int, Scored]] = []
        self._front: dict[int, list[Scored]] = {}

    def add(self, scored: Scored, id_: int) -> None:
        """Take a finished trial into account, by its candidate's id or ``BEFORE_ALL``."""
        if scored.violation == 0:
            self._scored.append((id_, scored))

    def of(self, known: int) -> list[Scored]:
        """The undominated of everything before candidate ``known``; all that must be told."""
        if known not in self._front:
            before = [scored for id_, scored in self._scored if id_ < known]
            points = list(dict.fromkeys(scored.losses for scored in before))
            mask = front_mask(np.array(points)) if points else np.zeros(0)
            front = {points[k] for k in np.flatnonzero(mask).tolist()}
            self._front[known] = [s for s in before if s.losses in front]
            for old in sorted(self._front)[:-_FRONTS]:
                del self._front[old]
        return self._front[known]
