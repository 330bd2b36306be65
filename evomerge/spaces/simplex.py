"""Weights on the simplex: shares of a whole, drawn evenly however many models there are.

Numbers drawn evenly from [0, 1] and divided by their sum crowd around equal shares: of 16
models hardly any gets a share above 1/8. Exponentially distributed ones are spread evenly over
the simplex (Devroye, Non-Uniform Random Variate Generation, 1986, section V.2.1), so the gene
of a share maps the unit interval by the exponential distribution's quantile function.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.core.outcomes import GeneValue
from evomerge.spaces.genes import FLOAT_DIGITS, FloatGene

RATE = 10.0
"""Rate of the exponential distribution over a gene's range. The tail beyond the range is cut
off, which takes ``exp(-RATE)``, one draw of 22 000."""

_DIGITS = 9
"""Decimals of a gene: more than the shares have, so that dividing brings them back exactly."""


@dataclass(frozen=True)
class ShareGene(FloatGene):
    """A number in [low, high] that counts relative to others, spaced exponentially.

    Proportions of numbers from evenly drawn points lie evenly on the simplex if ``low`` is 0.
    """

    def from_unit(self, unit: float) -> float:
        """Quantile of the cut-off exponential distribution, rounded to nine decimals."""
        u = 0.5 if math.isnan(unit) else min(1.0, max(0.0, float(unit)))
        part = -math.log1p(u * math.expm1(-RATE)) / RATE
        value = round(self.low + part * (self.high - self.low), _DIGITS)
        return min(self.high, max(self.low, value)) + 0.0

    def to_unit(self, value: GeneValue) -> float:
        """Invert ``from_unit``; a gene without width maps to the middle."""
        if self.high == self.low:
            return 0.5
        x = min(self.high, max(self.low, float(value)))
        return math.expm1(-RATE * (x - self.low) / (self.high - self.low)) / math.expm1(-RATE)


def proportions(amounts: Mapping[str, float]) -> dict[str, float]:
    """Amounts of at least 0 divided by their sum; equal ones where all are 0."""
    # The largest first: a sum of tiny or huge numbers could be 0 or infinite.
    largest = max(amounts.values(), default=0.0)
    if largest <= 0:
        return dict.fromkeys(amounts, 1 / max(1, len(amounts)))
    parts = {name: amount / largest for name, amount in amounts.items()}
    whole = math.fsum(parts.values())
    return {name: part / whole for name, part in parts.items()}


def shares(amounts: Mapping[str, float]) -> dict[str, float]:
    """Proportions of six decimals that add up to exactly one.

    What rounding down takes is given back by the largest remainders (Hamilton's method), one
    unit of the last decimal each, at equal remainders to the earlier model.
    """
    units = 10**FLOAT_DIGITS
    exact = {name: part * units for name, part in proportions(amounts).items()}
    whole = {name: math.floor(part) for name, part in exact.items()}
    left = units - sum(whole.values())
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: max(0, left)]:
        whole[name] += 1
    return {name: round(part / units, FLOAT_DIGITS) for name, part in whole.items()}


def amounts_of(given: Mapping[str, float], high: float) -> dict[str, float]:
    """Amounts in [0, high] whose proportions are those of given weights.

    They are about as large as those of random points, so that an optimizer that starts there
    is not at the edge of its genes' ranges, unless one share is too large for that.

    Args:
        given: Weights; those below 0 count as 0.
        high: The largest amount.
    """
    parts = proportions({name: max(0.0, weight) for name, weight in given.items()})
    largest = max(parts.values(), default=1.0)
    scale = min(len(parts) / RATE, 1 / largest)
    return {name: part * scale * high for name, part in parts.items()}
