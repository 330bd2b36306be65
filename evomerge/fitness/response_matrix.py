"""ResponseMatrix: what many models scored on the items of one task."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.core.errors import ConfigError


@dataclass(frozen=True, eq=False)
class ResponseMatrix:
    """Scores of many models on the items of one task.

    Raises:
        ConfigError: Shapes disagree, names repeat, a value is outside 0…1, or a model or an
            item has no response at all.
    """

    models: tuple[str, ...]

    items: tuple[str, ...]
    """Item names; in a calibration of a task's bank, the item's number as text."""

    values: np.ndarray
    """``(models, items)`` float64 in 0…1; NaN where a response is missing."""

    families: tuple[str, ...] = ()
    """Family of each model, for holding out relatives together; empty: each its own."""

    def __post_init__(self) -> None:
        """Check shapes, names and values."""
        problems = _shape_problems(self) or _value_problems(self)
        if problems:
            raise ConfigError(problems)
        if not self.families:
            object.__setattr__(self, "families", self.models)

    def rows(self, chosen: Sequence[int] | np.ndarray) -> "ResponseMatrix":
        """These models only, in this order."""
        return ResponseMatrix(
            tuple(self.models[k] for k in chosen),
            self.items,
            self.values[np.asarray(chosen, dtype=np.intp)],
            tuple(self.families[k] for k in chosen),
        )

    def columns(self, chosen: Sequence[int] | np.ndarray) -> "ResponseMatrix":
        """These items only, in this order."""
        return ResponseMatrix(
            self.models,
            tuple(self.items[k] for k in chosen),
            self.values[:, np.asarray(chosen, dtype=np.intp)],
            self.families,
        )

    @property
    def complete(self) -> bool:
        """Whether every model answered every item."""
        return not bool(np.isnan(self.values).any())


def _shape_problems(matrix: ResponseMatrix) -> list[str]:
    problems = []
    expected = (len(matrix.models), len(matrix.items))
    if matrix.values.shape != expected:
        problems.append(
            f"response matrix: {expected[0]} models and {expected[1]} items are named, the "
            f"values have shape {matrix.values.shape}."
        )
    if not all(expected):
        problems.append("response matrix: needs at least one model and one item.")
    for what, names in (("model", matrix.models), ("item", matrix.items)):
        twice = (
            [name for k, name in enumerate(names) if name in names[:k]]
            if len(set(names)) < len(names)
            else []
        )
        if twice:
            problems.append(f"response matrix: {what} {twice[0]!r} is named twice.")
    if matrix.families and len(matrix.families) != len(matrix.models):
        problems.append(
            f"response matrix: {len(matrix.families)} families for {expected[0]} models."
        )
    return problems


def _value_problems(matrix: ResponseMatrix) -> list[str]:
    problems = []
    values = matrix.values
    outside = np.argwhere((values < 0) | (values > 1))
    if len(outside):
        model, item = outside[0]
        problems.append(
            f"response matrix: scores must be within 0 and 1, model {matrix.models[model]!r} "
            f"has {values[model, item]:g} on item {matrix.items[item]!r} "
            f"({len(outside)} such values); rescale the metric first."
        )
    missing = np.isnan(values)
    for what, names, empty in (
        ("model", matrix.models, missing.all(axis=1)),
        ("item", matrix.items, missing.all(axis=0)),
    ):
        if empty.any():
            problems.append(
                f"response matrix: {what} {names[int(np.argmax(empty))]!r} has no response "
                f"({int(empty.sum())} such)."
            )
    return problems
