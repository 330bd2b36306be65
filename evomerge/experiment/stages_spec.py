"""The values of a chain of searches: its stages, and the models that they hand on."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from evomerge.experiment.load import Experiment
from evomerge.experiment.spec import Closed, usable_name

STAGES = "stages"
PREFIX = "stage:"
"""Begins the name of a model that an earlier stage makes."""

_REFERENCE = re.compile(r"stage:([A-Za-z0-9][A-Za-z0-9_-]*)(?::([1-9][0-9]*))?")
OWN_KEYS = ("name", "keep", "fix")
"""Keys of a stage that an experiment has not."""


@dataclass(frozen=True)
class StageModel:
    """A model that an earlier stage makes: ``stage:NAME``, or ``stage:NAME:RANK``."""

    stage: str
    rank: int = 1

    @classmethod
    def read(cls, text: str) -> "StageModel | None":
        """The model that a spelling means; None where it means none of a stage."""
        found = _REFERENCE.fullmatch(text)
        return cls(found[1], int(found[2] or 1)) if found else None

    def __str__(self) -> str:
        """As it is written."""
        return f"{PREFIX}{self.stage}" + (f":{self.rank}" if self.rank > 1 else "")


@dataclass(frozen=True)
class Stage:
    """One search of a chain."""

    name: str
    place: int
    """From 1."""

    keep: int
    """How many models it exports for later stages."""

    experiment: Experiment
    """Complete; models of earlier stages are spelled ``stage:NAME``."""

    fix: "Fix | None" = None

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        return f"{self.place}-{self.name}"


@dataclass(frozen=True)
class Chain:
    """A chain's stages as far as they can be read, and what is wrong with the rest."""

    name: str
    path: Path
    overrides: tuple[str, ...]
    stages: tuple[Stage, ...]
    problems: tuple[str, ...]


def _in_a_list(given: object) -> object:
    return [given] if isinstance(given, str) else given


class Fix(Closed):
    """Parameters of a space that stay as the best candidate of an earlier stage has them."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    stage: str = Field(alias="from")
    """The earlier stage; its models have to be the same."""

    parameters: Annotated[tuple[str, ...], BeforeValidator(_in_a_list), Field(min_length=1)]


class StageSpec(BaseModel):
    """What a stage has beside the keys of an experiment."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, AfterValidator(usable_name), Field(max_length=40)]
    """Names its folder, and its models for later stages."""

    keep: int | None = Field(default=None, ge=0)
    """How many models of its final front later stages may take; None: one, if any does."""

    fix: Fix | None = None

    @property
    def named(self) -> int:
        """How many models later stages can name."""
        return 1 if self.keep is None else self.keep


def kept_names(stage: str, keep: int) -> dict[str, str]:
    """How a stage's models are called in the next one, and how they are spelled there."""
    if keep == 1:
        return {stage: str(StageModel(stage))}
    return {f"{stage}-{rank}": str(StageModel(stage, rank)) for rank in range(1, keep + 1)}
