"""AnswerBlocks: a pool's answers, item by item in blocks, and sums over them.

Everything the fit needs of the answers are four sums over models × items × nodes, each one
matrix product around one elementwise function. They run over blocks of items that stay in the
processor's cache; blocks may run on several threads and are added up in their own order, so
the result does not depend on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from evomerge.fitness.irt.model import LOGIT_BOUND

_BLOCK = 1 << 18
"""Elements of a block: 1 MB in float32."""

_LARGE = 1 << 24
"""Models × items × nodes from which sums run in float32; below, float64 costs nothing."""

Part = TypeVar("Part")


@dataclass(frozen=True, eq=False)
class Nodes:
    """Abilities at which each model's answers are looked at, and how much each counts."""

    points: np.ndarray
    """``(models, nodes, dims)``."""

    weights: np.ndarray
    """``(models, nodes)``, each row adding up to 1."""

    @property
    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean ``(models, dims)`` and covariance ``(models, dims, dims)`` of each model."""
        mean = np.einsum("mk,mkd->md", self.weights, self.points)
        centred = self.points - mean[:, None]
        return mean, np.einsum("mk,mkd,mke->mde", self.weights, centred, centred)


class AnswerBlocks:
    """The answers of a pool, ``(models, items)`` with NaN where missing."""

    def __init__(self, values: np.ndarray, nodes: int, threads: int) -> None:
        large = values.size * nodes > _LARGE
        self.dtype: type[np.floating] = np.float32 if large else np.float64
        missing = np.isnan(values.T)
        self.models, self.items = values.shape
        self._y = np.where(missing, 0.0, values.T).astype(self.dtype)
        self._seen = (~missing).astype(self.dtype) if missing.any() else None
        self._threads = threads

    def item_derivatives(
        self, coefficients: np.ndarray, nodes: Nodes
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the expected log likelihood in each item's coefficients (a, b).

        Returns:
            Gradient ``(items, dims + 1)`` and negative Hessian ``(items, dims + 1, dims + 1)``.
        """
        flat = nodes.points.reshape(-1, nodes.points.shape[2])
        design = np.column_stack([flat, -np.ones(len(flat))]).astype(self.dtype)
        weighted = design * nodes.weights.reshape(-1, 1).astype(self.dtype)
        squares = np.einsum("pf,pg->pfg", weighted, design).reshape(len(flat), -1)
        expected = weighted.reshape(self.models, -1, design.shape[1]).sum(axis=1)
        coefficients = coefficients.astype(self.dtype)

        def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
            p = self._probabilities(coefficients[rows] @ design.T, rows)
            gradient = self._y[rows] @ expected - p @ weighted
            return gradient, (p - p * p) @ squares

        gradients, hessians = zip(*self._each(len(flat), part), strict=True)
        width = design.shape[1]
        hessian = np.concatenate(hessians).astype(np.float64).reshape(-1, width, width)
        return np.concatenate(gradients).astype(np.float64), hessian

    def ability_derivatives(
        self, coefficients: np.ndarray, theta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of the log likelihood in each model's ability.

        Returns:
            Gradient ``(models, dims)`` and negative Hessian ``(models, dims, dims)``.
        """
        dims = theta.shape[1]
        coefficients = coefficients.astype(self.dtype)
        slopes = coefficients[:, :-1]
        squares = np.einsum("id,ie->ide", slopes, slopes).reshape(self.items, -1)
        design = np.column_stack([theta, -np.ones(len(theta))]).astype(self.dtype)

        def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
            p = self._probabilities(coefficients[rows] @ design.T, rows)
            return (self._y[rows] - p).T @ slopes[rows], (p - p * p).T @ squares[rows]

        parts = self._each(self.models, part)
        gradient = np.asarray(np.sum([g for g, _ in parts], axis=0, dtype=np.float64))
        hessian = np.sum([h for _, h in parts], axis=0, dtype=np.float64)
        return gradient, hessian.reshape(-1, dims, dims)

    def log_likelihoods(self, coefficients: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Log likelihood of each model's answers at its points, ``(models, nodes)``."""
        coefficients = coefficients.astype(self.dtype)
        flat = points.reshape(-1, points.shape[2])
        design = np.column_stack([flat, -np.ones(len(flat))]).astype(self.dtype)
        shape = points.shape[:2]

        def part(rows: slice) -> np.ndarray:
            z = coefficients[rows] @ design.T
            cost = (np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0)).reshape(-1, *shape)
            if self._seen is not None:
                cost *= self._seen[rows, :, None]
            return np.asarray(cost.sum(axis=0, dtype=np.float64))

        cost = np.sum(self._each(len(flat), part), axis=0)
        # Σ y z is linear in the point: Σ_i y_i (a_i, b_i) once for each model
        drawn = self._y.T @ coefficients
        linear = np.einsum("mkf,mf->mk", design.reshape(*shape, -1), drawn, dtype=np.float64)
        return np.asarray(linear - cost)

    def _probabilities(self, z: np.ndarray, rows: slice) -> np.ndarray:
        """σ(z) in place, 0 where a model did not answer."""
        np.clip(z, -LOGIT_BOUND, LOGIT_BOUND, out=z)
        np.negative(z, out=z)
        np.exp(z, out=z)
        z += 1
        np.reciprocal(z, out=z)
        if self._seen is not None:
            z.reshape(len(z), self.models, -1)[...] *= self._seen[rows, :, None]
        return z

    def _each(self, points: int, part: Callable[[slice], Part]) -> list[Part]:
        size = max(1, _BLOCK // points)
        blocks = [slice(k, k + size) for k in range(0, self.items, size)]
        if self._threads == 1:
            return [part(rows) for rows in blocks]
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(part, blocks))
