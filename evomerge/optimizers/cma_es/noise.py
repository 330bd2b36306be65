"""How certain the order of a generation is, from the standard errors of its scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.core.outcomes import Outcome, Scored
from evomerge.optimizers.ranking import is_feasible

_DRAWS = 16
"""Imagined re-evaluations of every candidate; they cost nothing but their sorting."""

_ACCEPTED = 0.5
"""θ of Hansen et al. 2009, the share of a random rank change put up with, as in pycma."""

_SMOOTHING = 0.3
"""Weight of the newest generation; the value of pycma's noise handler."""


class RankUncertainty:
    """Tells while the order of CMA-ES's generations is mostly noise.

    The measure of UH-CMA-ES (Hansen, Niederberger, Guzzella and Koumoutsakos 2009, A method for
    handling uncertainty in evolutionary optimization): whether a second evaluation of the same
    candidates would move their ranks by more than a share of what pure chance does.

    What differs is where the second evaluation comes from. Asked again, a recipe would give the
    same answers to the same items, which is no independent measurement, and every new item
    costs as much as for a new candidate. But each score comes with a standard error, so the
    second evaluation is drawn from a normal distribution around it, many times, at no cost.

    A standard error holds for one score by itself. Where all candidates answer the same items
    their errors are alike, and the order is more certain than it seems here. And CMA-ES
    averages over candidates by itself: with 12 genes and 20 items each, 240 and 800 candidates
    came out worse with the steps held wide, with 4 genes about alike.

    Args:
        rng: The imagined evaluations are drawn from it.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._uncertainty = 0.0

    def begin(self) -> None:
        """Forget the generations of the last run."""
        self._uncertainty = 0.0

    def is_high(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether it is after this generation; no where scores come without errors."""
        certain = [o for o in outcomes if isinstance(o, Scored) and is_feasible(o)]
        measured = [o for o in certain if o.standard_errors]
        if len(measured) < 2 or len(measured) < len(certain):
            return False
        losses = np.array([o.losses[0] for o in measured])
        errors = np.array([o.standard_errors[0] for o in measured])
        if not np.isfinite(errors).all():
            return False
        with np.errstate(all="ignore"):
            now = _excess_rank_change(losses, errors, self._rng)
        self._uncertainty += _SMOOTHING * (now - self._uncertainty)
        return self._uncertainty > 0


def _excess_rank_change(
    losses: NDArray[np.float64], errors: NDArray[np.float64], rng: np.random.Generator
) -> float:
    """Mean rank change between two evaluations, less the one that is put up with.

    Ranks are among all 2 λ values of both evaluations, as in the paper.
    """
    count = len(losses)
    # Both evaluations err: the second one differs from the first by √2 errors.
    again = losses + np.sqrt(2) * errors * rng.standard_normal((_DRAWS, count))
    both = np.concatenate([np.broadcast_to(losses, again.shape), again], axis=1)
    order = both.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    old, new = order[:, :count], order[:, count:]
    change = np.abs(new - old) - 1
    limits = _accepted_changes(2 * count)
    # A value's own double does not count in its rank.
    accepted = limits[new - (new > old)] + limits[old - (old > new)]
    return float((2 * change - accepted).mean())


def _accepted_changes(values: int) -> NDArray[np.float64]:
    """``(values,)``: for each rank, the θ · 50 percentile of its distance to all ranks."""
    ranks = np.arange(values - 1)
    return np.array(
        [np.percentile(np.abs(ranks - rank), 50 * _ACCEPTED) for rank in range(values)]
    )
