"""SamplingDesign: how answered items were drawn, and what follows for means over them.

Items of a simple or stratified random sample without replacement. Standard errors follow from
the drawing alone (Cochran, Sampling Techniques, 3rd ed., eq. 2.20 and 5.7); nothing is assumed
of the model that answers.
"""

from dataclasses import dataclass

import numpy as np

from evomerge.core.errors import ConfigError
from evomerge.fitness.selection.contract import Selection
from evomerge.fitness.selection.registry import SELECTIONS

_PSEUDO_ANSWERS = 2

_LEAST = 2
"""Answered items that a stratum needs for a variance."""


@dataclass(frozen=True, eq=False)
class SamplingDesign:
    """A bank of items and its strata."""

    strata: np.ndarray
    """``(items,)`` stratum of each item, from 0; neighbours are alike."""

    @classmethod
    def simple(cls, bank: int) -> "SamplingDesign":
        """One stratum of this many items."""
        return cls(np.zeros(bank, dtype=np.intp))

    @classmethod
    def of(cls, selection: Selection, bank: int) -> "SamplingDesign":
        """The design by which a selection was drawn.

        Raises:
            ConfigError: The items were not drawn at random.
        """
        entry = SELECTIONS.get(selection.method or "")
        if entry is None or not entry.random_sample:
            fitting = [name for name, e in SELECTIONS.items() if e.random_sample]
            raise ConfigError(
                f"fitness.select: {selection.method or 'a given choice of items'} draws no "
                f"random sample, which this estimator rests on; use {' or '.join(fitting)}, "
                "or a calibrated estimator such as factor."
            )
        return cls.simple(bank) if selection.strata is None else cls(selection.strata)

    @property
    def bank(self) -> int:
        """Number of items."""
        return len(self.strata)

    def collapsed(self, items: np.ndarray, least: int = _LEAST) -> np.ndarray:
        """Strata joined with their neighbours until each has enough answered items.

        Args:
            items: ``(n,)`` answered items.
            least: Answered items that each stratum shall have, where there are as many.

        Returns:
            ``(items of the bank,)`` numbered from 0.
        """
        count = int(self.strata.max()) + 1
        answered = np.bincount(self.strata[items], minlength=count)
        joined = np.empty(count, dtype=np.intp)
        number = held = 0
        for stratum in range(count):
            joined[stratum] = number
            held += int(answered[stratum])
            if held >= least and answered[stratum + 1 :].sum() >= least:
                number, held = number + 1, 0
        return np.asarray(joined[self.strata])

    def standard_error(
        self, items: np.ndarray, answers: np.ndarray, residuals: np.ndarray
    ) -> float:
        """Of the stratified mean of residuals y − λ f over the bank.

        The variance within strata is pooled, and two pseudo-answers, one right and one wrong,
        are added (Agresti & Coull 1998): without them a handful of equal answers would claim
        no doubt at all. They count by the share of the answers' variance that predictions
        leave unexplained.

        Args:
            items: ``(n,)`` answered items, at least 2.
            answers: ``(n,)`` y.
            residuals: ``(n,)`` y − λ f; the answers themselves where nothing is predicted.

        Raises:
            ConfigError: Fewer than 2 items.
        """
        if len(items) < _LEAST:
            raise ConfigError(
                f"fitness.items: {len(items)} item answered; a standard error from sampling "
                "needs at least 2."
            )
        strata = self.collapsed(items)
        sizes = np.bincount(strata)
        answered = np.bincount(strata[items], minlength=len(sizes))
        left, found = (
            _squares_within(strata[items], values, answered) for values in (residuals, answers)
        )
        unexplained = min(left / found, 1.0) if found > 0 else 1.0
        centre = answers.mean()
        pseudo = unexplained * (centre**2 + (1 - centre) ** 2)
        variance = (left + pseudo) / (len(items) - len(sizes) + _PSEUDO_ANSWERS)
        shares = sizes / self.bank
        return float(np.sqrt((shares**2 / answered * (1 - answered / sizes)).sum() * variance))

    def mean(self, items: np.ndarray, answers: np.ndarray) -> float:
        """Mean of the strata's means, each by its share of the bank."""
        strata = self.collapsed(items)
        sizes = np.bincount(strata)
        answered = np.bincount(strata[items], minlength=len(sizes))
        means = np.bincount(strata[items], answers, len(sizes)) / answered
        return float(means @ sizes / self.bank)


def _squares_within(stratum: np.ndarray, values: np.ndarray, counts: np.ndarray) -> float:
    """Sum of squares around the strata's means."""
    means = np.bincount(stratum, values, len(counts)) / counts
    return float(((values - means[stratum]) ** 2).sum())
