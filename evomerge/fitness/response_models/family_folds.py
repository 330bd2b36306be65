"""Folds of whole families: relatives are held out together, or errors look too small."""

from collections import Counter
from collections.abc import Sequence

import numpy as np


def family_folds(families: Sequence[str], count: int) -> list[np.ndarray]:
    """Rows of each fold, at most ``count`` folds of about equal size; no row is in two.

    Deterministic: families are dealt largest first, each to the smallest fold so far. A pool
    of a single family is split row by row, since there is nothing better to hold out.

    Args:
        families: Family of each row.
        count: Largest number of folds.
    """
    names = list(families)
    if len(Counter(names)) == 1:
        names = [str(row) for row in range(len(names))]
    sizes = Counter(names)
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    loads = [0] * min(count, len(ordered))
    fold_of: dict[str, int] = {}
    for name in ordered:
        fold = loads.index(min(loads))
        fold_of[name] = fold
        loads[fold] += sizes[name]
    folds = np.array([fold_of[name] for name in names])
    return [np.flatnonzero(folds == fold) for fold in range(len(loads))]
