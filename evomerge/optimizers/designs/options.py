"""The options of the optimizers that learn nothing: random search, Sobol points and grids."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from evomerge.optimizers.options import CLOSED

GridOrder = Literal["coarse_first", "shuffled"]
"""In which order the points of a grid come."""


@dataclass(frozen=True, config=CLOSED)
class RandomSearchOptions:
    """Random search has no options."""


@dataclass(frozen=True, config=CLOSED)
class SobolOptions:
    """Sobol points have no options."""


@dataclass(frozen=True, config=CLOSED)
class GridOptions:
    """Options of grid search."""

    points: int = Field(
        default=1000,
        ge=1,
        le=1_000_000,
        description="The grid has at most so many points: genes get one more level by turns "
        "while they fit, in the order of the search space.",
    )
    levels: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Levels of every number gene, bounds included, instead of as many as fit "
        "into 'points'; choice genes then take all their options.",
    )
    order: GridOrder = Field(
        default="coarse_first",
        description="coarse_first: ends and middles of the ranges before what lies between; "
        "shuffled: by chance. Either way a budget smaller than the grid sees the whole space.",
    )
