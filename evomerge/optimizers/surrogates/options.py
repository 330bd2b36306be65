"""The options of the optimizers that model the losses: MAP's quadratics, Gaussian processes."""

from typing import Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED, Parallel


@dataclass(frozen=True, config=CLOSED)
class MapSurrogateOptions(Parallel):
    """Options of the quadratic surrogate."""

    design: int | None = Field(
        default=None,
        ge=2,
        le=10_000,
        description="Candidates of the first generation, initial ones included; none means "
        "(T+1)(T+2) for T genes, twice the parameters of a quadratic, and 120 at most.",
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Candidates proposed from one fit; none means a quarter of 'design', or a "
        "fifth of all known where that is more.",
    )
    population: int = Field(
        default=40, ge=4, le=1000, description="Population of NSGA-III on the surrogate."
    )
    generations: int = Field(
        default=15,
        ge=1,
        le=1000,
        description="Generations of NSGA-III on the surrogate; they cost no evaluation.",
    )
    nested: bool = Field(
        default=False,
        description="First merge the two models of most similar losses, then the result with "
        "the next one, and so on, two genes at a time; for many experts with one weight each "
        "and several tasks.",
    )
    nested_design: int = Field(
        default=20,
        ge=6,
        le=1000,
        description="Candidates of each of the nested problems of two genes.",
    )
    preference: tuple[float, ...] | None = Field(
        default=None,
        strict=False,
        description="Weights of the objectives by which 'nested' picks a point of a pair's "
        "front; none means equal.",
    )

    @model_validator(mode="after")
    def _nested_in_order(self) -> Self:
        if self.nested and (self.asynchronous or self.ahead):
            raise ValueError(
                "'nested' decides about a pair when all of it is known; leave 'asynchronous' "
                "and 'ahead' out"
            )
        if self.preference is not None and not self.nested:
            raise ValueError(
                "'preference' has an effect with 'nested: true' only; leave it out"
            )
        return self


@dataclass(frozen=True, config=CLOSED)
class BayesianOptions(Parallel):
    """Options of Bayesian optimisation; the defaults suit 20 to 300 candidates."""

    design: int | None = Field(
        default=None,
        ge=2,
        le=10_000,
        description="Candidates spread evenly before the first model, beside initial ones; "
        "none means 2 (T+1) for T genes, from 6 to 20.",
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Candidates proposed from one model; none means one for every five known, "
        "so that the time spent on models stays bounded.",
    )
    samples: int = Field(
        default=16,
        ge=4,
        le=1024,
        description="Draws from the model by which an acquisition value is estimated.",
    )
    points: int = Field(
        default=128,
        ge=16,
        le=16_384,
        description="Points at which the acquisition value is looked at, and half as many "
        "again around the best candidates; fewer with hundreds of genes.",
    )
