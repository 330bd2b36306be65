"""How a parameter's range is written in a search space's YAML, and the gene it becomes."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from evomerge.core.outcomes import GeneValue
from evomerge.spaces.genes import ChoiceGene, FloatGene, Gene, IntGene

Axis = Literal["expert", "layers", "component"]


class Range(BaseModel):
    """What a parameter may be: a fixed value, an interval, or a list of choices.

    In YAML: ``0.5`` is fixed, ``[0, 1]`` a float gene, ``{low: 1, high: 4, int: true}`` an
    int gene, ``{low: 0.01, high: 1, log: true}`` a float gene spaced by ratio,
    ``{choice: [a, b]}`` a choice gene. ``per`` says over what the gene is repeated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: GeneValue | bool | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    int: bool = False
    choice: tuple[bool | GeneValue, ...] | None = None
    per: tuple[Axis, ...] | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        interval = self.low is not None or self.high is not None
        if [self.value is not None, interval, self.choice is not None].count(True) != 1:
            raise ValueError("give a value, or [low, high], or {choice: [...]}")
        if interval:
            self._check_interval()
        if self.choice is not None and len(set(map(repr, self.choice))) < len(self.choice):
            raise ValueError(f"the choices {list(self.choice)} name one twice")
        if self.choice is not None and not self.choice:
            raise ValueError("needs at least one choice")
        return self

    def _check_interval(self) -> None:
        if self.low is None or self.high is None:
            raise ValueError("an interval needs both low and high")
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"the bounds {self.low} and {self.high} must be finite")
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log spacing needs low above 0, found {self.low}")
        if self.int and (self.low != int_of(self.low) or self.high != int_of(self.high)):
            raise ValueError(f"int bounds must be whole, found {self.low} and {self.high}")

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to search."""
        return self.value is not None

    def gene(self, name: str) -> Gene:
        """The gene of this range under a name; only for ranges that are not fixed."""
        if self.choice is not None:
            return ChoiceGene(name, self.choice)
        low, high = float(self.low or 0.0), float(self.high or 0.0)
        if self.int:
            return IntGene(name, int_of(low), int_of(high))
        return FloatGene(name, low, high, self.log)


def int_of(value: float) -> int:
    """The whole part (``int`` is a field name in ``Range``)."""
    return math.trunc(value)


def _spelled_out(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    if isinstance(given, list):
        if len(given) != 2:
            raise ValueError(f"an interval is [low, high], found {given}")
        return {"low": given[0], "high": given[1]}
    if isinstance(given, bool | int | float | str):
        return {"value": given}
    return given


ParameterRange = Annotated[Range, BeforeValidator(_spelled_out)]
"""A ``Range``, also in its short spellings."""
