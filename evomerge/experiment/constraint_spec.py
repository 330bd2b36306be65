"""One constraint as written in the experiment file: what to keep, and within which bound."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from evomerge.core.constraints import Sense
from evomerge.core.near_names import unknown
from evomerge.experiment.objective_spec import FORGETTING, OF_RECIPE, ObjectiveSpec
from evomerge.fitness.label_free import STABILITY

_BOUNDS = ("at_most", "at_least", "lose_at_most")


def _as_share(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    """``75%`` in one spelling; anything else as it is."""
    if not isinstance(given, str):
        return given
    text = given.strip()
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not text.endswith("%") or not 0 < percent < math.inf:
        raise ValueError(f"must be a number or a percentage such as 75%, found {given!r}")
    return f"{percent:.15g}%"


Bound = Annotated[
    Annotated[float, Field(allow_inf_nan=False, strict=True)] | str, BeforeValidator(_as_share)
]
"""A number in the quantity's own unit, or a percentage of a source model's."""


class ConstraintSpec(BaseModel):
    """What to keep within a bound: a metric of one task or several, or a model's size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: str
    """A metric, or ``parameters``, ``layers`` or ``flops``."""

    at_most: Bound | None = None
    at_least: Bound | None = None
    lose_at_most: float | None = Field(default=None, allow_inf_nan=False)
    """The reference's score less the merged model's, on the same items."""

    task: str | None = None
    tasks: tuple[str, ...] | Mapping[str, float] | None = None

    reference: str | None = None
    """Of ``lose_at_most`` and percentages: the source model compared with; the base, or the
    first expert without one, if left out."""

    context: int | None = Field(default=None, ge=1)
    """Of ``flops``: tokens of context; 2048 if left out."""

    margin: float = Field(default=0.0, allow_inf_nan=False)
    """Standard errors by which the estimate has to keep the bound; below 0 it may pass it by
    so many."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if misspelt := self._misspelt_size():
            raise ValueError(misspelt)
        problems = self._bound_problems() + self._quantity_problems()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _misspelt_size(self) -> str | None:
        """A near size where no task is given: what else seems wrong follows from that."""
        tasked = self.task is not None or self.tasks is not None
        if tasked or self.of_recipe or not get_close_matches(self.keep, OF_RECIPE, n=1):
            return None
        return f"keep: {unknown('size', self.keep, OF_RECIPE)}"

    def _bound_problems(self) -> list[str]:
        given = [key for key in _BOUNDS if getattr(self, key) is not None]
        if len(given) != 1:
            return [f"give one of {', '.join(_BOUNDS)}, each constraint its own"]
        problems = []
        if self.of_recipe and self.lose_at_most is not None:
            problems.append(f"{self.keep} is no score: give at_most or at_least")
        if not self.of_recipe and self.share is not None:
            problems.append(
                "percentages are of sizes: give a score as a number, or lose_at_most: 0.02 for "
                "two points of a hundred"
            )
        if self.of_recipe and not isinstance(self.raw_bound, str) and self.raw_bound <= 0:
            problems.append(f"{self.keep} is bounded by a number above 0 or a percentage")
        if self.reference is not None and self.lose_at_most is None and self.share is None:
            problems.append("'reference' goes with lose_at_most or a percentage")
        if self.of_recipe and self.margin:
            problems.append(f"'margin' is of estimates; {self.keep} is exact")
        return problems

    def _quantity_problems(self) -> list[str]:
        if self.keep == FORGETTING:
            return ["write forgetting as the metric that is lost, with lose_at_most"]
        if self.keep == STABILITY:
            return ["stability can be an objective, not a constraint"]
        try:
            self.objective_spec  # noqa: B018 - checks task, tasks and options as objectives do
        except ValidationError as error:
            return [str(one["msg"]).removeprefix("Value error, ") for one in error.errors()]
        return []

    @property
    def objective_spec(self) -> ObjectiveSpec:
        """The same quantity as an objective, without direction of its own.

        Raises:
            ValueError: Its task or options do not suit it.
        """
        given = {"task": self.task, "tasks": self.tasks, "context": self.context}
        return ObjectiveSpec.model_validate({"minimize": self.keep} | given)

    @property
    def of_recipe(self) -> bool:
        """Whether the recipe alone decides it."""
        return self.keep in OF_RECIPE

    @property
    def raw_bound(self) -> float | str:
        """The bound as written."""
        given = (self.at_most, self.at_least, self.lose_at_most)
        return next(bound for bound in given if bound is not None)

    @property
    def share(self) -> float | None:
        """A percentage as a share of 1; None where the bound is a number."""
        given = self.raw_bound
        return float(given.removesuffix("%")) / 100 if isinstance(given, str) else None

    @property
    def sense(self) -> Sense:
        """On which side of the bound the number has to be."""
        return "at_least" if self.at_least is not None else "at_most"
