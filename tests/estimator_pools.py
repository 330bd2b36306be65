"""Pools of responses drawn from a simple model, for tests of selections and estimators."""

import numpy as np

from evomerge.fitness.calibration import TaskCalibration
from evomerge.fitness.response_matrix import ResponseMatrix

KINDS = ("binary", "graded", "missing", "few models", "equal answers")


def responses(rng: np.random.Generator, models: int, items: int) -> np.ndarray:
    """Answers of models with abilities in two dimensions, 0 or 1."""
    ability = rng.normal(size=(models, 2)) * (1.2, 0.4)
    slopes = rng.lognormal(0, 0.4, size=(2, items)) * ((1.0,), (1.0,))
    chance = 1 / (1 + np.exp(-(ability @ slopes - 1.2 * rng.normal(size=items))))
    return (rng.random((models, items)) < chance).astype(float)


def calibration_of(values: np.ndarray, families: int | None = None) -> TaskCalibration:
    """A calibration whose first, middle and last rows are endpoints."""
    models, items = values.shape
    names = tuple(f"m{row}" for row in range(models))
    groups = names if families is None else tuple(f"f{row % families}" for row in range(models))
    matrix = ResponseMatrix(names, tuple(str(item) for item in range(items)), values, groups)
    return TaskCalibration(matrix, (0, models // 2, models - 1))


def calibration(kind: str, models: int = 24, items: int = 40, seed: int = 0) -> TaskCalibration:
    """A pool of one of the ``KINDS``, in 8 families."""
    rng = np.random.default_rng(seed)
    if kind == "few models":
        return calibration_of(responses(rng, 8, items))
    values = responses(rng, models, items)
    if kind == "graded":
        values = (values + responses(rng, models, items) + 1) / 3
    if kind == "missing":
        hidden = rng.random(values.shape) < 0.25
        hidden[:, 0] = False
        hidden[0] = False
        values[hidden] = np.nan
    if kind == "equal answers":
        values[:, ::3] = 1.0
        values[:, 1::6] = 0.0
    return calibration_of(values, families=8)
