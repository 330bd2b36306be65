"""Outcomes in order: feasible ones by loss, then infeasible ones by violation, then failed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.core.outcomes import Outcome, Scored


def is_feasible(outcome: Outcome) -> bool:
    """Whether it is scored and meets every constraint."""
    return isinstance(outcome, Scored) and outcome.violation == 0


def ranks(outcomes: Sequence[Outcome], losses: Sequence[float] | None = None) -> list[float]:
    """Ranks from 0, equals sharing their mean rank, for methods that use only the ranking.

    Feasible outcomes come first in the order of their loss, then infeasible ones in the order
    of their violation, then failed ones, all equal. No number has to stand for "worse than
    everything".

    Args:
        outcomes: Any number of them.
        losses: What to rank the scored ones by, one an outcome, any number for those not
            scored; the first loss of each if None.

    Returns:
        One rank an outcome.
    """
    keys = [_key(o, None if losses is None else losses[k]) for k, o in enumerate(outcomes)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    ranked = [0.0] * len(keys)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and keys[order[last + 1]] == keys[order[first]]:
            last += 1
        for position in range(first, last + 1):
            ranked[order[position]] = (first + last) / 2
        first = last + 1
    return ranked


def best_of(outcomes: Sequence[Outcome]) -> int | None:
    """Index of the first best outcome by its first loss; None where none is scored."""
    scored = [k for k, outcome in enumerate(outcomes) if isinstance(outcome, Scored)]
    return min(scored, key=lambda k: _key(outcomes[k], None), default=None)


def losses_of(scored: Sequence[Scored]) -> NDArray[np.float64]:
    """``(outcomes, objectives)`` losses."""
    return np.array([outcome.losses for outcome in scored], dtype=np.float64)


def violations_of(scored: Sequence[Scored]) -> NDArray[np.float64]:
    """``(outcomes,)`` violations, 0 where feasible."""
    return np.array([outcome.violation for outcome in scored], dtype=np.float64)


def _key(outcome: Outcome, loss: float | None) -> tuple[int, float]:
    if not isinstance(outcome, Scored):
        return 2, 0.0
    if outcome.violation > 0:
        return 1, outcome.violation
    return 0, outcome.losses[0] if loss is None else loss
