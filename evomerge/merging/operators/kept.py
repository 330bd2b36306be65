"""What is kept of a task vector: all of it, magnitudes in a range, or random entries."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from evomerge.merging.operators.cpu_codes import ALL, MAGNITUDES, RANDOM, RANKED
from evomerge.merging.operators.random_masks import NUMBERS, bound, numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

RANK_STEPS = 255
"""Ranks are stored in one byte an entry."""


@dataclass(frozen=True)
class Kept(ABC):
    """A choice among the entries of one model's task vector."""

    factor: float = field(default=1.0, kw_only=True)
    """By which what is kept is multiplied."""

    @abstractmethod
    def apply(self, delta: "Tensor") -> None:
        """Zero what is dropped of a whole flat float32 task vector, in place."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Its own fields of ``cpu_kernels.KEPT``."""

    def scaled(self, factor: float) -> Self:
        """The same choice with another factor."""
        return replace(self, factor=factor)


@dataclass(frozen=True)
class KeptAll(Kept):
    """Everything."""

    def apply(self, delta: "Tensor") -> None:
        """Nothing is dropped."""

    def record(self) -> dict[str, Any]:
        """Its kind alone."""
        return {"kind": ALL}


@dataclass(frozen=True)
class KeptMagnitudes(Kept):
    """Magnitudes from ``low`` to ``high``; among equal ones the first count as larger.

    A NaN is kept, so that it is found in the result.
    """

    low: float
    kept_at_low: int
    """How many of the entries equal to ``low`` are kept: the first ones."""

    high: float = math.inf
    dropped_at_high: int = 0
    """How many of the entries equal to ``high`` are dropped: the first ones."""

    def apply(self, delta: "Tensor") -> None:
        """Both ends cut."""
        magnitudes = delta.abs()
        at_high = magnitudes.eq(self.high)
        drop = magnitudes.gt(self.high)
        drop |= at_high & at_high.cumsum(0).le(self.dropped_at_high)
        drop |= magnitudes.lt(self.low)
        at_low = magnitudes.eq(self.low) & ~drop  # both ends may be one magnitude
        drop |= at_low & at_low.cumsum(0).gt(self.kept_at_low)
        delta.masked_fill_(drop, 0.0)

    def record(self) -> dict[str, Any]:
        """Both ends."""
        return {
            "kind": MAGNITUDES,
            "low": self.low,
            "high": self.high,
            "kept_at_low": self.kept_at_low,
            "dropped_at_high": self.dropped_at_high,
        }


@dataclass(frozen=True)
class KeptRandom(Kept):
    """Each entry with the same probability; nested in it for equal streams."""

    density: float
    """In [0, 1)."""

    stream: int
    """From ``random_masks.mask_stream``."""

    def apply(self, delta: "Tensor") -> None:
        """Those whose number lies below the density's bound."""
        delta.mul_(numbers(delta, self.stream).lt_(bound(self.density)))

    def record(self) -> dict[str, Any]:
        """Stream and bound."""
        return {"kind": RANDOM, "stream": self.stream, "below": bound(self.density)}


@dataclass(frozen=True)
class KeptRanked(Kept):
    """Each entry with a probability that grows with its rank in its row."""

    floor: float
    """Probability of the smallest entry of a row."""

    slope: float
    """How much larger that of the largest is."""

    ranks: "Tensor"
    """uint8, one an entry: 0 for the smallest of a row to ``RANK_STEPS`` for the largest."""

    stream: int

    def apply(self, delta: "Tensor") -> None:
        """Those whose number, over all numbers, lies below their probability."""
        import torch  # noqa: PLC0415 - see operators.contract

        # The single rounding that the compiled loops make too: product, then sum.
        bounds = self.ranks.float().mul_(_single(self.slope / RANK_STEPS))
        bounds.add_(torch.tensor(self.floor, dtype=torch.float32, device=delta.device))
        delta.mul_(numbers(delta, self.stream).float().div_(NUMBERS).lt_(bounds))

    def record(self) -> dict[str, Any]:
        """The line of probabilities and the address of the ranks."""
        return {
            "kind": RANKED,
            "stream": self.stream,
            "floor": self.floor,
            "slope": self.slope / RANK_STEPS,
            "ranks": self.ranks.data_ptr(),
        }


def records(kept: Sequence[Kept]) -> "NDArray[Any]":
    """What the compiled loops read of some choices."""
    from evomerge.merging.operators.cpu_kernels import KEPT  # noqa: PLC0415 - numba

    table = np.zeros(len(kept), KEPT)
    table["high"] = np.inf
    for record, choice in zip(table, kept, strict=True):
        for name, value in (choice.record() | {"factor": choice.factor}).items():
            record[name] = value
    return table


def _single(number: float) -> float:
    import torch  # noqa: PLC0415 - see operators.contract

    return float(torch.tensor(number, dtype=torch.float32))
