"""A mergekit parameter from the value that it is to have for each tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.core.recipe import Value
from evomerge.recipes.rule_list import name_pieces


def setting_for(values: Mapping[str, Value], parts: Sequence[str]) -> Any:  # noqa: ANN401
    """One value where all tensors have it, else a list of conditions, the first of which holds.

    Args:
        values: By tensor's name; tensors of one layer and of none.
        parts: Parts of names to tell tensors apart by; where they do not suffice, what follows
            the layer's number is taken, or the whole name.
    """
    left = dict(values)
    known = [part for part in parts if any(part in name for name in left)]
    conditions: list[dict[str, Any]] = []
    while len(_distinct(left)) > 1:
        part = next((p for p in known if _separates(p, left)), None)
        if part is None:
            part = _own_part(left)
        value = next(v for name, v in left.items() if part in name)
        conditions.append({"filter": part, "value": value})
        left = {name: v for name, v in left.items() if part not in name}
    (last,) = _distinct(left)
    return [*conditions, {"value": last}] if conditions else last


def _distinct(values: Mapping[str, Value]) -> list[Value]:
    return list(dict.fromkeys(values.values()))


def _separates(part: str, values: Mapping[str, Value]) -> bool:
    """Whether there are tensors with the part, and all of them have one value."""
    return len({value for name, value in values.items() if part in name}) == 1


def _own_part(values: Mapping[str, Value]) -> str:
    """A part that separates one tensor of the rarest value, or several alike."""
    counts = {value: list(values.values()).count(value) for value in _distinct(values)}
    in_order = sorted(values, key=lambda name: counts[values[name]])
    candidates = (piece for name in in_order for piece in (*reversed(name_pieces(name)), name))
    # The longest name stands in no other, so that there is always one.
    return next(part for part in candidates if _separates(part, values))
