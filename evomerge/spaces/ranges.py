"""How a parameter's range is written in a search space's YAML, and the gene it becomes."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from evomerge.core.outcomes import GeneValue
from evomerge.core.recipe import Value
from evomerge.spaces.genes import FLOAT_DIGITS, ChoiceGene, FloatGene, Gene, IntGene

Axis = Literal["expert", "layers", "component"]

_Bound = Annotated[float, Field(strict=True)]
"""Takes whole numbers too, but neither ``true`` nor text."""


def _without_minus_zero(value: Value) -> Value:
    """A value whose recipe has the hash of the equal value's."""
    return 0.0 if isinstance(value, float) and value == 0 else value


Plain = Annotated[bool | GeneValue, AfterValidator(_without_minus_zero)]
"""A fixed value as written in YAML."""

_SMALLEST_LOG_LOW = 10.0**-FLOAT_DIGITS


def _spelled_out(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    if isinstance(given, list | tuple):
        if len(given) != 2 or not all(type(bound) in (int, float) for bound in given):
            raise ValueError(
                f"an interval is [low, high], two numbers, found {given}; a list of options is "
                "{choice: [...]}"
            )
        return {"low": given[0], "high": given[1]}
    if isinstance(given, bool | int | float | str):
        return {"value": given}
    return given


class Range(BaseModel):
    """What a parameter may be: a fixed value, an interval, or a list of choices.

    In YAML: ``0.5`` is fixed, ``[0, 1]`` a float gene, ``{low: 1, high: 4, int: true}`` an
    int gene, ``{low: 0.01, high: 1, log: true}`` a float gene spaced by ratio,
    ``{choice: [a, b]}`` a choice gene. ``per`` says over what the gene is repeated;
    ``per_expert: {math: 0.3, code: [0, 1]}`` is for experts that differ from the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Plain | None = None
    low: _Bound | None = None
    high: _Bound | None = None
    choice: tuple[Plain, ...] | None = None
    per: tuple[Axis, ...] | None = None
    log: bool = False
    int: bool = False
    per_expert: Mapping[str, Annotated["Range", BeforeValidator(_spelled_out)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        interval = self.low is not None or self.high is not None
        kinds = [self.value is not None, interval, self.choice is not None].count(True)
        if kinds > 1 or (kinds == 0 and not self.per_expert):
            raise ValueError("give a value, or [low, high], or {choice: [...]}")
        if not interval and (self.log or self.int):
            raise ValueError("'log' and 'int' are for intervals; give low and high")
        if self.fixed and self.per is not None and not self.per_expert:
            raise ValueError("a fixed value has no gene to repeat; leave 'per' out")
        for expert, own in self.per_expert.items():
            if own.per_expert or own.per is not None:
                raise ValueError(
                    f"{expert}: 'per' and 'per_expert' are for all experts; write them beside "
                    "per_expert, not below"
                )
        if not all(math.isfinite(v) for v in self.ends if isinstance(v, float)):
            raise ValueError("every number must be finite")
        if self.choice is not None:
            _check_choice(self.choice)
        if interval:
            self._check_interval()
        return self

    def _check_interval(self) -> None:
        if self.low is None or self.high is None:
            raise ValueError("an interval needs both low and high")
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.log and self.int:
            raise ValueError("an interval is either 'log' or 'int'")
        if self.log and self.low < _SMALLEST_LOG_LOW:
            raise ValueError(
                f"log spacing needs low of at least {_SMALLEST_LOG_LOW:g}, found {self.low}"
            )
        if not math.isfinite(self.high / self.low if self.log else self.high - self.low):
            raise ValueError(f"the interval from {self.low} to {self.high} is too wide")
        if self.int and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError(f"int bounds must be whole, found {self.low} and {self.high}")

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to search."""
        return self.value is not None

    @property
    def for_others(self) -> bool:
        """Whether there is a range for experts that ``per_expert`` does not name."""
        return self.fixed or self.low is not None or self.choice is not None

    def of_expert(self, name: str) -> "Range":
        """The range of one expert, with a gene of its own where ``per_expert`` names it."""
        own = self.per_expert.get(name)
        if own is None:
            return self.model_copy(update={"per_expert": {}}) if self.per_expert else self
        if own.fixed or self.per is None:
            return own
        others: tuple[Axis, ...] = tuple(axis for axis in self.per if axis != "expert")
        return own.model_copy(update={"per": ("expert", *others)})

    @property
    def ends(self) -> tuple[Value, ...]:
        """The fixed value, both bounds, or every choice: all else lies between."""
        if self.choice is not None:
            return self.choice
        if self.value is not None:
            return (self.value,)
        bounds = tuple(bound for bound in (self.low, self.high) if bound is not None)
        return tuple(map(math.trunc, bounds)) if self.int and _whole(bounds) else bounds

    def gene(self, name: str) -> Gene:
        """The gene of this range under a name.

        Raises:
            ValueError: The range is a fixed value.
        """
        if self.choice is not None:
            return ChoiceGene(name, self.choice)
        if self.low is None or self.high is None:
            raise ValueError(f"{name}: the fixed value {self.value!r} needs no gene")
        if self.int:
            return IntGene(name, math.trunc(self.low), math.trunc(self.high))
        return FloatGene(name, self.low, self.high, self.log)


def is_number(value: Value) -> TypeGuard[float]:
    """Whether a value is one number; flags are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(bounds: tuple[float, ...]) -> bool:
    return all(bound.is_integer() for bound in bounds)


def _check_choice(options: tuple[Value, ...]) -> None:
    if not options:
        raise ValueError("needs at least one choice")
    # Equal values such as true, 1 and 1.0 could not be told apart in a genome.
    if len(set(options)) < len(options):
        raise ValueError(f"the choices {list(options)} name one value twice")


ParameterRange = Annotated[Range, BeforeValidator(_spelled_out)]
"""A ``Range``, also in its short spellings."""
