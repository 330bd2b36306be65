"""The options of successive soups, apart from them so that checking a file loads no numpy."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED


@dataclass(frozen=True, config=CLOSED)
class SoupsOptions:
    """Options of successive soups. Whole steps are proposed together; nothing goes ahead."""

    method: Literal["greedy", "heuristic"] = Field(
        default="greedy",
        description="greedy: average each next model in, one candidate a model; heuristic: try "
        "several coefficients for each next model.",
    )
    coefficients: int = Field(
        default=9,
        ge=1,
        le=99,
        description="How many coefficients the heuristic tries for a model, evenly between 0 "
        "and 1; 9 are .1 to .9.",
    )
