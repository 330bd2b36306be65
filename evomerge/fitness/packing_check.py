"""Whether packed and plain log-likelihoods of a model agree, asked once before packing."""

import math
from collections.abc import Mapping, Sequence

import torch

from evomerge.fitness.packed_choices import PackedItem, Tokens, packed_item

_BRANCH = 4
"""Tokens of a made continuation; enough for ancestors, siblings and cousins."""

_ENDING = 2
"""Tokens in which both contexts end, so that only a model that looks further tells them
apart."""

_TOLERANCE = {torch.float16: 5e-3, torch.bfloat16: 0.05}
"""Difference that rounding explains, as a share of the log-likelihood and five nats, by the
model's dtype. Models of 1 to 135 million parameters have shown a quarter to a half of it."""

_PRECISE = 2e-5
"""For float32 and better; a thousandth of a nat for a log-likelihood of -45."""

_LISTENS = 1.2
"""Tolerances by which another context has to change a log-likelihood, for a model that any
comparison can tell something about."""


def probes(groups: Mapping[Tokens, Sequence[Tokens]], longest: float) -> tuple[PackedItem, ...]:
    """Two items made of real contexts and continuations, which show whether packing works.

    They share continuations, and one context is the other's ending. Continuations branch at
    once and have several tokens, so that one which sees its neighbour, or stands at a wrong
    position, gets another log-likelihood.

    Args:
        groups: Real continuations by context.
        longest: Most tokens that a row may have.

    Returns:
        None at all where contexts are too short or continuations too alike to show anything.
    """
    short, context = (pick(groups, key=len) for pick in (min, max))
    first, last = groups[short][0], groups[context][0]
    made = (first + last, last + first, context[:_BRANCH], context[-_BRANCH:])
    branches: dict[int, Tokens] = {}
    for tokens in made:
        if len(tokens) > 1:
            branches.setdefault(tokens[0], tokens[:_BRANCH])
    room = min(longest - _BRANCH * len(branches), len(context))
    if len(branches) < 2 or room <= _ENDING:
        return ()
    long = context[-int(room) :]
    return tuple(packed_item(c, tuple(branches.values())) for c in (long, long[-_ENDING:]))


def disagreement(
    packed: Sequence[Sequence[float]], plain: Sequence[Sequence[float]], dtype: torch.dtype
) -> float | None:
    """The largest difference, in multiples of what rounding explains.

    Args:
        packed: Log-likelihoods of each probe's continuations, packed.
        plain: The same, each continuation in a row of its own.
        dtype: The model's.

    Returns:
        Above 1 for a model that cannot be packed; None where the answers show nothing, since
        one is no number or the model does not listen to its context.
    """
    if not all(math.isfinite(value) for answers in plain for value in answers):
        return None
    tolerance = _TOLERANCE.get(dtype, _PRECISE)
    if _apart([plain[0]], [plain[1]]) < _LISTENS * tolerance:
        return None
    return _apart(packed, plain) / tolerance


def _apart(some: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    """The largest difference, as a share of the log-likelihood and five nats."""
    return max(
        abs(a - b) / (abs(b) + 5)
        for left, right in zip(some, others, strict=True)
        for a, b in zip(left, right, strict=True)
    )
