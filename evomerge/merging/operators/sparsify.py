"""Which entries of a task vector are kept: the largest ones, or random ones."""

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merging.operators.blocks import blocks, buffers, delta, flat

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_SAMPLED_FROM = 1 << 12
"""Tensors of fewer entries are not sampled."""

_SPREAD = 4.0
"""Half-width of the sampled bracket in standard errors of a rank."""

_STEP = 0x9E3779B1
"""Odd; walks a row in an order that has nothing to do with its shape."""


def kept_entries(entries: int, density: float) -> int:
    """``int(density · entries)``, but at least 1 unless the density or the tensor is 0."""
    return max(1, int(density * entries)) if density > 0 and entries else 0


@dataclass(frozen=True)
class Trim:
    """Keeps an exact number of entries of largest magnitude; of equal ones the first."""

    threshold: float
    """Magnitudes above it are kept, those below it are not."""

    cut_block: int
    """First entry of the block in which the last kept entry at the threshold lies."""

    kept_there: int
    """How many entries at the threshold are kept in that block; in later ones none is."""

    def kept(self, block: slice, magnitudes: "Tensor") -> "Tensor":
        """Which entries of a block are kept, as booleans."""
        if block.start < self.cut_block:
            return magnitudes.ge(self.threshold)
        if block.start > self.cut_block:
            return magnitudes.gt(self.threshold)
        equal = magnitudes.eq(self.threshold)
        return magnitudes.gt(self.threshold) | (equal & (equal.cumsum(0) <= self.kept_there))

    def apply(self, block: slice, part: "Tensor") -> None:
        """Zero what is dropped of a block, in place; a NaN stays."""
        import torch  # noqa: PLC0415 - see operators.contract

        limit = self.threshold  # hardshrink zeroes magnitudes up to and including the limit
        if block.start == self.cut_block:
            equal = np.flatnonzero(part.abs().cpu().numpy() == np.float32(limit))
            part[torch.from_numpy(equal[self.kept_there :]).to(part.device)] = 0.0
        if block.start <= self.cut_block:
            limit = float(np.nextafter(np.float32(limit), np.float32(0)))
        torch.hardshrink(part, limit, out=part)


def magnitude_trim(tensor: "Tensor", base: "Tensor", density: float) -> Trim:
    """The trim that keeps ``kept_entries`` of ``|tensor - base|``.

    Selection by sampling (Floyd and Rivest, 1975): order statistics of n^(2/3) entries
    bracket the threshold, one pass counts what lies above the bracket and gathers what lies in
    it, and the threshold is found among those few.

    Args:
        tensor: Flat, any floating dtype, not empty.
        base: Flat, of the same length.
        density: In (0, 1).
    """
    keep = kept_entries(tensor.numel(), density)
    above, inside = _above_and_inside(tensor, base, *_bracket(tensor, base, keep))
    if not above < keep <= above + sum(map(len, inside)):
        above, inside = _above_and_inside(tensor, base, 0.0, math.inf)
    gathered = np.concatenate(inside)
    # A NaN is not gathered and never dropped, so that it is found in the result.
    place = min(keep - above, len(gathered))
    if place == 0:
        return Trim(0.0, 0, 0)
    threshold = _nth_largest(gathered, place)
    equal_kept = place - int(np.count_nonzero(gathered > threshold))
    last = int(np.flatnonzero(gathered == threshold)[equal_kept - 1])
    starts = np.cumsum([0] + [len(part) for part in inside])
    number = int(np.searchsorted(starts, last, side="right")) - 1
    there = inside[number][: last - int(starts[number]) + 1]
    cut_block = [block.start for block in blocks(tensor)][number]
    return Trim(float(threshold), cut_block, int(np.count_nonzero(there == threshold)))


def magnitude_mask(values: "Tensor", density: float) -> "Tensor":
    """Which entries are among the ``kept_entries`` of largest magnitude.

    Args:
        values: Any shape and floating dtype.
        density: Share kept, in [0, 1].

    Returns:
        Booleans of the same shape.
    """
    kept = values.eq(values)
    if density <= 0 or density >= 1 or not values.numel():
        return kept.fill_(density > 0)
    row, out = flat(values), flat(kept)
    zero = row.new_zeros(1).expand(row.numel())
    trim = magnitude_trim(row, zero, density)
    (buffer,) = buffers(row, 1)
    for block in blocks(row):
        out[block] = trim.kept(block, delta(row, zero, block, buffer).abs_())
    return kept


class RandomMask:
    """Which entries of a tensor are kept, each with probability ``density``.

    Entry i is kept if a 32-bit hash of (stream, i) lies below ``density · 2³²``. So masks are
    nested in density, the same on every device, and independent of the order of the work.

    Args:
        like: Gives the device.
        density: In [0, 1].
        stream: From ``mask_stream``.
    """

    def __init__(self, like: "Tensor", density: float, stream: int) -> None:
        self._density, self._stream = density, stream
        self._numbers = like.new_empty(0).int()  # 0, 1, 2 …
        self._hashed = self._shifted = self._numbers

    def kept(self, block: slice) -> "Tensor":
        """0 or 1 as int32, one an entry of the block; good until the next call."""
        import torch  # noqa: PLC0415 - see operators.contract

        size = block.stop - block.start
        if size > self._numbers.numel():
            self._numbers = torch.arange(size, dtype=torch.int32, device=self._numbers.device)
            self._hashed = torch.empty_like(self._numbers)
            self._shifted = torch.empty_like(self._numbers)
        x = self._hashed[:size]
        if self._density >= 1:
            return x.fill_(1)
        # int32 wraps on overflow, which is what the hash wants.
        torch.add(self._numbers[:size], _signed(block.start % 2**32), out=x)
        x.bitwise_xor_(_signed(self._stream % 2**32))
        # The finalizer "lowbias32" (Wellons, hash prospector, 2018), more key added midway.
        self._xor_shift(x, 16)
        x.mul_(_signed(0x7FEB352D)).add_(_signed(self._stream >> 32))
        self._xor_shift(x, 15)
        x.mul_(_signed(0x846CA68B))
        self._xor_shift(x, 16)
        return x.lt_(int(self._density * 2**32) - 2**31)

    def _xor_shift(self, x: "Tensor", shift: int) -> None:
        """``x ^= x >> shift`` in place, zeroes shifted in."""
        import torch  # noqa: PLC0415 - see operators.contract

        shifted = self._shifted[: x.numel()]
        torch.bitwise_right_shift(x, shift, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (32 - shift)) - 1))


def mask_stream(seed: int, tensor_name: str, model: str) -> int:
    """A 64-bit key of the uniforms of one tensor of one model."""
    key = hashlib.sha256(repr((int(seed), tensor_name, model)).encode()).digest()
    return int.from_bytes(key[:8], "little")


def _signed(bits: int) -> int:
    return bits - 2**32 if bits >= 2**31 else bits


def _bracket(tensor: "Tensor", base: "Tensor", keep: int) -> tuple[float, float]:
    import torch  # noqa: PLC0415 - see operators.contract

    entries = tensor.numel()
    if entries <= _SAMPLED_FROM:
        return 0.0, math.inf
    places = torch.from_numpy(_places(entries)).to(tensor.device)
    sample = tensor[places].float().sub_(base[places]).abs_().cpu().numpy()
    return _sampled_bracket(sample, keep / entries)


def _places(entries: int) -> "NDArray[np.int64]":
    return np.arange(round(entries ** (2 / 3))) * _STEP % entries


def _sampled_bracket(sample: "NDArray[np.float32]", share: float) -> tuple[float, float]:
    """Values between which the share's quantile, counted from the top, almost surely lies."""
    size = len(sample)
    margin = _SPREAD * math.sqrt(size * share * (1 - share)) + 2
    first, last = math.floor(size * share - margin), math.ceil(size * share + margin)
    falling = np.sort(sample)[::-1]
    high = float(falling[first]) if first >= 0 else math.inf
    low = float(falling[last]) if last < size else 0.0
    return low, high


def _nth_largest(values: "NDArray[np.float32]", place: int) -> np.float32:
    """The value at a place counted from 1, by the same sampling again while there are many."""
    while len(values) > _SAMPLED_FROM:
        low, high = _sampled_bracket(values[_places(len(values))], place / len(values))
        above = int(np.count_nonzero(values > np.float32(high)))
        inside = values[(values >= np.float32(low)) & (values <= np.float32(high))]
        if not above < place <= above + len(inside):
            break
        if low == high:
            return np.float32(low)
        if len(inside) == len(values):
            break
        values, place = inside, place - above
    return np.float32(np.partition(values, len(values) - place)[len(values) - place])


def _above_and_inside(
    tensor: "Tensor", base: "Tensor", low: float, high: float
) -> tuple[int, list["NDArray[np.float32]"]]:
    """How many magnitudes are above the bracket, and by block those in it, ends included."""
    above, inside = 0, []
    (buffer,) = buffers(tensor, 1)
    flags = np.empty((2, buffer.numel()), dtype=np.bool_)  # fresh memory each time is slow
    for block in blocks(tensor):
        magnitudes = delta(tensor, base, block, buffer).abs_()
        if magnitudes.device.type == "cpu":  # numpy gathers few of many four times quicker
            values, (from_low, within) = magnitudes.numpy(), flags[:, : magnitudes.numel()]
            np.greater_equal(values, np.float32(low), out=from_low)
            np.less_equal(values, np.float32(high), out=within)
            np.logical_and(from_low, within, out=within)
            inside.append(values[within])
            above += int(np.count_nonzero(from_low)) - len(inside[-1])
        else:
            over = magnitudes.gt(high)
            above += int(over.count_nonzero())
            inside.append(magnitudes[magnitudes.ge(low) & ~over].cpu().numpy())
    return above, inside
