"""Paired comparisons of optimizers over seeds: signed-rank tests, Holm, bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon

from evomerge.core.streams import stream
from evomerge.fitness.paired import Interval

ALPHA = 0.05
"""Chance of calling any of a problem's comparisons at one budget better or worse by luck."""

_RESAMPLES = 10_000
_EXACT_UP_TO = 16

Judgement = Literal["better", "tied", "worse"]

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """One contestant against the reference, paired over seeds."""

    effect: Interval
    """Median of the paired differences with a 95 % bootstrap interval; above 0 is better."""

    p: float
    """Two-sided Wilcoxon signed-rank test; 1 where all differences are 0."""

    p_holm: float
    """The same, corrected for all comparisons beside it."""

    judgement: Judgement
    wins: int
    losses: int
    """Seeds with which it is better, and worse."""


def compare(reference: Values, others: Sequence[Values], *, larger: bool) -> list[Comparison]:
    """Judge contestants against a reference.

    Args:
        reference: ``(seeds,)`` measures.
        others: The same of each contestant, with the same seeds in the same order.
        larger: Whether larger is better.

    Returns:
        One comparison a contestant; a contestant is better or worse where the corrected p is
        below ``ALPHA``, and tied elsewhere.
    """
    sign = 1.0 if larger else -1.0
    differences = [sign * (np.asarray(other) - reference) for other in others]
    corrected = holm([signed_rank_p(each) for each in differences])
    return [_judged(_compared(each), p) for each, p in zip(differences, corrected, strict=True)]


def signed_rank_p(differences: Values) -> float:
    """Two-sided p of the Wilcoxon signed-rank test.

    Zero differences are kept and their ranks shared out (Pratt 1959). Up to 16 seeds the
    null distribution over all signs is enumerated, so that ties and zeros are dealt with
    exactly; beyond that it is scipy's.
    """
    shown = np.round(differences, 12)
    if not shown.any():
        return 1.0
    if len(shown) > _EXACT_UP_TO:
        return float(wilcoxon(shown, zero_method="zsplit").pvalue)
    ranks = rankdata(np.abs(shown))[shown != 0]
    codes = np.arange(2 ** len(ranks))
    positive = ((codes[:, None] >> np.arange(len(ranks))) & 1) @ ranks
    centre = ranks.sum() / 2
    found = abs(ranks[shown[shown != 0] > 0].sum() - centre)
    return float((np.abs(positive - centre) >= found - 1e-9).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): p values valid for all comparisons together."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    for place, k in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[k]))
        corrected[k] = highest
    return corrected


def fewest_seeds(comparisons: int) -> int:
    """So many seeds are needed for any of so many comparisons to be called."""
    seeds = 1
    while 2.0 ** (1 - seeds) * max(1, comparisons) >= ALPHA:
        seeds += 1
    return seeds


def median_interval(differences: Values) -> Interval:
    """Median with a 95 % percentile bootstrap interval over seeds."""
    rng = stream(0, "bench", "bootstrap", len(differences))
    drawn = rng.integers(0, len(differences), (_RESAMPLES, len(differences)))
    medians = np.median(differences[drawn], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Interval(float(np.median(differences)), float(low), float(high))


def _compared(differences: Values) -> Comparison:
    p = signed_rank_p(differences)
    wins, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return Comparison(median_interval(differences), p, p, _direction(differences), wins, lost)


def _direction(differences: Values) -> Judgement:
    """Where it points to, by the sum of signed ranks."""
    balance = float((np.sign(differences) * rankdata(np.abs(differences))).sum())
    return "better" if balance > 0 else "worse" if balance < 0 else "tied"


def _judged(comparison: Comparison, p_holm: float) -> Comparison:
    sure = p_holm < ALPHA
    return replace(
        comparison, p_holm=p_holm, judgement=comparison.judgement if sure else "tied"
    )
