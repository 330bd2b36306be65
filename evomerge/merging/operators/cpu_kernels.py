"""Compiled loops over tensors in main memory: everything about a block while it is in cache.

A merge by tensor operations goes through memory once an operation; these loops read every
source once and write the result once, in its own dtype. Tensors come as addresses, so that one
compiled function serves any number of models and any mix of dtypes. Sums run over lanes in an
order of their own, so that results do not depend on the processor's vector length.
"""

import numpy as np
from numba import carray, njit

from evomerge.merging.operators.cpu_codes import (
    ALL,
    BFLOAT16,
    BLOCK,
    FINE,
    FLOAT16,
    MAGNITUDES,
    RANDOM,
    RANKED,
)
from evomerge.merging.operators.cpu_compiled import compiled
from evomerge.merging.operators.cpu_memory import (
    add_weighted,
    as_uint8,
    bits_of,
    from_bfloat16,
    from_half,
    load,
    load_delta,
    store,
    to_bfloat16,
    to_half,
)

KEPT = np.dtype(
    [
        ("kind", np.int64),
        ("low", np.float32),  # MAGNITUDES: smaller ones are dropped …
        ("high", np.float32),  # … and larger ones
        ("kept_at_low", np.int64),  # of those equal to low, the first so many are kept
        ("dropped_at_high", np.int64),  # of those equal to high, the first so many are dropped
        ("stream", np.uint64),  # RANDOM, RANKED: key of the uniforms
        ("below", np.int64),  # RANDOM: kept are numbers below it
        ("floor", np.float32),  # RANKED: kept with probability floor + slope · rank
        ("slope", np.float32),
        ("ranks", np.uint64),  # RANKED: address of one byte an entry
        ("factor", np.float32),  # of what is kept
    ]
)
"""What one model's task vector keeps, as the loops read it."""

_LANES = 64
_GATHERED = 256
_ABSOLUTE = np.uint32(0x7FFFFFFF)


@njit(inline="always")
def _hash(place, low_key, high_key):
    """The 32-bit hash of ``random_masks.numbers``."""
    x = np.uint32(place) ^ low_key
    x ^= x >> np.uint32(16)
    x = np.uint32(np.uint32(x * np.uint32(0x7FEB352D)) + high_key)  # numba widens sums
    x ^= x >> np.uint32(15)
    x = np.uint32(x * np.uint32(0x846CA68B))
    return x ^ (x >> np.uint32(16))


@compiled
def _numbers(start, stream, out):
    """A block of ``random_masks.numbers``; blocks are as long as their runs."""
    low_key = np.uint32(stream & np.uint64(0xFFFFFFFF))
    high_key = np.uint32(stream >> np.uint64(32))
    half = BLOCK // 2
    first = np.uint32((start // 2) & 0xFFFFFFFF)
    both = max(0, out.size - half)
    lower, upper = out[: min(half, out.size)], out[min(half, out.size) :]
    for i in range(both):
        x = np.uint32(_hash(first + np.uint32(i), low_key, high_key))
        lower[i] = np.uint16(x)
        upper[i] = np.uint16(x >> np.uint32(16))
    for i in range(both, lower.size):
        lower[i] = np.uint16(_hash(first + np.uint32(i), low_key, high_key))


@compiled
def _cut_low(part, low, seen, kept):
    """Drop magnitudes below ``low``, and those equal to it but the first ``kept`` of all."""
    equal = 0
    if seen < kept:
        for i in range(part.size):
            equal += np.int64(abs(part[i]) == low)
    if seen < kept and seen + equal <= kept:
        for i in range(part.size):
            part[i] = np.float32(0) if abs(part[i]) < low else part[i]
        return seen + equal
    if seen < kept:
        for i in range(part.size):
            if abs(part[i]) == low:
                seen += 1
                if seen > kept:
                    part[i] = np.float32(0)
            elif abs(part[i]) < low:
                part[i] = np.float32(0)
        return kept
    for i in range(part.size):
        part[i] = np.float32(0) if abs(part[i]) <= low else part[i]
    return seen


@compiled
def _cut_high(part, high, seen, dropped):
    """Drop magnitudes above ``high``, and of those equal to it the first ``dropped`` of all."""
    for i in range(part.size):
        part[i] = np.float32(0) if abs(part[i]) > high else part[i]
    if seen < dropped:
        for i in range(part.size):
            if seen < dropped and abs(part[i]) == high:
                seen += 1
                part[i] = np.float32(0)
    return seen


@compiled
def _keep(part, start, kept, seen, weight):
    """Zero what is dropped of a block of a task vector, and weigh the rest; a NaN stays."""
    if kept.kind == MAGNITUDES:
        if kept.high < np.inf:
            seen[1] = _cut_high(part, kept.high, seen[1], kept.dropped_at_high)
        if kept.low > 0:
            seen[0] = _cut_low(part, kept.low, seen[0], kept.kept_at_low)
    if kept.kind == MAGNITUDES or kept.kind == ALL:
        if weight != 1:
            for i in range(part.size):
                part[i] *= weight
        return
    random = np.empty(part.size, np.uint16)
    _numbers(start, kept.stream, random)
    if kept.kind == RANDOM:
        below = np.int32(kept.below)
        for i in range(part.size):
            part[i] *= weight if np.int32(random[i]) < below else np.float32(0)
    elif kept.kind == RANKED:
        ranks = carray(as_uint8(kept.ranks + np.uint64(start)), part.size)
        floor, slope = kept.floor, kept.slope
        for i in range(part.size):
            uniform = np.float32(random[i]) * np.float32(2.0**-16)
            keeps = uniform < floor + slope * np.float32(ranks[i])
            part[i] *= weight if keeps else np.float32(0)


@njit(inline="always")
def _along(part, sign):
    """The part where it has the sign, else 0; turned positive; a NaN stays."""
    turned = -part if sign < 0 else part
    return np.float32(0) if turned < 0 else turned


@compiled
def _elect(parts, weights, normalize, sign, mixed, divisor):
    """Sum the parts whose sign is that of their sum; a sum of 0 counts as positive.

    The first two go together, since each pass over a block costs about the same.
    """
    size, models = mixed.size, parts.shape[0]
    first, second = parts[0, :size], parts[min(1, models - 1), :size]
    two = np.float32(models > 1)
    for i in range(size):
        sign[i] = first[i] + two * second[i]
    for k in range(2, models):
        part = parts[k, :size]
        for i in range(size):
            sign[i] += part[i]
    for i in range(size):
        mixed[i] = _along(first[i], sign[i]) + two * _along(second[i], sign[i])
    for k in range(2, models):
        part = parts[k, :size]
        for i in range(size):
            mixed[i] += _along(part[i], sign[i])
    if normalize:
        w, v = weights[0], two * weights[min(1, models - 1)]
        for i in range(size):
            divisor[i] = w if _along(first[i], sign[i]) > 0 else np.float32(0)
            divisor[i] += v if _along(second[i], sign[i]) > 0 else np.float32(0)
        for k in range(2, models):
            part, weight = parts[k, :size], weights[k]
            for i in range(size):
                divisor[i] += weight if _along(part[i], sign[i]) > 0 else np.float32(0)
        for i in range(size):
            mixed[i] /= divisor[i] if divisor[i] != 0 else np.float32(1)
    for i in range(size):
        mixed[i] = -mixed[i] if sign[i] < 0 else mixed[i]


@compiled
def mix(origin, rows, codes, kept, weights, plan, target, size):
    """``target = origin + scale · Σ_k weight_k · factor_k · kept_k(x_k - origin)``.

    Args:
        origin: Address and dtype code of the base; address 0 for none.
        rows: Addresses of the models' tensors.
        codes: Their dtype codes.
        kept: ``KEPT`` records, one a model.
        weights: Float32, one a model.
        plan: (scale, elect, normalize); without election the weights are divided already.
        target: Address, dtype code in memory, and the code of the dtype rounded to before.
        size: Entries of every tensor.

    Returns:
        The largest magnitude of the result as float32 bits; a NaN counts as largest.
    """
    scale, elect, normalize = plan
    models = rows.size
    parts = np.empty((models if elect else 1, BLOCK), np.float32)
    spare = np.empty((4, BLOCK), np.float32)
    seen = np.zeros((models, 2), np.int64)
    largest = np.uint32(0)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        base, mixed = spare[0, :length], spare[1, :length]
        if origin[0] == 0:
            base[:] = np.float32(0)
        else:
            load(np.uint64(origin[0]), origin[1], start, base)
        mixed[:] = np.float32(0)
        for k in range(models):
            weight = weights[k] * kept[k].factor
            if not elect and kept[k].kind == ALL:
                add_weighted(rows[k], codes[k], start, weight, base, mixed)
                continue
            part = parts[k if elect else 0, :length]
            load_delta(rows[k], codes[k], start, base, part)
            _keep(part, start, kept[k], seen[k], weight)
            if not elect:
                for i in range(length):
                    mixed[i] += part[i]
        if elect and models:
            _elect(parts, weights, normalize, spare[2, :length], mixed, spare[3, :length])
        for i in range(length):
            mixed[i] = base[i] + scale * mixed[i]
            largest = max(largest, bits_of(mixed[i]) & _ABSOLUTE)
        if target[2] == BFLOAT16 and target[1] != BFLOAT16:
            for i in range(length):
                mixed[i] = from_bfloat16(to_bfloat16(mixed[i]))
        elif target[2] == FLOAT16 and target[1] != FLOAT16:
            for i in range(length):
                mixed[i] = from_half(to_half(mixed[i]))
        store(mixed, np.uint64(target[0]), target[1], start)
    return largest


@compiled
def _norm(row):
    """The L1 norm of a block."""
    lanes = np.zeros(_LANES, np.float32)
    whole = row.size // _LANES * _LANES
    for i in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane] += abs(row[i + lane])
    total = 0.0
    for lane in range(_LANES):
        total += np.float64(lanes[lane])
    for i in range(whole, row.size):
        total += np.float64(abs(row[i]))
    return total


@compiled
def kept_norms(origin, rows, codes, kept, size):
    """The L1 norms of what is kept of ``x_k - origin``; arguments as of ``mix``."""
    spare = np.empty((2, BLOCK), np.float32)
    seen = np.zeros((rows.size, 2), np.int64)
    totals = np.zeros(rows.size, np.float64)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        base, part = spare[0, :length], spare[1, :length]
        load(np.uint64(origin[0]), origin[1], start, base)
        for k in range(rows.size):
            load_delta(rows[k], codes[k], start, base, part)
            _keep(part, start, kept[k], seen[k], np.float32(1))
            totals[k] += _norm(part)
    return totals


@compiled
def histogram(origin, row, size):
    """Entries of ``|row - origin|`` by the top 20 bits of a float, and which bins hold more."""
    counts = np.zeros(1 << (31 - FINE), np.int64)
    finer = np.zeros(1 << (31 - FINE), np.int64)
    spare = np.empty((2, BLOCK), np.float32)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        base, part = spare[0, :length], spare[1, :length]
        load(np.uint64(origin[0]), origin[1], start, base)
        load_delta(np.uint64(row[0]), row[1], start, base, part)
        for i in range(length):
            bits = bits_of(part[i]) & _ABSOLUTE
            counts[bits >> np.uint32(FINE)] += 1
            finer[bits >> np.uint32(FINE)] |= bits & np.uint32((1 << FINE) - 1)
    return counts, finer


@compiled
def between(origin, row, low, high, size):
    """The magnitudes of ``row - origin`` from ``low`` to ``high``, both included."""
    spare = np.empty((2, BLOCK), np.float32)
    found = np.empty(1024, np.float32)
    count = 0
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        base, part = spare[0, :length], spare[1, :length]
        load(np.uint64(origin[0]), origin[1], start, base)
        load_delta(np.uint64(row[0]), row[1], start, base, part)
        for first in range(0, length, _GATHERED):
            few = part[first : min(first + _GATHERED, length)]
            inside = np.int32(0)
            for i in range(few.size):
                few[i] = abs(few[i])
                inside += np.int32((few[i] >= low) & (few[i] <= high))
            if inside == 0:
                continue
            if count + inside > found.size:
                longer = np.empty(2 * (count + inside), np.float32)
                longer[:count] = found[:count]
                found = longer
            for i in range(few.size):
                if low <= few[i] <= high:
                    found[count] = few[i]
                    count += 1
    return found[:count]
