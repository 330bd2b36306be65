"""Options of M2N2."""

from typing import Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED, Parallel

_AHEAD = 8


@dataclass(frozen=True, config=CLOSED)
class M2n2Options:
    """Options of M2N2; the defaults are those of its paper, but for ``ahead``."""

    population: int = Field(
        default=20, ge=2, le=10_000, description="Members of the archive from which all come."
    )
    alpha: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="How much the members that are good at an item share what it is worth: 0 "
        "not at all (fitness is the plain score), 1 in full.",
    )
    attraction: bool = Field(
        default=True,
        description="Choose second parents by what they are better at than the first.",
    )
    crossover: bool = Field(
        default=True, description="Mix two parents; without it children are mutants of one."
    )
    split_point: bool = Field(
        default=True, description="Cut the model once, and mix both sides by different weights."
    )
    mutation: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="For searches from scratch over a 'splits' space: standard deviation of "
        "noise that is added to every weight of a child. Its cost grows with the ancestors, so "
        "that it suits small models.",
    )
    gene_mutation: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="For other spaces: standard deviation of the change of a mutated number "
        "gene, as a share of its range.",
    )
    kinship: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Over a 'splits' space: how much second parents are preferred whose task "
        "vectors point elsewhere than the first's; 0 not at all.",
    )
    ahead: int | None = Field(
        default=None,
        ge=0,
        le=10_000,
        description="Candidates proposed before the ones in front of them are known, so that "
        "this many workers never wait; none means 8, or 0 where 'asynchronous'.",
    )
    asynchronous: bool = Field(
        default=False,
        description="Learn from each outcome as it arrives: what is proposed then depends on "
        "the order of arrival, which is recorded and replayed.",
    )

    @property
    def parallel(self) -> Parallel:
        """What keeps many workers busy."""
        ahead = self.ahead if self.ahead is not None else 0 if self.asynchronous else _AHEAD
        return Parallel(ahead=ahead, asynchronous=self.asynchronous)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.asynchronous and self.ahead:
            raise ValueError("'asynchronous' needs nothing proposed ahead; leave 'ahead' out")
        return self
