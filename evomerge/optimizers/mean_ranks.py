"""One order of outcomes over several objectives: the mean of the ranks in each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.core.outcomes import Outcome, Scored
from evomerge.optimizers.ranking import ranks


def mean_ranks(outcomes: Sequence[Outcome], objectives: int) -> NDArray[np.float64]:
    """Ranks from 0, the smaller the better; for one objective, just the ranks.

    Ranks stand for losses so that objectives on any scales weigh alike.

    Returns:
        ``(outcomes,)`` array.
    """
    by_objective = [
        ranks(outcomes, [o.losses[k] if isinstance(o, Scored) else 0.0 for o in outcomes])
        for k in range(objectives)
    ]
    return np.asarray(np.mean(by_objective, axis=0))
