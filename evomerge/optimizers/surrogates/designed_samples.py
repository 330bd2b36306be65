"""MAP's first samples: the middle, one gene alone, all genes equal, and an even rest."""

import numpy as np

from evomerge.optimizers.starting_points import Units, latin_hypercube
from evomerge.optimizers.surrogates.encoded_genes import EncodedGenes

_DIAGONAL_SHARE = 0.1
_DIAGONAL_JITTER = 0.1
"""Standard deviation around the diagonal, as in MAP's code."""

_ALONE_SHARE = 0.25
"""At most so much of a design are points that have one gene at its upper end alone."""


def designed_samples(rng: np.random.Generator, count: int, encoded: EncodedGenes) -> Units:
    """Points that a quadratic can be fitted to.

    The middle; the lower corner; the corners that have one number at its upper end and the
    others at the lower (with weights as genes: single models), a random choice of them where
    they are more than a quarter; a tenth near the diagonal from lower to upper corner (all
    models equal); and a Latin hypercube. Choices are drawn evenly in all but the last.

    Returns:
        ``(count, genes)`` in the unit cube.
    """
    numbers = np.flatnonzero(~encoded.is_choice)
    genes = len(encoded.is_choice)
    alone = min(len(numbers), int(_ALONE_SHARE * count))
    tops = numbers[rng.permutation(len(numbers))[:alone]]
    corners = np.zeros((alone + 1, genes))
    corners[np.arange(alone), tops] = 1.0
    steps = (np.arange(max(1, int(_DIAGONAL_SHARE * count))) + 0.5)[:, None]
    steps = steps / len(steps)
    jitter = _DIAGONAL_JITTER * rng.standard_normal((len(steps), genes))
    special = np.concatenate([np.full((1, genes), 0.5), corners, np.clip(steps + jitter, 0, 1)])
    drawn = rng.random(special.shape)
    special = np.where(encoded.is_choice, drawn, special)[:count]
    return np.concatenate([special, latin_hypercube(rng, count - len(special), genes)])
