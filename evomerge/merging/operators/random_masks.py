"""Random masks keyed by tensor and model: nested in density, the same on every device."""

import hashlib
from typing import TYPE_CHECKING

from evomerge.merging.operators.cpu_codes import BLOCK

if TYPE_CHECKING:
    from torch import Tensor

RUN = BLOCK
"""Entries whose numbers come from half as many hashes: a loop makes them block by block."""

NUMBERS = 1 << 16


def mask_stream(seed: int, tensor_name: str, model: str) -> int:
    """A 64-bit key of the uniforms of one tensor of one model."""
    key = hashlib.sha256(repr((int(seed), tensor_name, model)).encode()).digest()
    return int.from_bytes(key[:8], "little")


def numbers(like: "Tensor", stream: int) -> "Tensor":
    """A random number from 0 to 65535 for every entry of a flat tensor, as int32.

    Of each ``RUN`` entries the first half has the lower, the second half the upper 16 bits of
    a hash of (stream, place): the finalizer "lowbias32" (Wellons, hash prospector, 2018), more
    key added midway. No entry depends on another, so neither on the order of the work nor on
    the device.
    """
    import torch  # noqa: PLC0415 - see operators.contract

    entries = torch.arange(like.numel(), dtype=torch.int64, device=like.device)
    half = RUN // 2
    x = (entries // RUN * half + entries % half).int()
    # int32 wraps on overflow, which is what the hash wants.
    x.bitwise_xor_(_signed(stream % 2**32))
    _xor_shift(x, 16)
    x.mul_(_signed(0x7FEB352D)).add_(_signed(stream >> 32))
    _xor_shift(x, 15)
    x.mul_(_signed(0x846CA68B))
    _xor_shift(x, 16)
    upper = entries % RUN >= half
    return torch.where(upper, x.bitwise_right_shift(16), x).bitwise_and_(NUMBERS - 1)


def bound(density: float) -> int:
    """A number below it keeps the entry; ``density`` in [0, 1)."""
    return int(density * NUMBERS)


def _xor_shift(x: "Tensor", shift: int) -> None:
    """``x ^= x >> shift`` in place, zeroes shifted in."""
    x.bitwise_xor_(x.bitwise_right_shift(shift).bitwise_and_((1 << (32 - shift)) - 1))


def _signed(bits: int) -> int:
    return bits - 2**32 if bits >= 2**31 else bits
