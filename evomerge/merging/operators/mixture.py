"""Mixtures: a base plus weighted, partly kept task vectors, or a plain weighted sum.

Linear, slerp, task arithmetic and the families of TIES, DARE, DELLA and breadcrumbs differ only
in weights, in what is kept and in whether signs are elected; here is the arithmetic they share.
On the CPU it is one pass over memory in compiled loops, elsewhere tensor operations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evomerge.merging.operators.contract import WritableBlocks
from evomerge.merging.operators.cpu_codes import BFLOAT16, FLOAT32
from evomerge.merging.operators.kept import Kept, KeptAll, records
from evomerge.merging.operators.memory_place import (
    NOWHERE,
    addresses_and_codes,
    dtype_code,
    place,
    places,
)

if TYPE_CHECKING:
    from torch import Tensor, dtype


_NO_WEIGHT = 1e-8

_ENTRIES = {FLOAT32: np.float32(0), BFLOAT16: np.uint16(0)}
"""By dtype code, an entry as the loops of ``cpu_weighted_sum`` hold it."""


@dataclass(frozen=True)
class Mixture(WritableBlocks):
    """``origin + scale · Σ_k m_k w_k S_k``, S_k what is kept of ``x_k - origin``.

    Without election every m_k is 1. With it m_k is 1 where ``w_k S_k`` has the sign of the sum
    over models (a sum of 0 counts as positive) and is not 0; ``normalize`` divides by
    ``Σ_k m_k w_k`` where that is not 0 (TIES-Merging, section 3, weights as mergekit has them).
    """

    rows: Sequence["Tensor"]
    """Flat, of equal length."""

    weights: Sequence[float]
    origin: "Tensor | None" = None
    """Flat; None for a plain weighted sum."""

    scale: float = 1.0
    kept: Sequence[Kept] = ()
    """One a row; empty where everything is kept."""

    elect: bool = False
    normalize: bool = False

    def __iter__(self) -> Iterator[tuple[slice, "Tensor"]]:
        """One block, by tensor operations on whatever device the rows lie."""
        like = self.rows[0] if self.origin is None else self.origin
        start = like.new_zeros(like.shape).float() if self.origin is None else like.float()
        parts = [self._part(k, start) for k in range(len(self.rows))]
        mixed = self._elected(parts) if self.elect and parts else _sum(parts, start)
        yield slice(0, like.numel()), mixed.mul_(self.scale).add_(start)

    def write(self, target: "Tensor", dtype: "dtype") -> float | None:
        """In one pass, where all tensors lie in main memory."""
        code = dtype_code(dtype)
        where = places(*self.rows)
        origin = NOWHERE if self.origin is None else place(self.origin)
        there = place(target)
        if where is None or origin is None or there is None or code is None:
            return None
        stored = {code, there[1], *(own for _, own in where)}
        if self.origin is not None:
            stored.add(origin[1])
        plain = not self.elect and not self.kept and bool(where)
        like = _ENTRIES.get(code) if plain and len(stored) == 1 else None
        weights = np.array(self.weights, np.float32)
        addresses, codes = addresses_and_codes(where)
        scale, size = np.float32(self.scale), target.numel()
        if like is not None:
            from evomerge.merging.operators.cpu_weighted_sum import (  # noqa: PLC0415 - numba
                weighted_sum,
            )

            start, end = np.uint64(origin[0]), np.uint64(there[0])
            bits = weighted_sum(like, start, addresses, weights, scale, end, size)
        else:
            from evomerge.merging.operators.cpu_kernels import mix  # noqa: PLC0415 - numba

            kept, plan = records(self._kept()), (scale, self.elect, self.normalize)
            bits = mix(origin, addresses, codes, kept, weights, plan, (*there, code), size)
        return float(np.uint32(bits).view(np.float32))

    def _kept(self) -> Sequence[Kept]:
        return self.kept or [KeptAll()] * len(self.rows)

    def _part(self, k: int, start: "Tensor") -> "Tensor":
        kept = self._kept()[k]
        part = self.rows[k].float() - start
        kept.apply(part)
        return part.mul_(float(np.float32(self.weights[k]) * np.float32(kept.factor)))

    def _elected(self, parts: Sequence["Tensor"]) -> "Tensor":
        sign = _sum(parts, parts[0]).ge_(0).mul_(2).sub_(1)
        mixed = _sum([(part * sign).clamp_min_(0) for part in parts], sign).mul_(sign)
        if self.normalize:
            agreed = [
                (part * sign).gt_(0).mul_(weight)
                for part, weight in zip(parts, self.weights, strict=True)
            ]
            divisor = _sum(agreed, sign)
            mixed.div_(divisor.add_(divisor.eq(0)))
        return mixed


def divided(weights: list[float]) -> list[float]:
    """The weights over their sum, or as they are where that is about 0."""
    whole = sum(weights)
    return [weight / whole for weight in weights] if abs(whole) >= _NO_WEIGHT else weights


def _sum(parts: Sequence["Tensor"], like: "Tensor") -> "Tensor":
    total = like.new_zeros(like.shape).float()
    for part in parts:
        total.add_(part)
    return total
