"""Options of the genetic algorithms: NSGA-II, NSGA-III, SMS-EMOA, MOEA/D, GA and DE."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED, Parallel

NSGA2_POPULATION = 24


@dataclass(frozen=True, config=CLOSED)
class GeneticOptions(Parallel):
    """What all share that recombine pairs of parents; defaults suit 100 to 500 candidates."""

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
class Nsga2Options(GeneticOptions):
    """Options of NSGA-II."""


@dataclass(frozen=True, config=CLOSED)
class Nsga3Options(GeneticOptions):
    """Options of NSGA-III."""

    population: int = Field(
        default=NSGA2_POPULATION,
        ge=4,
        le=10_000,
        description="Candidates a generation, and parents kept; raised to the number of "
        "reference directions where 'partitions' asks for more.",
    )
    partitions: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Steps from one objective to another between which reference directions "
        "are laid; none means as many directions as the population has room for.",
    )


@dataclass(frozen=True, config=CLOSED)
class SmsEmoaOptions(GeneticOptions):
    """Options of SMS-EMOA."""

    population: int = Field(
        default=NSGA2_POPULATION,
        ge=4,
        le=1000,
        description="Parents kept, of which the worst gives way to each better child.",
    )


@dataclass(frozen=True, config=CLOSED)
class MoeadOptions(GeneticOptions):
    """Options of MOEA/D."""

    population: int = Field(
        default=NSGA2_POPULATION,
        ge=4,
        le=1000,
        description="Weighted subproblems, each with one parent, and candidates a generation; "
        "with three objectives and more the nearest number below that spreads evenly.",
    )
    decomposition: Literal["tchebycheff", "pbi"] = Field(
        default="tchebycheff",
        description="How a subproblem scores: by the worst weighted objective, or by the "
        "distance along and away from its direction.",
    )
    theta: float = Field(
        default=5.0,
        ge=0,
        le=1000,
        description="Price of the distance away from the direction; only for pbi.",
    )
    neighbours: int | None = Field(
        default=None,
        ge=2,
        le=1000,
        description="Subproblems from which parents come and which a child may enter; none "
        "means two fifths of the population, three at least.",
    )
    neighbour_mating: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Chance that parents are neighbours rather than any two.",
    )
    replacements: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Parents that one child may replace at most; none means all neighbours.",
    )


@dataclass(frozen=True, config=CLOSED)
class GaOptions(GeneticOptions):
    """Options of the genetic algorithm."""

    population: int = Field(
        default=12,
        ge=4,
        le=10_000,
        description="Candidates a generation, and parents kept.",
    )


@dataclass(frozen=True, config=CLOSED)
class DeOptions(Parallel):
    """Options of differential evolution."""

    population: int = Field(
        default=12,
        ge=5,
        le=10_000,
        description="Candidates a generation, each of which competes with one parent.",
    )
    strategy: Literal["rand", "current_to_best"] = Field(
        default="current_to_best",
        description="Where a trial starts: at a random parent (searches wider), or between "
        "its own parent and one of the best (converges sooner).",
    )
    crossover_rate: float = Field(
        default=0.7, ge=0, le=1, description="Chance that a gene comes from the mutant."
    )
    scale_low: float = Field(
        default=0.4,
        gt=0,
        le=2,
        description="Smallest factor on differences between parents; drawn evenly from here "
        "to 'scale_high' for every trial.",
    )
    scale_high: float = Field(
        default=0.9, gt=0, le=2, description="Largest factor on differences between parents."
    )

    @model_validator(mode="after")
    def _low_before_high(self) -> Self:
        if self.scale_low > self.scale_high:
            raise ValueError(
                f"'scale_low', {self.scale_low:g}, must not be above 'scale_high', "
                f"{self.scale_high:g}"
            )
        return self
