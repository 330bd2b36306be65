"""Numbers, intervals and durations as readers see them."""

import math

from evomerge.core.objectives import Estimate
from evomerge.core.outcomes import GeneValue
from evomerge.fitness.paired import Interval

_LARGE = 10_000
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_MINUTE, _HOUR = 60, 3600
_SMALL = 0.001
_LONGEST_GENE = 80


def number(value: float) -> str:
    """Three decimals, fewer where the number is large: ``0.712``, ``13.2``, ``135 M``."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= _LARGE:
        for unit, letter in _UNITS:
            if size >= unit:
                return f"{value / unit:.4g} {letter}"
    if size >= 10:
        return f"{value:.4g}"
    if 0 < size < _SMALL:
        return f"{value:.1e}"
    return f"{value:.3f}"


def signed(value: float) -> str:
    """A number with its sign; a true minus, none for zero."""
    text = number(abs(value))
    if not value:
        return text
    return ("−" if value < 0 else "+") + text


def estimate(value: Estimate) -> str:
    """A value with its standard error: ``0.712 ± 0.021``."""
    if not value.standard_error:
        return number(value.value)
    return f"{number(value.value)} ± {number(value.standard_error)}"


def signed_interval(interval: Interval) -> str:
    """A difference with its bounds: ``+0.031 [+0.004, +0.058]``."""
    return f"{signed(interval.value)} [{signed(interval.low)}, {signed(interval.high)}]"


def gene(value: GeneValue) -> str:
    """A gene's value, floats to four digits, long texts by their beginning."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= _LONGEST_GENE else f"{text[: _LONGEST_GENE - 1]}…"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, two units at most: ``48 s``, ``12 min 5 s``, ``3 h 4 min``."""
    whole = round(seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def count(value: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u2009")
