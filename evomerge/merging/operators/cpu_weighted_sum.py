"""Weighted sums of whole tensors of one dtype, in so few passes that memory sets the pace.

Two models go in at a time and the last one with the rounding, so that sums between are few. The
arithmetic is that of ``cpu_kernels.mix``, to the bit.
"""

import numpy as np
from numba import carray, types
from numba.extending import overload

from evomerge.merging.operators.cpu_codes import BLOCK
from evomerge.merging.operators.cpu_compiled import compiled
from evomerge.merging.operators.cpu_memory import (
    as_float32,
    as_uint16,
    bits_of,
    from_bfloat16,
    to_bfloat16,
)

_ABSOLUTE = np.uint32(0x7FFFFFFF)


def _value(stored):
    """The float32 that an entry stands for: bfloat16 bits, or itself."""


@overload(_value, inline="always")
def _value_of(stored):
    if stored == types.uint16:
        return lambda stored: from_bfloat16(stored)
    return lambda stored: stored


def _entry(like, value):
    """A float32 as it is stored in arrays of entries like this one."""


@overload(_entry, inline="always")
def _entry_of(like, value):
    if like == types.uint16:
        return lambda like, value: to_bfloat16(value)
    return lambda like, value: value


def _array(like, address, start, size):
    """The entries of a tensor from ``start`` on."""


@overload(_array, inline="always")
def _array_of(like, address, start, size):
    if like == types.uint16:
        return lambda like, address, start, size: carray(
            as_uint16(address + np.uint64(2 * start)), size
        )
    return lambda like, address, start, size: carray(
        as_float32(address + np.uint64(4 * start)), size
    )


@compiled
def _add_two(a, b, origin, weights, mixed, first):
    """``mixed + w_a (a - origin) + w_b (b - origin)`` in place; ``first``: from zero on."""
    for i in range(mixed.size):
        x, y = _value(a[i]), _value(b[i])
        if origin is not None:
            x -= _value(origin[i])
            y -= _value(origin[i])
        if first:
            mixed[i] = weights[0] * x + weights[1] * y
        else:
            mixed[i] = mixed[i] + weights[0] * x + weights[1] * y


@compiled
def _finish(row, origin, factors, mixed, out, first):
    """``origin + scale · (mixed + w (row - origin))`` to ``out``; the largest bits of it."""
    weight, scale = factors
    largest = np.uint32(0)
    for i in range(mixed.size):
        x = _value(row[i])
        if origin is not None:
            x -= _value(origin[i])
        x *= weight
        if not first:
            x += mixed[i]
        x *= scale
        if origin is not None:
            x += _value(origin[i])
        largest = max(largest, bits_of(x) & _ABSOLUTE)
        out[i] = _entry(out[i], x)
    return largest


@compiled
def _finish_two(a, b, origin, factors, mixed, out, first):
    """As ``_finish`` for the last two models."""
    weight_a, weight_b, scale = factors
    largest = np.uint32(0)
    for i in range(mixed.size):
        x, y = _value(a[i]), _value(b[i])
        if origin is not None:
            x -= _value(origin[i])
            y -= _value(origin[i])
        x = weight_a * x if first else mixed[i] + weight_a * x
        x = scale * (x + weight_b * y)
        if origin is not None:
            x += _value(origin[i])
        largest = max(largest, bits_of(x) & _ABSOLUTE)
        out[i] = _entry(out[i], x)
    return largest


@compiled
def _block(like, rows, origin, weights, scale, place):
    """One block of the sum; ``origin`` is an array or None."""
    start, out, mixed = place
    size, models = mixed.size, rows.size
    before = models - 2 if models % 2 == 0 else models - 1
    for k in range(0, before, 2):
        a, b = _array(like, rows[k], start, size), _array(like, rows[k + 1], start, size)
        _add_two(a, b, origin, weights[k : k + 2], mixed, k == 0)
    last = _array(like, rows[models - 1], start, size)
    if models % 2:
        return _finish(last, origin, (weights[models - 1], scale), mixed, out, models == 1)
    other = _array(like, rows[models - 2], start, size)
    factors = (weights[models - 2], weights[models - 1], scale)
    return _finish_two(other, last, origin, factors, mixed, out, models == 2)


@compiled
def weighted_sum(like, origin, rows, weights, scale, target, size):
    """``target = origin + scale · Σ_k weight_k (x_k - origin)``.

    Args:
        like: A number that tells the dtype of all tensors: uint16 for bfloat16, or float32.
        origin: Address of the base; 0 for none.
        rows: Addresses of the models' tensors, at least one.
        weights: Float32, one a model.
        scale: Float32.
        target: Address of the result.
        size: Entries of every tensor.

    Returns:
        The largest magnitude of the result as float32 bits; a NaN counts as largest.
    """
    spare = np.empty(BLOCK, np.float32)
    largest = np.uint32(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        place = (start, _array(like, target, start, length), spare[:length])
        if origin == np.uint64(0):
            bits = _block(like, rows, None, weights, scale, place)
        else:
            base = _array(like, origin, start, length)
            bits = _block(like, rows, base, weights, scale, place)
        largest = max(largest, bits)
    return largest
