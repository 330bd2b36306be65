"""Item parameters of a pool, fitted once however many selections and estimators ask."""

import hashlib
from collections import OrderedDict

import numpy as np

from evomerge.fitness.irt.fit import FitSettings, IrtFit, fit_2pl

_KEPT = 32
"""Fits kept; each holds a few numbers an item, not the responses."""

_FEW = 12
"""Fewer models than this are fitted with one dimension."""

_SETTINGS = FitSettings(iterations=40, tolerance=1e-2)
"""Against a fit to 1e-4, bank means predicted from 20 answers differ by .001 (by .01 on one of
five matrices tried, where they err by .04), in a fraction of the time."""


class _Fits:
    """The latest fits, by what the responses are."""

    def __init__(self) -> None:
        self._fits: OrderedDict[bytes, IrtFit] = OrderedDict()

    def get(self, values: np.ndarray, dims: int) -> IrtFit:
        digest = hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=16)
        digest.update(repr((values.shape, dims)).encode())
        key = digest.digest()
        if key not in self._fits:
            self._fits[key] = fit_2pl(values, dims, _SETTINGS)
        self._fits.move_to_end(key)
        while len(self._fits) > _KEPT:
            self._fits.popitem(last=False)
        return self._fits[key]


_fits = _Fits()


def fit_items(values: np.ndarray, dims: int | None = None) -> IrtFit:
    """The 2PL fit of a pool's responses; missing ones are left out of the likelihood.

    Deterministic, so the same responses give the same fit and it is made once.

    Args:
        values: ``(models, items)`` in 0…1, NaN where missing.
        dims: Ability dimensions; None takes 2, or 1 for a pool of fewer than 12 models.
    """
    if dims is None:
        dims = 1 if len(values) < _FEW else 2
    return _fits.get(values, min(dims, min(values.shape) - 1))
