"""Fitness as the experiment file spells it: items, estimator, calibration and race."""

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    model_validator,
)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _enough(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    if isinstance(given, int) and given < 2:
        raise ValueError(f"needs at least 2 items for a standard error, found {given}")
    return given


ItemCount = Annotated[StrictInt | Literal["all"], BeforeValidator(_enough)]


def _rungs(given: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
    return given if isinstance(given, list | tuple) else [given]


class ItemsSpec(_Closed):
    """How many items of each task are used, drawn once per study by its seed."""

    bank: ItemCount = "all"
    """Of the search split: those whose mean is the score that a search is after."""

    search: Annotated[tuple[ItemCount, ...], BeforeValidator(_rungs), Field(min_length=1)] = (
        100,
    )
    """Answered by every candidate; several numbers are the rungs of a race, of which the
    first is answered by every candidate and the others by those still in it."""

    rotate: bool = False
    """Whether each generation of candidates answers other items of the bank."""

    validation: ItemCount = "all"
    """Answered by the search front, to choose the final front."""

    test: ItemCount = "all"
    """Answered by the final front, sources and baselines, for the report only."""

    @model_validator(mode="after")
    def _rungs_rise(self) -> Self:
        counts = [10**9 if count == "all" else count for count in self.search]
        if any(later <= earlier for earlier, later in pairwise(counts)):
            raise ValueError(
                f"search: rungs must rise, 'all' being the last, found {list(self.search)}"
            )
        return self


class StudyCalibration(_Closed):
    """A calibration by the study itself."""

    merges: int = Field(ge=0)
    """So many of the first candidates answer the whole bank, as sources and baselines do."""


class FitnessSpec(_Closed):
    """What a candidate's score is made of."""

    estimator: str = "mean"
    """What turns answers to some items into the bank's mean."""

    select: str | None = None
    """How the items are chosen; None is the estimator's own way."""

    items: ItemsSpec = ItemsSpec()

    calibration: (
        Annotated[
            Annotated[str, Tag("file")] | Annotated[StudyCalibration, Tag("study")],
            Discriminator(lambda given: "file" if isinstance(given, str) else "study"),
        ]
        | None
    ) = None
    """Answers of other models, from which estimators are made: a file of ``evomerge
    calibrate``, or how many merges of this study provide them."""

    adaptive: bool = False
    """Whether each candidate's further items follow from its own answers (computerised
    adaptive testing); otherwise all candidates answer the same."""

    confidence: float = Field(default=0.9, ge=0.5, lt=1)
    """How sure the race must be that a candidate is beaten before it stops it."""

    finalists: int = Field(default=16, ge=1)
    """How many members of the search front are re-scored on validation items."""
