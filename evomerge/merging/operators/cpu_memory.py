"""Blocks of tensors read and written at addresses, in the dtypes that weights have.

Numba knows neither bfloat16 nor tensors; here both are made of addresses and of numbers of the
same bits. The dtypes are float32, bfloat16, float16 and float64.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from evomerge.merging.operators.cpu_codes import BFLOAT16, FLOAT16, FLOAT32
from evomerge.merging.operators.cpu_compiled import compiled


def _pointer(item: Any) -> Any:
    @intrinsic
    def cast(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(item)(types.uint64), generate

    return cast


as_uint8, as_uint16 = _pointer(types.uint8), _pointer(types.uint16)
as_float32, as_float64 = _pointer(types.float32), _pointer(types.float64)


def _reinterpreted(source: Any, target: Any, build: Any) -> Any:
    @intrinsic
    def cast(typing_context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return build(builder, arguments[0])

        return target(source), generate

    return cast


bits_of = _reinterpreted(
    types.float32, types.uint32, lambda builder, x: builder.bitcast(x, ir.IntType(32))
)
float_of = _reinterpreted(
    types.uint32, types.float32, lambda builder, x: builder.bitcast(x, ir.FloatType())
)
from_half = _reinterpreted(
    types.uint16,
    types.float32,
    lambda builder, x: builder.fpext(builder.bitcast(x, ir.HalfType()), ir.FloatType()),
)
to_half = _reinterpreted(
    types.float32,
    types.uint16,
    lambda builder, x: builder.bitcast(builder.fptrunc(x, ir.HalfType()), ir.IntType(16)),
)


@njit(inline="always")
def from_bfloat16(bits):
    """The float32 of bfloat16 bits."""
    return float_of(np.uint32(bits) << np.uint32(16))


@njit(inline="always")
def to_bfloat16(value):
    """Rounded to nearest, ties to even; not for NaN, which is found before it is stored."""
    bits = bits_of(value)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@compiled
def load(address, code, start, out):
    """``out = x`` for the entries from ``start`` on."""
    size = out.size
    if code == BFLOAT16:
        narrow = carray(as_uint16(address + np.uint64(2 * start)), size)
        for i in range(size):
            out[i] = from_bfloat16(narrow[i])
    elif code == FLOAT32:
        single = carray(as_float32(address + np.uint64(4 * start)), size)
        for i in range(size):
            out[i] = single[i]
    elif code == FLOAT16:
        half = carray(as_uint16(address + np.uint64(2 * start)), size)
        for i in range(size):
            out[i] = from_half(half[i])
    else:
        double = carray(as_float64(address + np.uint64(8 * start)), size)
        for i in range(size):
            out[i] = np.float32(double[i])


@compiled
def load_delta(address, code, start, origin, out):
    """``out = x - origin``."""
    size = out.size
    if code == BFLOAT16:
        narrow = carray(as_uint16(address + np.uint64(2 * start)), size)
        for i in range(size):
            out[i] = from_bfloat16(narrow[i]) - origin[i]
    elif code == FLOAT32:
        single = carray(as_float32(address + np.uint64(4 * start)), size)
        for i in range(size):
            out[i] = single[i] - origin[i]
    else:
        load(address, code, start, out)
        for i in range(size):
            out[i] -= origin[i]


@compiled
def add_weighted(address, code, start, weight, origin, mixed):
    """``mixed += weight · (x - origin)``."""
    size = mixed.size
    if code == BFLOAT16:
        narrow = carray(as_uint16(address + np.uint64(2 * start)), size)
        for i in range(size):
            mixed[i] += weight * (from_bfloat16(narrow[i]) - origin[i])
    elif code == FLOAT32:
        single = carray(as_float32(address + np.uint64(4 * start)), size)
        for i in range(size):
            mixed[i] += weight * (single[i] - origin[i])
    elif code == FLOAT16:
        half = carray(as_uint16(address + np.uint64(2 * start)), size)
        for i in range(size):
            mixed[i] += weight * (from_half(half[i]) - origin[i])
    else:
        double = carray(as_float64(address + np.uint64(8 * start)), size)
        for i in range(size):
            mixed[i] += weight * (np.float32(double[i]) - origin[i])


@compiled
def store(row, address, code, start):
    """Write a row to the entries from ``start`` on, rounded to the nearest."""
    size = row.size
    if code == BFLOAT16:
        narrow = carray(as_uint16(address + np.uint64(2 * start)), size)
        for i in range(size):
            narrow[i] = to_bfloat16(row[i])
    elif code == FLOAT32:
        single = carray(as_float32(address + np.uint64(4 * start)), size)
        for i in range(size):
            single[i] = row[i]
    elif code == FLOAT16:
        half = carray(as_uint16(address + np.uint64(2 * start)), size)
        for i in range(size):
            half[i] = to_half(row[i])
    else:
        double = carray(as_float64(address + np.uint64(8 * start)), size)
        for i in range(size):
            double[i] = row[i]
