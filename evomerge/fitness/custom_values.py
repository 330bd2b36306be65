"""What custom scoring code hands back, checked and brought into the form of item responses."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from evomerge.core.errors import TrialError
from evomerge.core.responses import ItemResponses
from evomerge.fitness.item_bank import ItemBank

STANDARD_ERROR = "standard_error"
"""The key beside the metrics of a task that is scored as a whole."""

_SHOWN = 3
"""Items named in a message."""


def item_responses(
    returned: Any,  # noqa: ANN401 - whatever the user's code returns
    items: Sequence[int],
    metrics: Sequence[str],
) -> ItemResponses:
    """The responses to items, from any of the forms in which they may be given.

    Args:
        returned: By item a number (one metric) or the metrics' numbers by name; or by metric
            the numbers of the items in their order; or, for one metric, just those numbers.
        items: What was asked; every one must be there, and no other.
        metrics: What the task measures; every one must be there, and no other.

    Raises:
        TrialError: It is of another form, lacks something, holds more, or is not finite.
    """
    if isinstance(returned, Mapping):
        if all(isinstance(key, str) for key in returned) and returned:
            columns = _columns(returned, items, metrics)
        else:
            columns = _rows(returned, items, metrics)
    elif len(metrics) == 1 and _is_sequence(returned):
        columns = _columns({metrics[0]: returned}, items, metrics)
    else:
        raise TrialError(
            f"expected one value for each of {len(items)} items, found {_shown(returned)}; a "
            "task with one score for the whole names no 'items' in the experiment file"
        )
    return ItemResponses(tuple(items), columns)


def whole_score(
    returned: Any,  # noqa: ANN401 - whatever the user's code returns
    metrics: Sequence[str],
) -> dict[str, tuple[float, float]]:
    """The scores of a whole task, each with its standard error.

    Args:
        returned: A number (one metric), or numbers by metric; beside them, under
            ``standard_error``, that of the one metric, or several by metric. Without it a
            score counts as exact.
        metrics: What the task measures; every one must be there, and no other.

    Raises:
        TrialError: It is of another form, lacks something, holds more, or is not finite.
    """
    if not isinstance(returned, Mapping):
        if len(metrics) > 1 or _is_sequence(returned):
            raise TrialError(
                f"expected {' and '.join(metrics)} by name, found {_shown(returned)}; a task "
                "that is scored item by item names its 'items' in the experiment file"
            )
        returned = {metrics[0]: returned}
    values = {str(key): value for key, value in returned.items()}
    errors = values.pop(STANDARD_ERROR, 0.0)
    if not isinstance(errors, Mapping):
        if len(metrics) > 1 and errors:
            raise TrialError(
                f"{STANDARD_ERROR}: the task has the metrics {', '.join(metrics)}; give one "
                "by name for each"
            )
        errors = {metrics[0]: errors}
    _same_names("metric", values, metrics)
    strange = [name for name in errors if name not in metrics]
    if strange:
        raise TrialError(f"{STANDARD_ERROR} of {strange[0]!r}, which is no metric of the task")
    scores = {}
    for name in metrics:
        error = number(errors.get(name, 0.0), f"{STANDARD_ERROR} of {name}")
        if error < 0:
            raise TrialError(f"{STANDARD_ERROR} of {name} is {error:g}; it cannot be negative")
        scores[name] = (number(values[name], name), error)
    return scores


def whole_responses(
    scores: Mapping[str, tuple[float, float]],
    bank: ItemBank,
    split: str,
    rng: np.random.Generator,
) -> ItemResponses:
    """A whole task's scores as responses that have exactly that mean and standard error.

    Half of the n responses lie a·s above the mean and half below, with a = √(n-1), so that
    the standard error of their mean is s. Everything that reads responses (estimates, paired
    intervals) thus takes such a score as it is. Which ones lie above is drawn, for each
    model anew: two models' errors are then independent on average, as those of two separate
    measurements are.

    Args:
        scores: Value and standard error s by metric.
        bank: Of the task; its split has an even number of items.
        split: Which items are answered.
        rng: Draws the signs.
    """
    items = bank.items(split)
    signs = rng.permutation(np.repeat([1.0, -1.0], len(items) // 2))
    spread = math.sqrt(len(items) - 1)
    return ItemResponses(
        items,
        {
            name: tuple(float(v) for v in value + spread * error * signs)
            for name, (value, error) in scores.items()
        },
    )


def number(value: Any, what: str) -> float:  # noqa: ANN401 - whatever the user's code returns
    """A finite number, from Python's, numpy's or torch's single numbers and truth values.

    Raises:
        TrialError: It is no number, or not finite.
    """
    single = value.item() if getattr(value, "shape", None) == () else value
    if not isinstance(single, Real):
        raise TrialError(f"{what}: expected a number, found {_shown(value)}")
    found = float(single)
    if not math.isfinite(found):
        raise TrialError(f"{what} is {found}")
    return found


def _rows(
    returned: Mapping[Any, Any], items: Sequence[int], metrics: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    strange = [key for key in returned if not isinstance(key, Integral)]
    if strange:
        raise TrialError(f"expected item numbers as keys, found {_shown(strange[0])}")
    by_item = {int(key): value for key, value in returned.items()}
    wanted = set(items)
    missing = [item for item in items if item not in by_item]
    extra = [item for item in by_item if item not in wanted]
    if missing:
        raise TrialError(f"no value for {_named(missing)} of the {len(items)} items asked")
    if extra:
        raise TrialError(f"values for {_named(extra)}, which was not asked")
    columns: dict[str, list[float]] = {name: [] for name in metrics}
    for item in items:
        given = by_item[item]
        row = given if isinstance(given, Mapping) else {metrics[0]: given}
        _same_names(f"item {item}: metric", row, metrics)
        for name in metrics:
            columns[name].append(number(row[name], f"item {item}: {name}"))
    return {name: tuple(column) for name, column in columns.items()}


def _columns(
    returned: Mapping[str, Any], items: Sequence[int], metrics: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    _same_names("metric", returned, metrics)
    columns = {}
    for name in metrics:
        given = returned[name]
        if not _is_sequence(given) or len(given) != len(items):
            raise TrialError(
                f"{name}: expected {len(items)} values, one for each item asked, found "
                f"{len(given) if _is_sequence(given) else _shown(given)}"
            )
        columns[name] = tuple(
            number(value, f"item {item}: {name}")
            for item, value in zip(items, given, strict=True)
        )
    return columns


def _same_names(what: str, found: Iterable[str], wanted: Sequence[str]) -> None:
    names = list(found)
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    if missing or extra:
        raise TrialError(
            f"{what} {(missing or extra)[0]!r} is {'missing' if missing else 'unknown'}; the "
            f"task's metrics are {', '.join(wanted)}, found {', '.join(map(repr, names))}"
        )


def _is_sequence(value: Any) -> bool:  # noqa: ANN401 - whatever the user's code returns
    """Lists, tuples, and arrays of one dimension."""
    shape = getattr(value, "shape", None)
    return isinstance(value, list | tuple) if shape is None else len(shape) == 1


def _named(items: Sequence[int]) -> str:
    shown = ", ".join(map(str, items[:_SHOWN])) + (" …" if len(items) > _SHOWN else "")
    return f"item {shown}"


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever the user's code returns
    return f"{type(value).__name__} {value!r:.60}"
