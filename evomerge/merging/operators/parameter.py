"""What a recipe may set for an operator, and what it has set."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from evomerge.core.recipe import Parameters, Value, number_of


@dataclass(frozen=True)
class Parameter:
    """Something a recipe may set for an operator."""

    name: str
    kind: Literal["number", "flag", "numbers"]
    """``numbers`` are any number of them in a tuple, one for each part of a tensor."""

    default: float | bool | tuple[float, ...]
    summary: str
    per_model: bool = False
    """One value a model; a value given for the whole merge holds for models without one."""

    low: float = -math.inf
    high: float = math.inf

    def problem(self, value: Value) -> str | None:
        """Why the value is not allowed, or None."""
        if self.kind == "flag":
            return None if isinstance(value, bool) else f"must be true or false, got {value!r}"
        if self.kind == "numbers":
            return self._tuple_problem(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number, got {value!r}"
        if not math.isfinite(value) or not self.low <= value <= self.high:
            bounds = f" from {self.low:g} to {self.high:g}" if self.low > -math.inf else ""
            return f"must be a finite number{bounds}, got {value!r}"
        return None

    def _tuple_problem(self, value: Value) -> str | None:
        if not isinstance(value, tuple):
            return f"must be a list of numbers, got {value!r}"
        of_one = replace(self, kind="number")
        return next(filter(None, map(of_one.problem, value)), None)


@dataclass(frozen=True)
class Settings:
    """An operator's parameters with every default filled in."""

    models: tuple[Parameters, ...]
    """Per-model parameters, in the order of the tensors."""

    whole: Parameters
    """Parameters of the merge as a whole."""

    def of_models(self, name: str) -> list[float]:
        """A numeric per-model parameter, one value a model."""
        return [number_of(parameters[name]) for parameters in self.models]

    def number(self, name: str) -> float:
        """A numeric parameter of the merge as a whole."""
        return number_of(self.whole[name])

    def flag(self, name: str) -> bool:
        """A true/false parameter of the merge as a whole."""
        return bool(self.whole[name])

    def numbers(self, name: str) -> tuple[float, ...]:
        """A parameter of the merge as a whole that is several numbers."""
        return _numbers(self.whole[name])

    def numbers_of_models(self, name: str) -> list[tuple[float, ...]]:
        """A per-model parameter that is several numbers, one tuple a model."""
        return [_numbers(parameters[name]) for parameters in self.models]


def _numbers(value: Value) -> tuple[float, ...]:
    if not isinstance(value, tuple):
        raise TypeError(f"several numbers are wanted, got {value!r}")
    return value
