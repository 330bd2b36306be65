"""Responses that need no right answer: how sure a model is, what it says, if that stays."""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from evomerge.core.responses import ItemResponses, Responses

CHOICE, STABILITY = "choice", "stability"

LABEL_FREE: Mapping[str, Literal["maximize", "minimize"]] = {
    "entropy": "minimize",
    STABILITY: "maximize",
    "information": "maximize",
    "output_tokens": "minimize",
}
"""Metrics that a model can be best in by always saying the same, and the direction of that."""

DEFAULT_STEP = 0.1
"""AdaMMS (Du et al., CVPR 2025, arXiv:2503.23733) searches coefficients in steps of a tenth."""

_HASH_BYTES = 6


def choice_beliefs(
    loglikelihoods: Sequence[float], choices: Sequence[object]
) -> dict[str, float]:
    """``entropy`` and ``choice`` of one multiple-choice item.

    Args:
        loglikelihoods: Of the choices, in nats, finite.
        choices: Their texts.

    Returns:
        The entropy in nats of the softmax over the choices, 0 to the log of their number, and
        the code of the likeliest choice, the first of equals. Its text counts and not its
        place: a model that prefers one word to all others prefers it wherever it stands.
    """
    highest = max(loglikelihoods)
    below = [value - highest for value in loglikelihoods]
    total = math.fsum(math.exp(value) for value in below)
    mean = math.fsum(value * math.exp(value) for value in below) / total
    return {
        "entropy": max(0.0, math.log(total) - mean),
        CHOICE: answer_code(choices[loglikelihoods.index(highest)]),
    }


def answer_code(answer: object) -> float:
    """A number for an answer's text; equal for texts that differ in case or spaces only.

    A 48-bit hash, which a float holds exactly and which is the same in every process.
    """
    plain = " ".join(str(answer).lower().split())
    return float(int.from_bytes(hashlib.sha256(plain.encode()).digest()[:_HASH_BYTES], "big"))


def with_stability(
    answered: Responses, elsewhere: Sequence[Responses], tasks: Collection[str]
) -> dict[str, ItemResponses]:
    """A model's responses with ``stability``: 1 where a neighbour answers as the model does.

    Args:
        answered: The model's responses, with ``choice``.
        elsewhere: Responses of neighbours, which together answered every item of the tasks.
        tasks: Where to add it.

    Raises:
        KeyError: A neighbour's answer to an item is missing.
    """
    joined = dict(answered)
    for task in (task for task in answered if task in tasks):
        moved: dict[int, float] = {}
        for responses in elsewhere:
            if task in responses and responses[task].items:
                part = responses[task]
                moved |= dict(zip(part.items, part.values[CHOICE], strict=True))
        own = answered[task]
        same = tuple(
            float(moved[item] == choice)
            for item, choice in zip(own.items, own.values.get(CHOICE, ()), strict=True)
        )
        joined[task] = ItemResponses(own.items, {**own.values, STABILITY: same})
    return joined
