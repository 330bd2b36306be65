"""Which packed items share a forward pass: little padding against few passes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

Shape = tuple[int, int]
"""Tokens of an item's context, and of the tree of continuations behind it."""

_HOPELESS = 4
"""Padding, in passes, beyond which a batch is not looked at."""


@dataclass(frozen=True)
class Limits:
    """What a forward pass may hold and what it costs."""

    rows: int
    """Of the longest item; shorter ones may be as many more as fill the same space."""

    columns: float
    """Of a batch of several rows."""

    outputs: int
    """Positions at which the output head works."""

    pass_cost: int
    """Columns of padding that are as dear as one more pass."""


@lru_cache(maxsize=64)
def batches(shapes: tuple[Shape, ...], limits: Limits) -> tuple[tuple[int, ...], ...]:
    """Indices of items in batches, the longest first, at the least cost.

    A batch costs its padded columns and ``pass_cost``. Items that exceed a limit on their own
    get a batch of their own.
    """
    order = sorted(range(len(shapes)), key=lambda k: shapes[k], reverse=True)
    ordered = [shapes[k] for k in order]
    space = limits.rows * max((sum(shape) for shape in shapes), default=0)
    best = [0.0]
    begins = [0]
    for end in range(1, len(order) + 1):
        cost, begin = min(
            (best[begin] + columns + limits.pass_cost, begin)
            for begin, columns in _batches_before(ordered, end, space, limits)
        )
        best.append(cost)
        begins.append(begin)
    plan = []
    end = len(order)
    while end:
        plan.append(tuple(order[begins[end] : end]))
        end = begins[end]
    return tuple(reversed(plan))


def _batches_before(
    shapes: Sequence[Shape], end: int, space: int, limits: Limits
) -> list[tuple[int, int]]:
    """Where a batch before ``end`` may begin, and how many columns it then has in all."""
    found = []
    used = tree = 0
    for begin in range(end - 1, -1, -1):
        context, nodes = shapes[begin]
        rows = end - begin
        used += context + nodes
        tree = max(tree, nodes)
        columns = rows * (context + tree)
        fits = (
            context + tree <= limits.columns
            and columns <= space
            and rows * (tree + 1) <= limits.outputs
        )
        if rows > 1 and not fits:
            break
        found.append((begin, columns))
        if columns - used > _HOPELESS * limits.pass_cost:
            break
    return found
