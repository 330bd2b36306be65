"""The options of every optimizer: the keys of an experiment file's ``optimizer:`` section.

They stand apart from the optimizers so that checking a file loads neither pymoo nor pycma.
"""

from typing import Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

NSGA2_POPULATION = 24

CLOSED = ConfigDict(extra="forbid", strict=True)
"""Unknown keys are errors, and so are values of another type."""


@dataclass(frozen=True, config=CLOSED)
class Parallel:
    """What optimizers offer that can keep many workers busy."""

    ahead: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Candidates proposed before the ones in front of them are known, so that "
        "this many workers need not wait for the last ones; what is proposed does not depend "
        "on the number of workers.",
    )
    asynchronous: bool = Field(
        default=False,
        description="Learn from each outcome as it arrives: no worker ever waits, and what is "
        "proposed depends on the order of arrival, which is recorded and replayed.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.asynchronous and self.ahead:
            raise ValueError("'asynchronous' needs nothing proposed ahead; leave 'ahead' out")
        return self


@dataclass(frozen=True, config=CLOSED)
class RandomSearchOptions:
    """Random search has no options."""


@dataclass(frozen=True, config=CLOSED)
class Nsga2Options(Parallel):
    """Options of NSGA-II; the defaults suit 100 to 500 candidates."""

    population: int = Field(
        default=NSGA2_POPULATION,
        ge=4,
        le=10_000,
        description="Candidates a generation, and parents kept.",
    )
    crossover_probability: float = Field(
        default=0.9, ge=0, le=1, description="Share of parent pairs that are recombined."
    )
    crossover_eta: float = Field(
        default=10.0,
        ge=1,
        le=100,
        description="The higher, the closer children stay to a parent.",
    )
    mutation_probability: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Chance that a gene mutates; none means one gene a child on average.",
    )
    mutation_eta: float = Field(
        default=10.0,
        ge=1,
        le=100,
        description="The higher, the smaller the steps of number genes.",
    )


@dataclass(frozen=True, config=CLOSED)
class CmaEsOptions(Parallel):
    """Options of CMA-ES."""

    population: int | None = Field(
        default=None,
        ge=4,
        le=10_000,
        description="Candidates a generation; none means 4 + 3 ln(number of genes). "
        "Every restart doubles it.",
    )
    sigma: float = Field(
        default=0.15,
        gt=0,
        le=1,
        description="First standard deviation, as a share of a gene's range.",
    )
    diagonal_above: int = Field(
        default=20,
        ge=0,
        description="With more genes than this, variances are learned but no correlations "
        "(sep-CMA-ES): they take candidates in the square of the number of genes.",
    )
