"""The options of the nevergrad optimizers."""

from pydantic import Field
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED, Parallel

NGOPT_GENES = 200
LARGE = "DiagonalCMA"


@dataclass(frozen=True, config=CLOSED)
class NevergradOptions(Parallel):
    """Options of the nevergrad optimizers."""

    optimizer: str | None = Field(
        default=None,
        min_length=1,
        description="A name of nevergrad's registry; none means NGOpt, which chooses a method "
        f"by the genes, 'budget' and 'batch', and with more than {NGOPT_GENES} genes {LARGE}, "
        "since NGOpt would take seconds a candidate.",
    )
    budget: int = Field(
        default=200,
        ge=1,
        le=1_000_000,
        description="Candidates that it plans for, which should be those of the search: many "
        "methods set their steps by it, and NGOpt chooses another method. It can go on beyond.",
    )
    batch: int = Field(
        default=8,
        ge=1,
        le=10_000,
        description="Candidates proposed together and learned from together. nevergrad is told "
        "this number and 'ahead' as its number of workers.",
    )
