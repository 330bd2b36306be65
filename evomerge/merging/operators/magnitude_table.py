"""Magnitude tables: from which magnitude on a task vector is kept, for any density.

Counting the entries of a task vector by magnitude takes one pass and a few kilobytes, once per
study. A candidate then looks its thresholds up, where sorting would dominate its merge.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merging.operators.contract import Inputs
from evomerge.merging.operators.cpu_codes import FINE
from evomerge.merging.operators.memory_place import places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_COARSE = 16
"""Low bits of a float32 that coarse bins do not tell apart; fine ones ``FINE``."""

_MOST_BINS = 1 << 13
"""A table of more bins is made coarse, since it must stay small."""


@dataclass(frozen=True)
class Threshold:
    """A place in the order of magnitudes, largest first, of equal ones the first in memory."""

    magnitude: float
    equal_up_to: int
    """How many entries of just that magnitude are at or before the place."""


class MagnitudeTable:
    """Counts of one model's ``|tensor - base|``, from which exact thresholds follow.

    Bins of magnitudes hold equal values in differences of 16-bit weights; a threshold that
    falls into a bin of several values takes one more pass, which gathers that bin.

    Args:
        inputs: Of the tensor; ``origin`` is taken as base.
        model: The model's place.
    """

    def __init__(self, inputs: Inputs, model: int) -> None:
        self._row = inputs.tensors[model].reshape(-1)
        self._origin = inputs.origin.reshape(-1)
        stored = inputs.once("magnitude table", (), self._counted, model)
        lows, above, exact, low_bits = (tensor.cpu().numpy() for tensor in stored)
        self._lows: NDArray[np.int32] = lows
        self._above: NDArray[np.int64] = above
        self._exact: NDArray[np.bool_] = exact
        self._low_bits = int(low_bits[0])

    def threshold(self, place: int) -> Threshold:
        """The entry at a place from 1 on.

        Where a NaN lies there, the magnitude is NaN.
        """
        number = int(np.searchsorted(self._above, place, side="left")) - 1
        within = place - int(self._above[number])
        low = float(self._lows[number : number + 1].view(np.float32)[0])
        if self._exact[number] or not math.isfinite(low):
            return Threshold(low, within)
        last = self._lows[number : number + 1] | np.int32((1 << self._low_bits) - 1)
        values = self._between(low, float(last.view(np.float32)[0]))
        magnitude = np.partition(values, len(values) - within)[len(values) - within]
        larger = int(np.count_nonzero(values > magnitude))
        return Threshold(float(magnitude), within - larger)

    def _counted(self) -> "Sequence[Tensor]":
        """By bin: float bits of its low end, entries above it, whether it holds one value."""
        import torch  # noqa: PLC0415 - see operators.contract

        counts, several = self._histogram()
        low_bits = FINE
        if np.count_nonzero(counts) > _MOST_BINS:
            low_bits = _COARSE
            counts = counts.reshape(-1, 1 << (_COARSE - FINE)).sum(1)
            several = np.ones_like(counts)
        bins = np.flatnonzero(counts)[::-1]
        above = np.cumsum(counts[bins]) - counts[bins]
        lows = (bins << low_bits).astype(np.int32)
        parts = (lows, above, several[bins] == 0, np.array([low_bits]))
        return [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]

    def _histogram(self) -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
        import torch  # noqa: PLC0415 - see operators.contract

        where = places(self._origin, self._row)
        if where is not None:
            from evomerge.merging.operators.cpu_kernels import histogram  # noqa: PLC0415 - numba

            counts, several = histogram(*where, self._row.numel())
            return counts, several
        bits = self._magnitudes().view(torch.int32)
        bins, size = bits >> FINE, 1 << (31 - FINE)
        counts = bins.bincount(minlength=size)
        several = bins[bits.bitwise_and((1 << FINE) - 1).ne(0)].bincount(minlength=size)
        return counts.cpu().numpy(), several.cpu().numpy()

    def _between(self, low: float, high: float) -> "NDArray[np.float32]":
        where = places(self._origin, self._row)
        if where is not None:
            from evomerge.merging.operators.cpu_kernels import between  # noqa: PLC0415 - numba

            found: NDArray[np.float32] = between(
                *where, np.float32(low), np.float32(high), self._row.numel()
            )
            return found
        magnitudes = self._magnitudes()
        inside = magnitudes[magnitudes.ge(low) & magnitudes.le(high)]
        gathered: NDArray[np.float32] = inside.cpu().numpy()
        return gathered

    def _magnitudes(self) -> "Tensor":
        return (self._row.float() - self._origin.float()).abs_()
