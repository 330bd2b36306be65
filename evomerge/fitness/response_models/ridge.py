"""Ridge regression of the bank mean on chosen items' responses, and its left-out errors.

What is regressed is the bank mean minus the mean of the answered items: coefficients are drawn
towards 1/n each, not towards 0, so with a strong penalty the prediction falls back to the
plain mean (plus a constant), and it becomes exact when all items are answered.

With G = (X X' + B 1 1' + λ I)⁻¹ over models, where B is a penalty-free intercept's prior
variance, the residual of a left-out block of models f is [G_ff]⁻¹ (G t)_f: no refitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PENALTIES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)

_INTERCEPT = 1e4
"""Prior variance of the intercept, in units of the coefficients': practically free."""


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A linear predictor of the bank mean."""

    weights: np.ndarray
    """``(n,)`` of the chosen items."""

    intercept: float

    penalty: float

    residuals: np.ndarray
    """``(models,)`` bank mean minus its prediction from the other folds' models."""


def fit_ridge(
    chosen: np.ndarray,
    bank_means: np.ndarray,
    folds: Sequence[np.ndarray],
    penalties: Sequence[float] = PENALTIES,
) -> RidgeFit:
    """Fit with the penalty of the smallest left-out squared error.

    Args:
        chosen: ``(models, n)`` responses to the chosen items, none missing.
        bank_means: ``(models,)``.
        folds: Rows that are left out together; every row is in one.
        penalties: To choose from.
    """
    target = bank_means - chosen.mean(axis=1)
    fits = [_left_out(chosen, target, folds, penalty) for penalty in penalties]
    best = int(np.argmin([np.mean(residuals**2) for residuals, _ in fits]))
    residuals, dual = fits[best]
    weights = chosen.T @ dual + 1 / chosen.shape[1]
    return RidgeFit(weights, _INTERCEPT * float(dual.sum()), penalties[best], residuals)


def _left_out(
    chosen: np.ndarray, target: np.ndarray, folds: Sequence[np.ndarray], penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    models = len(chosen)
    inverse = np.linalg.inv(chosen @ chosen.T + _INTERCEPT + penalty * np.eye(models))
    dual = inverse @ target
    residuals = np.empty(models)
    for fold in folds:
        residuals[fold] = np.linalg.solve(inverse[np.ix_(fold, fold)], dual[fold])
    return residuals, dual


class ForwardRidge:
    """Forward selection of items by the left-out error of the ridge predictor itself."""

    def __init__(
        self,
        values: np.ndarray,
        bank_means: np.ndarray,
        folds: Sequence[np.ndarray],
        penalty: float,
    ) -> None:
        """Start with no item chosen.

        Args:
            values: ``(models, items)`` responses to the items to choose from, none missing.
            bank_means: ``(models,)``.
            folds: Rows that are left out together.
            penalty: λ of every fit on the way.
        """
        self._values = values
        self._means = bank_means
        self._folds = folds
        models = len(values)
        # (λ I + B 1 1')⁻¹ by Sherman–Morrison
        scale = _INTERCEPT / (penalty * (penalty + models * _INTERCEPT))
        self._inverse = np.eye(models) / penalty - scale
        self._weighted = self._inverse @ values
        self._total = np.zeros(models)
        self._chosen: list[int] = []

    def errors(self) -> np.ndarray:
        """``(items,)`` left-out sum of squares if this item were chosen next."""
        size = len(self._chosen) + 1
        values, weighted = self._values, self._weighted
        growth = 1 + np.einsum("mn,mn->n", values, weighted)
        # G (ȳ − mean of the answers with this item), for every item at once
        dual = (self._inverse @ (self._means - self._total / size))[:, None] - weighted / size
        pull = np.einsum("mn,mn->n", values, dual) / growth
        errors = np.zeros(values.shape[1])
        for fold in self._folds:
            block = np.linalg.inv(self._inverse[np.ix_(fold, fold)])
            own = weighted[fold]
            # G loses own own'/growth when the item joins; its block's inverse by Sherman–
            # Morrison again
            turned = block @ own
            before = block @ (dual[fold] - own * pull)
            room = growth - np.einsum("fn,fn->n", own, turned)
            shift = np.einsum("fn,fn->n", turned, dual[fold] - own * pull) / room
            errors += ((before + turned * shift) ** 2).sum(axis=0)
        errors[self._chosen] = np.inf
        return errors

    def choose(self, item: int) -> None:
        """Add an item to the chosen ones."""
        own = self._weighted[:, item].copy()
        growth = 1 + float(self._values[:, item] @ own)
        self._inverse = self._inverse - np.outer(own, own) / growth
        self._weighted = self._weighted - np.outer(own, (own @ self._values) / growth)
        self._total = self._total + self._values[:, item]
        self._chosen.append(item)
