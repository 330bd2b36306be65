"""The rules of M2N2's archive: shared fitness, replacement of the worst, attraction.

Scores are 0/1 per individual and data point, shape (individuals, data points). A data point
is worth 1, shared by all who get it right (Abrantes, Lange and Tang, arXiv 2508.16204); `alpha`
is the exponent of that sharing: 1 is M2N2, 0 counts right answers as a plain GA does.
"""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]


def worth(scores: Scores, alpha: float) -> Scores:
    """Return what each data point pays to each individual that gets it right, shape (points,).

    A point that nobody gets right pays 1, and to nobody.
    """
    holders = np.maximum(scores.sum(axis=0), np.float32(1))
    return (holders ** np.float32(-alpha)).astype(np.float32)


def shared_fitness(scores: Scores, alpha: float) -> NDArray[np.float32]:
    """Return `sum_j s_pj / (sum_q s_qj)^alpha` of each individual p.

    Summed row by row in one order, so that individuals with equal scores tie exactly.
    """
    shares: Scores = scores * worth(scores, alpha)
    return shares.sum(axis=1)


def attraction(scores: Scores, parent: int, alpha: float) -> NDArray[np.float32]:
    """Return how much each individual would add to what `parent` gets right.

    That is `sum_j max(0, f_qj - f_pj)` with `f_qj = s_qj / (sum_q s_qj)^alpha`: as scores are 0
    or 1, the worth of the points that q gets right and the parent does not.
    """
    missing: Scores = (1 - scores[parent]) * worth(scores, alpha)
    gains: Scores = scores * missing
    return gains.sum(axis=1)


def pick(weights: NDArray[np.float32], rng: np.random.Generator) -> int | None:
    """Draw an index with probability proportional to its weight; None if all weights are 0."""
    cumulated = np.cumsum(weights, dtype=np.float64)
    total = float(cumulated[-1])
    if total <= 0:
        return None
    drawn = int(np.searchsorted(cumulated, rng.random() * total, side="right"))
    return min(drawn, int(np.flatnonzero(weights)[-1]))


def pick_parents(
    scores: Scores, alpha: float, rng: np.random.Generator, *, attracted: bool
) -> tuple[int, int, bool]:
    """Draw two parents.

    The first by shared fitness. The second by attraction to the first, or by fitness too where
    `attracted` is off or nobody adds anything to the first parent: the published code divides
    by zero there. With nobody right about anything, all are equally likely.

    Returns:
        Both indices, and whether attraction was asked for and absent.
    """
    fitness = shared_fitness(scores, alpha)
    if not fitness.any():
        fitness = np.ones_like(fitness)
    first = pick(fitness, rng) or 0
    second = pick(attraction(scores, first, alpha), rng) if attracted else None
    unattracted = attracted and second is None
    if second is None:
        second = pick(fitness, rng) or 0
    return first, second, unattracted


def worst(scores: Scores, alpha: float) -> int:
    """Return the index of the lowest shared fitness, the first of equals."""
    return int(shared_fitness(scores, alpha).argmin())


class NicheArchive:
    """Individuals and their scores, of which a newcomer drives out the worst.

    Begins with zero vectors that get nothing right. The newcomer competes too: where it is the
    worst of all, the archive stays as it is.
    """

    def __init__(self, individuals: int, dimension: int, points: int, alpha: float) -> None:
        self.alpha = alpha
        self.weights = np.zeros((individuals, dimension), np.float32)
        self._scores = np.zeros((individuals + 1, points), np.float32)

    @property
    def scores(self) -> Scores:
        """The scores of the individuals, shape (individuals, points)."""
        return self._scores[:-1]

    def insert(self, weights: NDArray[np.float32], score: Scores) -> bool:
        """Let a newcomer compete; return whether it was taken in."""
        self._scores[-1] = score
        loser = worst(self._scores, self.alpha)
        if loser == len(self.weights):
            return False
        self._scores[loser] = score
        self.weights[loser] = weights
        return True

    def best(self) -> tuple[NDArray[np.float32], float]:
        """Return weights and accuracy of the most accurate, the first of equals."""
        accuracy = self.scores.mean(axis=1, dtype=np.float64)
        leader = int(accuracy.argmax())
        return self.weights[leader], float(accuracy[leader])
