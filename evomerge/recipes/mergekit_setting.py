"""A parameter as mergekit writes it: a value, a gradient over layers, or values by filter."""

import math
from collections.abc import Mapping
from typing import Any

from evomerge.core.near_names import unknown
from evomerge.core.recipe import Scalar, Value

_DIGITS = 12
"""Significant digits of interpolated values, so that recipes show no rounding noise."""

_TRUE = ("true", "yes", "on", "y", "t", "1")
_FALSE = ("false", "no", "off", "n", "f", "0")


def setting_problems(setting: Any) -> list[str]:  # noqa: ANN401 - anything YAML can hold
    """Everything wrong with the shape of a parameter's setting."""
    if _is_scalar(setting):
        return [] if _is_finite(setting) else [f"must be finite, found {setting!r:.60}"]
    if isinstance(setting, Mapping):
        return _condition_problems(setting)
    if not isinstance(setting, list) or not setting:
        return [
            f"must be a value, a list of values or of {{filter, value}}, found {setting!r:.60}"
        ]
    if any(isinstance(each, Mapping) for each in setting):
        return [
            problem
            for each in setting
            for problem in (
                _condition_problems(each)
                if isinstance(each, Mapping)
                else [f"mixes values and {{filter, value}}, found {each!r:.60}"]
            )
        ]
    bad = [each for each in setting if not _is_scalar(each)]
    if bad:
        return [f"a gradient is a list of plain values, found {bad[0]!r:.60}"]
    return [problem for each in setting for problem in setting_problems(each)]


def _condition_problems(condition: Mapping[Any, Any]) -> list[str]:
    keys = ("filter", "value")
    problems = [unknown("key", key, keys) for key in condition if key not in keys]
    given = condition.get("filter")
    if given is not None and not isinstance(given, str):
        problems.append(f"a filter must be a part of tensor names, found {given!r:.60}")
    value = condition.get("value")
    if isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(each, Mapping) for each in value)
    ):
        return [*problems, "the value of a filter must be a value or a list of values"]
    return problems + setting_problems(value)


def _is_scalar(value: Any) -> bool:  # noqa: ANN401 - anything YAML can hold
    return isinstance(value, bool | int | float | str)


def _is_finite(value: Scalar) -> bool:
    """Whether what a scalar means is no number, or one that a float can hold."""
    meant = _plain(value)
    try:
        return isinstance(meant, str) or math.isfinite(meant)
    except OverflowError:
        return False


def filters_of(setting: Any) -> list[str]:  # noqa: ANN401 - a sound setting
    """The parts of names that a setting asks for, in its order."""
    conditions = [setting] if isinstance(setting, Mapping) else setting
    if not isinstance(conditions, list):
        return []
    found = [each.get("filter") for each in conditions if isinstance(each, Mapping)]
    return [part for part in found if part not in (None, "*", "")]


def value_at(setting: Any, tensor: str, depth: float) -> Scalar | None:  # noqa: ANN401
    """What a sound setting says of a tensor; None where no filter of it matches.

    The first condition holds whose filter is a part of the tensor's name; none and ``*`` match
    every name.

    Args:
        setting: A value, a gradient, a condition or a list of conditions.
        tensor: The tensor's name in the model that the parameter is of.
        depth: Place of the layer in its slice, 0 for the first layer and 1 for the last.
    """
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list):
        return _plain(setting)
    if not any(isinstance(each, Mapping) for each in setting):
        return _on_gradient([_plain(each) for each in setting], depth)
    for condition in setting:
        part = condition.get("filter")
        if part in (None, "*") or part in tensor:
            return value_at(condition["value"], tensor, depth)
    return None


def _plain(value: Scalar) -> Scalar:
    """Text that is a number as that number, as mergekit's own YAML reader leaves ``1e-3``."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _on_gradient(values: list[Scalar], depth: float) -> Scalar:
    """Between the values of evenly spaced knots; of what are no numbers, the knot before."""
    place = depth * (len(values) - 1)
    before = min(int(place), len(values) - 1)
    after = min(before + 1, len(values) - 1)
    start, end = values[before], values[after]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return start
    share = place - before
    return rounded((1 - share) * float(start) + share * float(end))


def rounded(value: float) -> float:
    """To twelve significant digits; never -0.0."""
    return float(f"{value:.{_DIGITS}g}") + 0.0


def as_kind_of(default: Value | None, value: Value) -> Scalar:
    """A value as a number, whole number or flag, whichever the parameter's default is.

    Raises:
        ValueError: It is none.
    """
    if isinstance(default, bool):
        text = str(value).lower().removesuffix(".0")
        if text not in (*_TRUE, *_FALSE):
            raise ValueError(f"must be true or false, found {value!r}")
        return text in _TRUE
    if isinstance(value, str | tuple):
        raise ValueError(f"must be a number, found {value!r}")  # noqa: TRY004 - a wrong file
    if isinstance(default, int) and float(value).is_integer():
        return int(value)
    return float(value) + 0.0
