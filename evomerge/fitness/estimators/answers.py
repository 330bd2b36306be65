"""Checks of answers to a bank's items, and the bounds that they put on the bank's mean."""

import numpy as np

from evomerge.core.objectives import Estimate


def checked_answers(
    items: np.ndarray, answers: np.ndarray, bank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items as positions and answers as float64.

    Args:
        items: ``(n,)``.
        answers: ``(n,)``.
        bank: Number of items of the bank.

    Raises:
        ValueError: Shapes disagree, no item, an item twice or outside the bank, or an answer
            that is not finite.
    """
    positions = np.asarray(items, dtype=np.intp)
    scores = np.asarray(answers, dtype=np.float64)
    if positions.ndim != 1 or positions.shape != scores.shape or not positions.size:
        raise ValueError(
            f"expected as many answers as items, at least one; items have shape "
            f"{positions.shape}, answers {scores.shape}"
        )
    if positions.min() < 0 or positions.max() >= bank:
        raise ValueError(
            f"items must be within 0 and {bank - 1}, found {positions.min()} to "
            f"{positions.max()}"
        )
    if len(np.unique(positions)) < len(positions):
        raise ValueError("an item is answered twice; give each answer once")
    if not np.isfinite(scores).all():
        raise ValueError("an answer is not finite; leave out what was not answered")
    return positions, scores


def exact(answers: np.ndarray) -> Estimate:
    """Where every item of the bank is answered."""
    return Estimate(float(answers.mean()), 0.0)


def bounded(predicted: np.ndarray, answers: np.ndarray, bank: int) -> np.ndarray:
    """Predictions moved to where the bank's mean can lie, given what is answered.

    Args:
        predicted: ``(models,)`` bank means.
        answers: ``(models, n)``, in 0…1.
        bank: Number of items N; the other N − n score between 0 and 1.
    """
    known = answers.sum(axis=1) / bank
    unknown = 1 - answers.shape[1] / bank
    return np.asarray(np.clip(predicted, known, known + unknown))
